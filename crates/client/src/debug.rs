//! Times of all stops of a request, for applications that ask with `enable_debug`.
//!
//! The object holds times and nothing of the content. In a JSON answer it becomes the member `debug` of the last
//! value, as in the deployed network. In a stream it is one more event after the last, of the type
//! `cocoon.debug`, which readers of the API pass over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::session::FinalInfo;

/// When the client saw a request, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClientTimes {
    pub(crate) start: f64,
    pub(crate) answer_start: f64,
    pub(crate) answer_end: f64,
}

/// The debug object of a finished request.
pub(crate) fn debug_object(times: ClientTimes, info: Option<&FinalInfo>) -> Value {
    // What proxy and worker sent is JSON; anything else is passed on as the text it is.
    let told = |text: Option<&String>| {
        text.map(|text| serde_json::from_str(text).unwrap_or_else(|_no_json| Value::from(text.as_str())))
    };
    json!({
        "client": {
            "type": "client_stats",
            "start_time": times.start,
            "answer_receive_start_at": times.answer_start,
            "answer_receive_end_at": times.answer_end,
        },
        "proxy": told(info.and_then(|info| info.proxy_debug.as_ref())),
        "worker": told(info.and_then(|info| info.worker_debug.as_ref())),
    })
}

/// Adds the debug object to an answer that passes.
pub(crate) enum DebugWriter {
    /// Bytes from the last closing brace on are kept back.
    Json {
        held: BytesMut,
        before: u8,
    },
    Events,
}

/// White space after a brace that is kept back with it. More is no answer of an engine.
const HELD_LEN_MAX: usize = 4096;

impl DebugWriter {
    pub(crate) fn new(is_events: bool) -> Self {
        if is_events { Self::Events } else { Self::Json { held: BytesMut::new(), before: 0 } }
    }

    /// Takes the next bytes of the answer; returns what can be sent on.
    pub(crate) fn feed(&mut self, bytes: Bytes) -> Bytes {
        let Self::Json { held, before } = self else { return bytes };
        held.extend_from_slice(&bytes);
        let is_significant = |byte: &u8| !byte.is_ascii_whitespace();
        let kept_from = match held.iter().rposition(is_significant) {
            Some(last) if held[last] == b'}' && held.len() - last <= HELD_LEN_MAX => last,
            _ => held.len(),
        };
        let passed = held.split_to(kept_from).freeze();
        if let Some(last) = passed.iter().rfind(|byte| is_significant(byte)) {
            *before = *last;
        }
        passed
    }

    /// The end of the answer with `debug` in it.
    pub(crate) fn finish(self, debug: &Value) -> Bytes {
        match self {
            Self::Events => format!("event: cocoon.debug\ndata: {debug}\n\n").into(),
            Self::Json { held, .. } if held.is_empty() => format!("\n{}\n", json!({ "debug": debug })).into(),
            Self::Json { held, before } => {
                let comma = if before == b'{' { "" } else { "," };
                let mut end = BytesMut::from(format!("{comma}\"debug\":{debug}").as_bytes());
                end.extend_from_slice(&held);
                end.freeze()
            }
        }
    }
}

/// Entries that are kept at most; the oldest go first.
const ENTRIES_MAX: usize = 1024;

/// The latest debug object for each `request_guid`.
#[derive(Debug, Default)]
pub(crate) struct DebugLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    objects: HashMap<[u8; 32], String>,
    order: VecDeque<[u8; 32]>,
}

impl DebugLog {
    /// Keeps `debug` under `guid`, in place of an earlier one.
    pub(crate) fn keep(&self, guid: &str, debug: &Value) {
        let key = Sha256::digest(guid).into();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.objects.insert(key, debug.to_string()).is_none() {
            entries.order.push_back(key);
        }
        if entries.order.len() > ENTRIES_MAX
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.objects.remove(&oldest);
        }
    }

    /// The object under `guid`, as JSON.
    pub(crate) fn find(&self, guid: &str) -> Option<String> {
        let key: [u8; 32] = Sha256::digest(guid).into();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).objects.get(&key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_events: bool, chunks: &[&str]) -> String {
        let mut writer = DebugWriter::new(is_events);
        let mut out = String::new();
        for chunk in chunks {
            let passed = writer.feed(Bytes::copy_from_slice(chunk.as_bytes()));
            out.push_str(std::str::from_utf8(&passed).unwrap());
        }
        out.push_str(std::str::from_utf8(&writer.finish(&json!({"t": 1}))).unwrap());
        out
    }

    #[test]
    fn json_answers_get_a_member() {
        assert_eq!(written(false, &["{\"a\":{}}"]), "{\"a\":{},\"debug\":{\"t\":1}}");
        assert_eq!(written(false, &["{\"a\":", "1} ", "\n"]), "{\"a\":1,\"debug\":{\"t\":1}} \n");
        assert_eq!(written(false, &["{\"a\":{\"b\":2}", "}"]), "{\"a\":{\"b\":2},\"debug\":{\"t\":1}}");
        assert_eq!(written(false, &["{ ", " }"]), "{  \"debug\":{\"t\":1}}");
        assert_eq!(written(false, &["{}\n{\"x\":1}\n"]), "{}\n{\"x\":1,\"debug\":{\"t\":1}}\n");
    }

    #[test]
    fn other_answers_get_a_line() {
        assert_eq!(written(false, &["plain"]), "plain\n{\"debug\":{\"t\":1}}\n");
        assert_eq!(written(false, &[]), "\n{\"debug\":{\"t\":1}}\n");
    }

    #[test]
    fn events_get_one_more() {
        let stream = "data: {}\n\ndata: [DONE]\n\n";
        let expected = format!("{stream}event: cocoon.debug\ndata: {{\"t\":1}}\n\n");
        assert_eq!(written(true, &[stream]), expected);
    }

    #[test]
    fn a_flood_of_white_space_is_not_kept() {
        let flood = format!("{{\"a\":1}}{}", " ".repeat(2 * HELD_LEN_MAX));
        let mut writer = DebugWriter::new(false);
        assert_eq!(writer.feed(Bytes::from(flood.clone())), flood);
    }

    #[test]
    fn the_object_tells_times_and_passes_on_what_peers_say() {
        let times = ClientTimes { start: 1.0, answer_start: 2.0, answer_end: 3.0 };
        let info = FinalInfo {
            proxy_debug: Some("{\"type\":\"proxy_stats\"}".to_owned()),
            worker_debug: Some("no JSON".to_owned()),
            ..FinalInfo::default()
        };
        let object = debug_object(times, Some(&info));
        assert_eq!(object["proxy"], json!({"type": "proxy_stats"}));
        assert_eq!(object["worker"], "no JSON");
        assert_eq!(object["client"]["answer_receive_end_at"], 3.0);
        assert_eq!(debug_object(times, None)["proxy"], Value::Null);
    }

    #[test]
    fn the_log_keeps_the_latest_and_is_bounded() {
        let log = DebugLog::default();
        log.keep("a", &json!(1));
        log.keep("a", &json!(2));
        assert_eq!(log.find("a").as_deref(), Some("2"));
        assert_eq!(log.find("b"), None);
        for n in 0..ENTRIES_MAX {
            log.keep(&n.to_string(), &json!(n));
        }
        assert_eq!(log.find("a"), None, "the oldest went");
        assert_eq!(log.find("0").as_deref(), Some("0"));
        assert_eq!(log.0.lock().unwrap().objects.len(), ENTRIES_MAX);
    }
}
