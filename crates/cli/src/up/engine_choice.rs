//! Which engine and model the network serves.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{UpArguments, detect};
use crate::http;

/// A named engine may be slow to list its models.
const LIST_DEADLINE: Duration = Duration::from_secs(10);

/// What the worker of the network offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServedModel {
    /// Models of an OpenAI-compatible server.
    Server {
        /// How the server came to be chosen.
        origin: String,
        /// Base address.
        url: String,
        /// Names of its models; never empty.
        models: Vec<String>,
    },
    /// A model file or folder, run by the embedded engine.
    #[cfg(feature = "embedded-engine")]
    Local(std::path::PathBuf),
    /// The bundled demo model.
    #[cfg(feature = "embedded-engine")]
    Demo,
}

impl ServedModel {
    /// The name that a first request uses.
    pub(super) fn first_model(&self) -> String {
        match self {
            Self::Server { models, .. } => models.first().cloned().unwrap_or_default(),
            #[cfg(feature = "embedded-engine")]
            Self::Local(path) => local_name(path),
            #[cfg(feature = "embedded-engine")]
            Self::Demo => engine::demo::MODEL_ID.to_owned(),
        }
    }
}

impl fmt::Display for ServedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { origin, models, .. } => write!(f, "{} ({origin})", models.join(", ")),
            #[cfg(feature = "embedded-engine")]
            Self::Local(path) => write!(f, "{} (embedded engine)", local_name(path)),
            #[cfg(feature = "embedded-engine")]
            Self::Demo => write!(
                f,
                "{} (bundled demo model: it shows the network, not intelligence)",
                engine::demo::MODEL_ID
            ),
        }
    }
}

/// A local model is named after its file or folder.
#[cfg(feature = "embedded-engine")]
pub(super) fn local_name(path: &std::path::Path) -> String {
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    name.map_or_else(|| "local".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Follows the flags, else looks for a running engine, else takes the demo model.
///
/// # Errors
/// If a named engine does not answer, or a named model does not exist; without the embedded engine, also if no engine
/// is found.
pub(super) async fn choose(arguments: &UpArguments) -> Result<ServedModel> {
    if let Some(url) = &arguments.backend {
        return named_server(url).await;
    }
    #[cfg(feature = "embedded-engine")]
    if let Some(path) = &arguments.model {
        let path = std::fs::canonicalize(path).with_context(|| format!("--model {}", path.display()))?;
        return Ok(ServedModel::Local(path));
    }
    if arguments.no_detect {
        return without_server();
    }
    match detect::detect().await {
        Some(engine) => {
            let (program, url) = (engine.program, engine.url);
            eprintln!("found an engine at {url} (the usual port of {program}); --no-detect ignores it");
            let origin = format!("engine at {url}");
            Ok(ServedModel::Server { origin, url, models: engine.models })
        }
        None => without_server(),
    }
}

/// What is served when no server is.
#[cfg(feature = "embedded-engine")]
fn without_server() -> Result<ServedModel> {
    Ok(ServedModel::Demo)
}

/// Nothing can be served.
#[cfg(not(feature = "embedded-engine"))]
fn without_server() -> Result<ServedModel> {
    bail!(
        "this program was built without an embedded engine: name an OpenAI-compatible server with --backend URL"
    )
}

async fn named_server(url: &str) -> Result<ServedModel> {
    let Some(authority) = url.strip_prefix("http://") else {
        bail!("--backend {url}: only http:// servers are supported, such as http://127.0.0.1:8000");
    };
    let authority = authority.trim_end_matches('/');
    let authority = authority.strip_suffix("/v1").unwrap_or(authority);
    let list = http::get_json(authority, "/v1/models", LIST_DEADLINE).await.context("--backend")?;
    let Some(models) = detect::model_ids(&list) else {
        bail!("--backend {url}: http://{authority}/v1/models lists no model");
    };
    let url = format!("http://{authority}");
    Ok(ServedModel::Server { origin: format!("engine at {url}"), url, models })
}
