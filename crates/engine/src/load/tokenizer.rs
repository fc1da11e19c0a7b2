//! Text to tokens and tokens to bytes.
//!
//! Encoding is the `tokenizers` crate's. Decoding is a table from token to bytes: a token's bytes never
//! depend on its neighbours, and a character may be spread over several tokens, so bytes are the only exact
//! unit and [`crate::stream`] puts characters together again.

use tokenizers::ModelWrapper;

/// A tokenizer could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A tokenizer model other than byte-level BPE or SentencePiece BPE.
    #[error("tokenizer model {found:?} is not supported, \"gpt2\" and \"llama\" are")]
    Model {
        /// The model the file names.
        found: String,
    },
    /// Rules for splitting text into words that this engine does not know.
    #[error(
        "pre-tokenizer {found:?} is not supported: convert the model to safetensors, whose tokenizer.json describes it"
    )]
    PreTokenizer {
        /// The rules the file names.
        found: String,
    },
    /// The way tokens become text is neither byte-level nor SentencePiece.
    #[error("this tokenizer's decoder is not supported, byte-level and SentencePiece ones are")]
    Decoder,
    /// Lists that must describe the same tokens do not have the same length.
    #[error("the tokenizer lists {found} {what} for {pieces} tokens")]
    Lengths {
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The vocabulary's size.
        pieces: usize,
    },
    /// A piece too long to be one.
    #[error("token {id} has {len} bytes, at most {PIECE_LEN_MAX} are supported")]
    PieceLen {
        /// The token.
        id: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// A merge rule that is not two pieces.
    #[error("merge rule {index} is not two pieces separated by a space")]
    Merge {
        /// Its place in the list.
        index: usize,
    },
    /// The tokenizer library refused the description.
    #[error("the tokenizer library refused the description")]
    Library {
        /// Why.
        source: tokenizers::Error,
    },
}

/// Longest piece. The longest of real vocabularies are runs of some hundred spaces.
pub(super) const PIECE_LEN_MAX: usize = 4096;

/// A ready tokenizer.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// By token: the bytes it stands for; empty for control tokens and for gaps in the vocabulary.
    bytes: Vec<Box<[u8]>>,
}

impl Tokenizer {
    /// From the text of a `tokenizer.json`.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, TokenizerError> {
        let library = |source| TokenizerError::Library { source };
        let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(library)?;
        // Limits of a request are ours to decide and to report, never a silent cut.
        inner.with_truncation(None).map_err(library)?;
        inner.with_padding(None);
        if let ModelWrapper::BPE(bpe) = inner.get_model() {
            // The library keeps the words it has seen; words of prompts must not outlive their request.
            let mut bpe = bpe.clone();
            bpe.resize_cache(0);
            inner.with_model(bpe);
        }
        let decoder = serde_json::to_value(inner.get_decoder()).unwrap_or_default().to_string();
        let to_bytes = if decoder.contains("\"ByteLevel\"") {
            byte_level_bytes
        } else if decoder.contains("\"ByteFallback\"") || decoder.contains("\"Metaspace\"") {
            sentence_piece_bytes
        } else {
            return Err(TokenizerError::Decoder);
        };
        let added = inner.get_added_tokens_decoder();
        let ids = inner.get_vocab(true);
        let len = ids.values().max().map_or(0, |&id| id as usize + 1);
        // Ids in a file may be anything; a gap of this size is damage, not a vocabulary.
        if len > ids.len() + (1 << 20) {
            return Err(TokenizerError::Lengths { what: "ids up to", found: len, pieces: ids.len() });
        }
        let mut bytes = vec![Box::default(); len];
        for (piece, id) in ids {
            bytes[id as usize] = match added.get(&id) {
                Some(token) if token.special => Box::default(),
                Some(token) => token.content.as_bytes().into(),
                None => to_bytes(&piece),
            };
        }
        Ok(Self { inner, bytes })
    }

    /// Tokens of `text`. Marks such as `<|im_end|>` in the text become control tokens.
    /// With `add_special`, what the model expects around every text is added (usually a beginning mark).
    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, tokenizers::Error> {
        Ok(self.inner.encode_fast(text, add_special)?.get_ids().to_vec())
    }

    /// The bytes `token` stands for; none for control tokens.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// The token written as `piece`.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.inner.token_to_id(piece)
    }

    /// `named`, and the tokens that by their name end a turn: files often declare only one of several.
    pub(crate) fn end_tokens(&self, named: impl Iterator<Item = u32>) -> Vec<u32> {
        let known = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"];
        let added = self.inner.get_added_tokens_decoder();
        let special = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let mut ends: Vec<u32> =
            named.chain(known.iter().filter_map(|piece| self.id(piece)).filter(special)).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

/// GPT-2 writes printable Latin-1 bytes as themselves and the others, in order, from U+0100 on.
fn byte_level_bytes(piece: &str) -> Box<[u8]> {
    let byte = |c: char| {
        let code = u32::from(c);
        u8::try_from(match code {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
            0x100..=0x120 => code - 0x100,
            0x121..=0x142 => code - 0x121 + 0x7f,
            0x143 => 0xad,
            _ => return None,
        })
        .ok()
    };
    // A piece with other characters was added as plain text.
    piece.chars().map(byte).collect::<Option<_>>().unwrap_or_else(|| piece.as_bytes().into())
}

/// SentencePiece writes a space as U+2581 and a byte of an unknown character as `<0xNN>`.
fn sentence_piece_bytes(piece: &str) -> Box<[u8]> {
    let hex = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => [byte].into(),
        None => piece.replace('▁', " ").into_bytes().into(),
    }
}
