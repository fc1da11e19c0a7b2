//! Finding an engine that already runs on this host.

use std::time::Duration;

use serde_json::Value;

use crate::http;

/// Ports where well-known engines listen by default.
const KNOWN_ENGINES: &[(&str, u16)] =
    &[("Ollama", 11434), ("vLLM", 8000), ("llama.cpp", 8080), ("LM Studio", 1234)];

/// Long enough for a local server on a busy machine. Only a program that listens on one of these ports and does not
/// answer makes a start wait for it: where nobody listens, the system says so at once.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// An engine that answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DetectedEngine {
    /// The program that usually listens on this port.
    pub(super) program: &'static str,
    /// Base address, `http://host:port`.
    pub(super) url: String,
    /// Models it lists, in its order; never empty.
    pub(super) models: Vec<String>,
}

/// Asks the known ports side by side and returns the first, in the order above, that lists a model.
pub(super) async fn detect() -> Option<DetectedEngine> {
    let probes = KNOWN_ENGINES
        .iter()
        .map(|&(program, port)| tokio::spawn(async move { ask(program, format!("127.0.0.1:{port}")).await }));
    for probe in probes.collect::<Vec<_>>() {
        if let Ok(Some(engine)) = probe.await {
            return Some(engine);
        }
    }
    None
}

async fn ask(program: &'static str, authority: String) -> Option<DetectedEngine> {
    let list = http::get_json(&authority, "/v1/models", PROBE_DEADLINE).await.ok()?;
    let models = model_ids(&list)?;
    Some(DetectedEngine { program, url: format!("http://{authority}"), models })
}

/// The ids of an OpenAI model list; `None` when the answer is something else or lists nothing.
pub(super) fn model_ids(list: &Value) -> Option<Vec<String>> {
    let entries = list.get("data")?.as_array()?;
    let ids: Vec<String> =
        entries.iter().filter_map(|entry| Some(entry.get("id")?.as_str()?.to_owned())).collect();
    (!ids.is_empty()).then_some(ids)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_list_names_its_models_and_other_answers_name_none() {
        let list = json!({"object": "list", "data": [{"id": "llama3"}, {"id": "qwen"}, {"name": "no id"}]});
        assert_eq!(model_ids(&list), Some(vec!["llama3".to_owned(), "qwen".to_owned()]));
        for other in [json!({"data": []}), json!({"data": "x"}), json!([]), json!({"error": "404"})] {
            assert_eq!(model_ids(&other), None, "{other}");
        }
    }
}
