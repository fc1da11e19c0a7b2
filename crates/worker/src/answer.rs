//! The objects that answer one request, in the forms of all protocol versions.

use std::time::Duration;

use bytes::Bytes;
use units::{AdjustedTokens, ProtocolVersion, RequestId};
use wire::{StatusCode, TokensUsed, proxy, stream};

use crate::bill::Cost;

/// Writes the answers to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerForm {
    pub(crate) protocol: ProtocolVersion,
    pub(crate) request_id: RequestId,
}

/// What is said at the end of a request, whatever the end is.
#[derive(Clone, Debug, Default)]
pub(crate) struct FinalInfo {
    /// What the answer costs.
    pub(crate) cost: Cost,
    /// JSON about how the request was handled, if the proxy asked.
    pub(crate) debug: Option<String>,
    /// When the request arrived, since 1970.
    pub(crate) start: Duration,
    /// When its last answer was sent, since 1970.
    pub(crate) end: Duration,
}

impl AnswerForm {
    /// The response head in TL, with the first bytes of the body. Complete if there is final information.
    pub(crate) fn head(&self, response: &[u8], end: Option<&FinalInfo>) -> Bytes {
        let request_id = *self.request_id.as_bytes();
        match self.protocol {
            ProtocolVersion::V0 => wire::encode(&proxy::QueryAnswer {
                answer: response,
                is_completed: end.is_some(),
                request_id,
                tokens_used: tokens_used(end),
            }),
            ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3 => {
                wire::encode(&proxy::QueryAnswerEx {
                    request_id,
                    answer: response,
                    final_info: end.map(|end| self.final_info(end)),
                })
            }
        }
    }

    /// Bytes of the body after the head. The last ones if there is final information.
    pub(crate) fn part(&self, body: &[u8], end: Option<&FinalInfo>) -> Bytes {
        let request_id = *self.request_id.as_bytes();
        match self.protocol {
            ProtocolVersion::V0 => wire::encode(&proxy::QueryAnswerPart {
                answer: body,
                is_completed: end.is_some(),
                request_id,
                tokens_used: tokens_used(end),
            }),
            ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3 => {
                wire::encode(&proxy::QueryAnswerPartEx {
                    request_id,
                    answer: body,
                    final_info: end.map(|end| self.final_info(end)),
                })
            }
        }
    }

    /// The end of a request that failed, before or after its head. Final information is always there, since
    /// deployed proxies stop working without it.
    pub(crate) fn error(
        &self,
        code: StatusCode,
        message: &str,
        is_after_head: bool,
        end: &FinalInfo,
    ) -> Bytes {
        let (request_id, error_code) = (*self.request_id.as_bytes(), code.code());
        let tokens_used = tokens_used(Some(end));
        match (self.protocol, is_after_head) {
            (ProtocolVersion::V0, false) => wire::encode(&proxy::QueryAnswerError {
                error_code,
                error: message.into(),
                request_id,
                tokens_used,
            }),
            (ProtocolVersion::V0, true) => wire::encode(&proxy::QueryAnswerPartError {
                error_code,
                error: message.into(),
                request_id,
                tokens_used,
            }),
            (ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3, _) => {
                wire::encode(&proxy::QueryAnswerErrorEx {
                    request_id,
                    error_code,
                    error: message.into(),
                    final_info: Some(self.final_info(end)),
                })
            }
        }
    }

    /// What an answer that is not complete yet costs so far. In version 3 only.
    pub(crate) fn usage(&self, cost: Cost) -> Bytes {
        let so_far = FinalInfo { cost, ..FinalInfo::default() };
        let request_id = *self.request_id.as_bytes();
        wire::encode(&stream::Usage { request_id, tokens_used: tokens_used(Some(&so_far)) })
    }

    fn final_info<'a>(&self, end: &'a FinalInfo) -> proxy::QueryFinalInfo<'a> {
        let has_times = self.protocol >= ProtocolVersion::V2;
        proxy::QueryFinalInfo {
            tokens_used: tokens_used(Some(end)),
            worker_debug: end.debug.as_deref().map(Into::into),
            times: has_times.then_some(proxy::Times {
                worker_start_time: end.start.as_secs_f64(),
                worker_end_time: end.end.as_secs_f64(),
            }),
        }
    }
}

fn tokens_used(end: Option<&FinalInfo>) -> TokensUsed {
    let Cost { usage, total } = end.map(|end| end.cost).unwrap_or_default();
    let count = |tokens: AdjustedTokens| tokens.get().cast_signed();
    TokensUsed {
        prompt_tokens_used: count(usage.prompt),
        cached_tokens_used: count(usage.cached),
        completion_tokens_used: count(usage.completion),
        reasoning_tokens_used: count(usage.reasoning),
        total_tokens_used: count(total),
    }
}

#[cfg(test)]
mod tests {
    use units::AdjustedUsage;
    use wire::worker::ToProxy;

    use super::*;

    fn form(protocol: ProtocolVersion) -> AnswerForm {
        AnswerForm { protocol, request_id: RequestId::new([7; 32]) }
    }

    fn end() -> FinalInfo {
        let count = AdjustedTokens::new;
        FinalInfo {
            cost: Cost {
                usage: AdjustedUsage {
                    prompt: count(34),
                    cached: count(16),
                    completion: count(135),
                    reasoning: count(15),
                },
                total: count(200),
            },
            debug: Some("{}".into()),
            start: Duration::from_millis(1500),
            end: Duration::from_millis(2500),
        }
    }

    fn used(tokens: &TokensUsed) -> [i64; 5] {
        [
            tokens.prompt_tokens_used,
            tokens.cached_tokens_used,
            tokens.completion_tokens_used,
            tokens.reasoning_tokens_used,
            tokens.total_tokens_used,
        ]
    }

    #[test]
    fn version_0_says_tokens_only_at_the_end() {
        let form = form(ProtocolVersion::V0);
        let head = form.head(b"head", None);
        let ToProxy::QueryAnswer(head) = wire::decode(&head).unwrap() else { panic!("another object") };
        assert_eq!((head.answer, head.is_completed, used(&head.tokens_used)), (&b"head"[..], false, [0; 5]));
        let last = form.part(b"last", Some(&end()));
        let ToProxy::QueryAnswerPart(last) = wire::decode(&last).unwrap() else { panic!("another object") };
        assert_eq!((last.is_completed, used(&last.tokens_used)), (true, [34, 16, 135, 15, 200]));
    }

    #[test]
    fn times_came_with_version_2() {
        for (protocol, times) in [(ProtocolVersion::V1, None), (ProtocolVersion::V2, Some((1.5, 2.5)))] {
            let part = form(protocol).part(b"", Some(&end()));
            let ToProxy::QueryAnswerPartEx(part) = wire::decode(&part).unwrap() else {
                panic!("another object")
            };
            let info = part.final_info.unwrap();
            assert_eq!(info.worker_debug.unwrap().to_str(), Ok("{}"));
            let found = info.times.map(|times| (times.worker_start_time, times.worker_end_time));
            assert_eq!(found, times);
        }
        let part = form(ProtocolVersion::V2).part(b"more", None);
        let ToProxy::QueryAnswerPartEx(part) = wire::decode(&part).unwrap() else { panic!("another object") };
        assert!(part.final_info.is_none());
    }

    #[test]
    fn errors_have_the_form_of_their_version_and_place() {
        let error = |protocol, is_after_head| {
            form(protocol).error(StatusCode::TIMEOUT, "worker: timeout", is_after_head, &end())
        };
        let early = error(ProtocolVersion::V0, false);
        assert!(matches!(wire::decode(&early), Ok(ToProxy::QueryAnswerError(e)) if e.error_code == 652));
        let late = error(ProtocolVersion::V0, true);
        assert!(matches!(wire::decode(&late), Ok(ToProxy::QueryAnswerPartError(e)) if e.error_code == 652));
        for protocol in [ProtocolVersion::V1, ProtocolVersion::V2] {
            let error = error(protocol, false);
            let ToProxy::QueryAnswerErrorEx(error) = wire::decode(&error).unwrap() else {
                panic!("another object")
            };
            assert_eq!(used(&error.final_info.unwrap().tokens_used), [34, 16, 135, 15, 200]);
        }
    }
}
