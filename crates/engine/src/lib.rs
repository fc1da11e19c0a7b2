//! Embedded CPU inference with an OpenAI surface.
//!
//! Loads one model of the Llama or Qwen (2, 3) family from a GGUF file or a safetensors folder, and answers
//! chat and completion requests on threads of its own. A model is loaded once; every request has its own
//! memory of the conversation, so requests run side by side and none can see another's text.
//!
//! ```no_run
//! # use cocoon_engine::{Engine, EngineConfig, LoadError, Source, openai};
//! # async fn example(now: fn() -> std::time::Duration) -> Result<(), LoadError> {
//! let engine = Engine::load(&Source::Demo, EngineConfig::new(now))?;
//! let body = br#"{"model": "cocoon-demo", "messages": [{"role": "user", "content": "What is Cocoon?"}]}"#;
//! let mut response = openai::respond(&engine, "/v1/chat/completions", body).await;
//! while let Some(bytes) = response.body.recv().await {
//!     // JSON, or server-sent events when the request asks for a stream
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it refuses: parameters it does not implement (by name, never silently), models that would need
//! arithmetic it does not have, downloads. It opens no socket and reads no clock but the one it is given.
//!
//! Invariants:
//! - A request's answer depends on the model, the request and its seed; never on what runs beside it.
//! - Tokens are counted as they are generated; the end mark is one of them.
//! - Dropping a response stops its generation before the next token.
//! - Text leaves whole characters at a time, and a stop string never leaves.
//! - No prompt or answer is logged, kept after its request, or part of an error that is not its sender's.
#![forbid(unsafe_code)]

pub mod demo;
mod load;
mod model;
pub mod openai;
mod sampler;
mod scheduler;
mod sequence;
mod stream;
mod template;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use units::ModelName;

pub use crate::load::{LoadError, Source, TokenizerError};
pub use crate::scheduler::Activity;
pub use crate::template::TemplateError;

use crate::load::Loaded;
use crate::scheduler::{Limits, Scheduler};

/// How an engine serves its model.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The name requests use. Default: `cocoon-demo` for the demo model, else the file's or folder's name.
    pub model_id: Option<ModelName>,
    /// Longest sequence in tokens, prompt and answer together; a model's own limit may be lower.
    /// Every active request needs memory in proportion to its length. Default: 8192.
    pub context_len_max: usize,
    /// Threads that advance sequences; the tensor library adds its own for large matrices.
    /// Default: as many as the machine has cores.
    pub threads: usize,
    /// Requests answered at the same time. Default: 8.
    pub active_max: usize,
    /// Requests that may wait for a place among the active ones; more are refused. Default: 256.
    pub waiting_max: usize,
    /// The time since the Unix epoch, for `created` members and for templates that ask for the date.
    pub unix_now: fn() -> Duration,
}

impl EngineConfig {
    /// Everything at its default.
    #[must_use]
    pub fn new(unix_now: fn() -> Duration) -> Self {
        Self {
            model_id: None,
            context_len_max: 8192,
            threads: std::thread::available_parallelism().map_or(1, Into::into),
            active_max: 8,
            waiting_max: 256,
            unix_now,
        }
    }
}

/// A loaded model that answers requests.
///
/// Dropping the engine ends its threads after their current turn, for which it waits, and closes the channels
/// of unfinished requests.
pub struct Engine {
    model_id: ModelName,
    loaded: Arc<Loaded>,
    scheduler: Scheduler,
    unix_now: fn() -> Duration,
    /// When the model was loaded, since the Unix epoch.
    loaded_at: Duration,
}

impl Engine {
    /// Loads a model and starts the threads that serve it.
    ///
    /// Reads whole files and blocks meanwhile: in asynchronous code, call it where blocking is allowed.
    ///
    /// # Errors
    /// [`LoadError`] if the model cannot be read, is damaged or is not supported.
    pub fn load(source: &Source, config: EngineConfig) -> Result<Self, LoadError> {
        let loaded = Arc::new(load::load(source, config.context_len_max)?);
        let model_id = config.model_id.map_or_else(|| ModelName::new(loaded.name.as_str()), Ok)?;
        let limits = Limits {
            threads: config.threads.max(1),
            active_max: config.active_max.max(1),
            waiting_max: config.waiting_max,
        };
        let scheduler =
            Scheduler::start(Arc::clone(&loaded), limits).map_err(|source| LoadError::Threads { source })?;
        let shape = loaded.model.shape();
        tracing::info!(model = %model_id, layers = shape.layers, context = shape.context_len, "model loaded");
        let loaded_at = (config.unix_now)();
        Ok(Self { model_id, loaded, scheduler, unix_now: config.unix_now, loaded_at })
    }

    /// The name under which the model is served.
    #[must_use]
    pub fn model_id(&self) -> &ModelName {
        &self.model_id
    }

    /// Longest sequence in tokens, prompt and answer together.
    #[must_use]
    pub fn context_len(&self) -> usize {
        self.loaded.model.shape().context_len
    }

    /// What the engine is doing and has done.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.scheduler.activity()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("model_id", &self.model_id).finish_non_exhaustive()
    }
}
