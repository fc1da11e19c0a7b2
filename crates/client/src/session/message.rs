//! Messages of an agreed session.

use std::time::Duration;

use bytes::Bytes;
use gateway::Route;
use gateway::server::{Model, ModelWorker};
use transport::flow::{PART_LEN_MAX, part_cost};
use units::{Coefficient, ConfigVersion, ProtocolVersion, RequestId};
use wire::client::{self, GetWorkerTypes, GetWorkerTypesV2, RunQuery, RunQueryEx};
use wire::{DecodeError, Message, http, stream};

pub(crate) use wire::client::FromProxy;

/// One request, ready for the wire.
pub(crate) struct RequestMessage<'a> {
    pub(crate) id: RequestId,
    pub(crate) route: Route,
    pub(crate) model: &'a str,
    pub(crate) body: &'a Bytes,
    pub(crate) tokens_max: u32,
    pub(crate) max_coefficient: Coefficient,
    pub(crate) timeout: Duration,
    pub(crate) enable_debug: bool,
    /// Equal values should run at one worker.
    pub(crate) affinity: Option<&'a str>,
    /// The proxy must follow the root contract at least this far.
    pub(crate) config_version: ConfigVersion,
}

/// By this header proxies know which requests belong together.
const AFFINITY_HEADER: &str = "X-Cocoon-Affinity";

/// The part of the request's time that is left to the proxy, so that its refusal arrives before our own timer.
const TIMEOUT_SHARE: f64 = 0.95;

/// A request in messages.
pub(crate) struct Outgoing {
    /// The first one; before version 3 the only one.
    pub(crate) first: Bytes,
    /// What follows, as the proxy has room for it.
    pub(crate) rest: Option<QueryParts>,
}

/// The part of a long query that is still to be sent. It has no `Debug`: it is a prompt.
pub(crate) struct QueryParts {
    id: RequestId,
    /// What the first message took of the window.
    pub(crate) first_cost: u32,
    query: Message,
}

impl QueryParts {
    /// The next message, and what it takes of the window.
    pub(crate) fn next(&mut self) -> Option<(u32, Message)> {
        if self.query.is_empty() {
            return None;
        }
        let data = self.query.split_to(PART_LEN_MAX);
        let request_id = *self.id.as_bytes();
        let part = stream::BodyPart { request_id, data: &data, is_last: self.query.is_empty() };
        Some((part_cost(data.len()), wire::encode_sharing(&part, &data)))
    }
}

impl RequestMessage<'_> {
    /// The messages in a version of the protocol.
    ///
    /// The HTTP head says nothing about the application: no address, program, cookie or key of it reaches a
    /// worker. `Host` and `Content-Length` are there for engines behind deployed workers, which pass them on;
    /// the affinity is for the proxy.
    pub(crate) fn encode(&self, protocol: ProtocolVersion) -> Outgoing {
        let len = self.body.len().to_string();
        let headers = [
            ("Host", "cocoon"),
            ("Accept", "*/*"),
            ("Content-Type", "application/json"),
            ("Content-Length", len.as_str()),
        ];
        let request = http::Request {
            method: "POST".into(),
            url: self.route.path().into(),
            http_version: "HTTP/1.1".into(),
            headers: headers
                .into_iter()
                .chain(self.affinity.map(|value| (AFFINITY_HEADER, value)))
                .map(|(name, value)| http::Header { name: name.into(), value: value.into() })
                .collect(),
            payload: self.body,
        };
        let mut whole = wire::encode_sharing(&request, self.body);
        let model_name = self.model.into();
        let max_coefficient = self.max_coefficient.get().cast_signed();
        let max_tokens = self.tokens_max.cast_signed();
        let timeout = self.timeout.as_secs_f64() * TIMEOUT_SHARE;
        let request_id = *self.id.as_bytes();
        let min_config_version = self.config_version.get().cast_signed();
        let whole_len = whole.len();
        // In version 3 no message keeps the link for long.
        let is_long = protocol == ProtocolVersion::V3 && whole_len > PART_LEN_MAX;
        let (query, rest) = if is_long {
            let first = whole.split_to(PART_LEN_MAX);
            let first_cost = part_cost(first.len());
            (first, Some(QueryParts { id: self.id, first_cost, query: whole }))
        } else {
            (whole.into_bytes(), None)
        };
        let run = match protocol {
            ProtocolVersion::V0 => wire::encode(&RunQuery {
                model_name,
                query: &query,
                max_coefficient,
                max_tokens,
                timeout,
                request_id,
                min_config_version,
            }),
            ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3 => wire::encode(&RunQueryEx {
                model_name,
                query: &query,
                max_coefficient,
                max_tokens,
                timeout,
                request_id,
                min_config_version,
                enable_debug: Some(self.enable_debug),
            }),
        };
        let first = match rest {
            None => run,
            Some(_) => {
                let query_len = i32::try_from(whole_len).unwrap_or(i32::MAX);
                wire::encode(&stream::Begin { query_len, run: &run })
            }
        };
        Outgoing { first, rest }
    }
}

/// The question which models a proxy has, and its answer.
pub(crate) struct Models;

impl Models {
    /// The query in a version of the protocol.
    pub(crate) fn query(protocol: ProtocolVersion) -> Bytes {
        match protocol {
            ProtocolVersion::V0 => wire::encode(&GetWorkerTypes {}),
            ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3 => {
                wire::encode(&GetWorkerTypesV2 {})
            }
        }
    }

    /// Reads the answer. Protocol 0 names no single workers: it gives one entry for all of a model, with the
    /// lowest price.
    ///
    /// # Errors
    /// [`DecodeError`] if it is none.
    pub(crate) fn read(protocol: ProtocolVersion, answer: &[u8]) -> Result<Vec<Model>, DecodeError> {
        // What cannot be, a negative count, is shown as none.
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        let model =
            |name: wire::TlStr<'_>, workers| Model { id: name.to_string_lossy().into_owned(), workers };
        match protocol {
            ProtocolVersion::V0 => {
                let client::WorkerTypes { types } = wire::decode(answer)?;
                let one = |entry: &client::WorkerType<'_>| {
                    let worker = ModelWorker {
                        coefficient: count(entry.coefficient_min),
                        running_requests: 0,
                        max_running_requests: 0,
                    };
                    model(entry.name, vec![worker; usize::from(entry.active_workers > 0)])
                };
                Ok(types.iter().map(one).collect())
            }
            ProtocolVersion::V1 | ProtocolVersion::V2 | ProtocolVersion::V3 => {
                let client::WorkerTypesV2 { types } = wire::decode(answer)?;
                let worker = |entry: &client::WorkerInstanceV2| ModelWorker {
                    coefficient: count(entry.coefficient),
                    running_requests: count(entry.active_requests),
                    max_running_requests: count(entry.max_active_requests),
                };
                let one = |entry: &client::WorkerTypeV2<'_>| {
                    model(entry.name, entry.workers.iter().map(worker).collect())
                };
                Ok(types.iter().map(one).collect())
            }
        }
    }
}
