//! The demo model inside this program.
//!
//! It is here so that a new network can answer before anybody has fetched a model. It shows the network, not
//! intelligence: see [`CARD`].

/// The name under which the demo model is served.
pub const MODEL_ID: &str = "cocoon-demo";

/// The model: a GGUF file.
pub const BYTES: &[u8] = include_bytes!("../demo/cocoon-demo.gguf");

/// What the model is, how it was made and what it cannot do, as Markdown.
pub const CARD: &str = include_str!("../demo/CARD.md");
