//! From a file or folder to a model that can answer.

mod config_json;
mod gguf;
mod gguf_model;
mod gguf_tokenizer;
mod safetensors;
mod tokenizer;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use units::InvalidModelName;

pub(crate) use self::tokenizer::Tokenizer;
pub use self::tokenizer::TokenizerError;
use crate::model::Model;
use crate::sampler::SamplingDefaults;
use crate::template::{ChatTemplate, TemplateError};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The demo model inside this program; see [`crate::demo`].
    Demo,
    /// A GGUF file, version 2 or 3, with its tokenizer inside.
    Gguf(PathBuf),
    /// A folder with `config.json`, `tokenizer.json`, `tokenizer_config.json` and safetensors.
    Safetensors(PathBuf),
}

/// A model could not be loaded. Every message says what is missing or unsupported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not begin with the GGUF mark.
    #[error(
        "this is not a GGUF file (it begins with {found:02x?}): give a .gguf file, or a folder with safetensors"
    )]
    NotGguf {
        /// The first bytes.
        found: [u8; 4],
    },
    /// A GGUF version this engine does not read.
    #[error("GGUF version {found} is not supported, versions 2 and 3 are: convert the file again")]
    GgufVersion {
        /// Version in the file.
        found: u32,
    },
    /// A GGUF header that contradicts the file it stands in.
    #[error("the GGUF header is damaged: {what} needs {needed} bytes, {available} are left in the file")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes it claims.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// A GGUF header with a value outside its format.
    #[error("the GGUF header is damaged: {what} is {found}")]
    Malformed {
        /// The member.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// A required metadata key is missing.
    #[error("the model has no {key:?} in its metadata: convert it again with a current converter")]
    MissingMetadata {
        /// The key.
        key: String,
    },
    /// A metadata value has another type than its key requires.
    #[error("metadata {key:?} is not {expected}")]
    MetadataType {
        /// The key.
        key: String,
        /// The type it should have.
        expected: &'static str,
    },
    /// A model of another architecture.
    #[error(
        "architecture {found:?} is not supported, llama, qwen2 and qwen3 are: serve this model with llama.cpp or vLLM and name it as a backend"
    )]
    Architecture {
        /// The architecture the file names.
        found: String,
    },
    /// A variation within a supported architecture that would change the answers.
    #[error("{feature} is not supported: serve this model with llama.cpp or vLLM and name it as a backend")]
    Feature {
        /// What the model asks for.
        feature: String,
    },
    /// A size no forward pass is possible with.
    #[error("{name} is {value}, between 1 and {max} is supported")]
    SizeOutOfRange {
        /// Which size.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest supported.
        max: usize,
    },
    /// Query heads cannot be dealt evenly to key-value heads.
    #[error("{heads} attention heads do not divide among {kv_heads} key-value heads")]
    UnevenHeads {
        /// Attention heads.
        heads: usize,
        /// Key-value heads.
        kv_heads: usize,
    },
    /// Only a part of each head is rotated.
    #[error("rotating {rotated} of {head_dim} dimensions of a head is not supported, only all of them")]
    PartialRotation {
        /// Rotated dimensions.
        rotated: usize,
        /// All dimensions.
        head_dim: usize,
    },
    /// A tensor is missing.
    #[error("the model has no tensor {name:?}: the file is incomplete, fetch it again")]
    MissingTensor {
        /// Its name in the file's own convention.
        name: String,
    },
    /// A tensor has another shape than the model's configuration says.
    #[error("tensor {name:?} has the shape {found:?}, the configuration says {expected:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Shape in the file, outermost dimension first.
        found: Vec<usize>,
        /// Shape that follows from the configuration.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a type this engine cannot read.
    #[error("tensor {name:?} is stored as {found}, supported are {supported}: convert the model again")]
    TensorType {
        /// The tensor.
        name: String,
        /// The type in the file.
        found: String,
        /// The types this engine reads.
        supported: &'static str,
    },
    /// A folder without a file that it needs.
    #[error("{} has no {name}: fetch the whole model folder", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The missing file.
        name: String,
    },
    /// A JSON file of a model folder does not say what it must.
    #[error("cannot understand {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A safetensors file is damaged or holds something else.
    #[error("cannot read tensors from {}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: candle_core::Error,
    },
    /// The tokenizer cannot be used.
    #[error("the model's tokenizer cannot be used")]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be compiled.
    #[error("the model's chat template cannot be used")]
    ChatTemplate(#[from] TemplateError),
    /// The name under which the model would be served is not a model name.
    #[error("the model cannot be served under the name its file has: give it a name in the configuration")]
    Name(#[from] InvalidModelName),
    /// The tensor library refused.
    #[error("the tensor library refused the model")]
    Compute {
        /// Why.
        source: candle_core::Error,
    },
    /// The engine's threads could not be started.
    #[error("cannot start the engine's threads")]
    Threads {
        /// Why.
        source: std::io::Error,
    },
}

impl LoadError {
    pub(crate) fn compute(source: candle_core::Error) -> Self {
        Self::Compute { source }
    }

    fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// Everything a model needs to answer.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Name derived from the source.
    pub(crate) name: String,
    pub(crate) model: Model,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: ChatTemplate,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Vec<u32>,
    /// What the model's makers recommend when a request does not say.
    pub(crate) sampling: SamplingDefaults,
}

/// Loads `source`; no sequence will be longer than `context_len_max` positions.
pub(crate) fn load(source: &Source, context_len_max: usize) -> Result<Loaded, LoadError> {
    match source {
        Source::Demo => {
            let name = crate::demo::MODEL_ID.to_owned();
            let file_len = crate::demo::BYTES.len() as u64;
            let mut file = Cursor::new(crate::demo::BYTES);
            let mut loaded = gguf_model::load(&mut file, file_len, name, context_len_max)?;
            // What it learned by heart is its most probable answer.
            loaded.sampling.temperature.get_or_insert(0.0);
            Ok(loaded)
        }
        Source::Gguf(path) => {
            let file = std::fs::File::open(path).map_err(LoadError::read(path))?;
            let file_len = file.metadata().map_err(LoadError::read(path))?.len();
            gguf_model::load(&mut std::io::BufReader::new(file), file_len, stem(path), context_len_max)
        }
        Source::Safetensors(folder) => safetensors::load(folder, context_len_max),
    }
}

/// The last component of `path` without its extension.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
