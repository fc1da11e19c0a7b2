//! Tokenizers as GGUF metadata describes them, rewritten as the equivalent `tokenizer.json`.

use serde_json::{Value, json};

use super::tokenizer::{PIECE_LEN_MAX, Tokenizer, TokenizerError};

/// What a GGUF file says about its tokenizer.
#[derive(Debug)]
pub(super) struct GgufParts<'a> {
    pub(super) model: &'a str,
    pub(super) pre: Option<&'a str>,
    pub(super) pieces: &'a [String],
    pub(super) kinds: &'a [i64],
    pub(super) scores: &'a [f32],
    pub(super) merges: &'a [String],
    pub(super) begin: Option<u32>,
    pub(super) end: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) add_begin: Option<bool>,
    pub(super) add_space_prefix: Option<bool>,
}

/// Kinds of tokens in GGUF metadata.
mod kind {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

impl GgufParts<'_> {
    fn kind(&self, id: usize) -> i64 {
        self.kinds.get(id).copied().unwrap_or(kind::NORMAL)
    }

    fn check(&self) -> Result<(), TokenizerError> {
        let pieces = self.pieces.len();
        for (what, found) in [("token types", self.kinds.len()), ("scores", self.scores.len())] {
            if found != 0 && found != pieces {
                return Err(TokenizerError::Lengths { what, found, pieces });
            }
        }
        match self.pieces.iter().enumerate().find(|(_, piece)| piece.len() > PIECE_LEN_MAX) {
            Some((id, piece)) => Err(TokenizerError::PieceLen { id, len: piece.len() }),
            None => Ok(()),
        }
    }

    /// Control and user-defined tokens are recognised in text before it is split.
    fn added_tokens(&self) -> Vec<Value> {
        let added = |(id, piece): (usize, &String)| {
            let special = match self.kind(id) {
                kind::CONTROL => true,
                kind::USER_DEFINED => false,
                _ => return None,
            };
            Some(json!({
                "id": id, "content": piece, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special,
            }))
        };
        self.pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()).filter_map(added).collect()
    }

    /// Puts the beginning mark before every text, when the model was trained so.
    fn post_processor(&self, add_begin: bool) -> Value {
        let begin = self.begin.filter(|_| add_begin);
        let piece = begin.and_then(|id| self.pieces.get(usize::try_from(id).ok()?));
        let (Some(id), Some(piece)) = (begin, piece) else { return Value::Null };
        json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": piece, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {piece: {"id": piece, "ids": [id], "tokens": [piece]}},
        })
    }

    fn vocabulary(&self) -> Value {
        let vocabulary = self.pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id.into()));
        Value::Object(vocabulary.collect())
    }

    fn unknown_piece(&self) -> Option<&String> {
        self.unknown.and_then(|id| self.pieces.get(usize::try_from(id).ok()?))
    }
}

/// Builds the tokenizer a GGUF file describes, by way of the equivalent `tokenizer.json`.
pub(super) fn build(parts: &GgufParts<'_>) -> Result<Tokenizer, TokenizerError> {
    parts.check()?;
    let description = match parts.model {
        "gpt2" => byte_level(parts)?,
        "llama" => sentence_piece(parts),
        other => return Err(TokenizerError::Model { found: other.to_owned() }),
    };
    let text = serde_json::to_vec(&description).expect("a JSON value has a text form");
    Tokenizer::from_json(&text)
}

/// GPT-2's, Llama 3's and Qwen's kind: bytes written as printable characters, merged by rank.
fn byte_level(parts: &GgufParts<'_>) -> Result<Value, TokenizerError> {
    let merges = parts.merges.iter().enumerate().map(|(index, merge)| {
        let (left, right) = merge.split_once(' ').ok_or(TokenizerError::Merge { index })?;
        Ok(json!([left, right]))
    });
    let merges = merges.collect::<Result<Vec<_>, TokenizerError>>()?;
    let pre = PreTokenizer::named(parts.pre.unwrap_or("default"))?;
    let isolated = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let mut steps: Vec<Value> = pre.patterns.iter().map(|pattern| isolated(pattern)).collect();
    steps.push(
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}),
    );
    Ok(json!({
        "version": "1.0",
        "added_tokens": parts.added_tokens(),
        "normalizer": if pre.compose { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": parts.post_processor(parts.add_begin.unwrap_or(pre.add_begin)),
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {
            "type": "BPE", "vocab": parts.vocabulary(), "merges": merges, "ignore_merges": pre.ignore_merges,
            "byte_fallback": false, "fuse_unk": false,
        },
    }))
}

/// How a family of byte-level tokenizers splits text into words.
struct PreTokenizer {
    /// Applied in this order, each to what the one before left whole.
    patterns: &'static [&'static str],
    /// Whether text is brought to Unicode's composed form first.
    compose: bool,
    /// Whether a word that is a token stays one whatever the merges say.
    ignore_merges: bool,
    /// Whether texts begin with the beginning mark unless the file says otherwise.
    add_begin: bool,
}

impl PreTokenizer {
    /// The rules llama.cpp applies under the same name (its `llama-vocab.cpp`).
    fn named(name: &str) -> Result<Self, TokenizerError> {
        const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let plain = Self { patterns: &[GPT2], compose: false, ignore_merges: false, add_begin: false };
        Ok(match name {
            "gpt-2" | "gpt2" => plain,
            "default" => {
                Self { patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], ..plain }
            }
            "smollm" => Self { patterns: &[r"\p{N}", GPT2], ..plain },
            "llama3" | "llama-v3" | "llama-bpe" => {
                Self { patterns: &[LLAMA3], ignore_merges: true, add_begin: true, ..plain }
            }
            "smaug-bpe" => Self { patterns: &[LLAMA3], ..plain },
            "qwen2" | "deepseek-r1-qwen" => Self { patterns: &[QWEN2], compose: true, ..plain },
            other => return Err(TokenizerError::PreTokenizer { found: other.to_owned() }),
        })
    }
}

/// SentencePiece BPE of Llama 1 and 2: pieces carry scores instead of merges, unknown characters become
/// their bytes.
fn sentence_piece(parts: &GgufParts<'_>) -> Value {
    let mut normalizer = Vec::new();
    if parts.add_space_prefix.unwrap_or(true) {
        normalizer.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    normalizer.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    json!({
        "version": "1.0",
        "added_tokens": parts.added_tokens(),
        "normalizer": {"type": "Sequence", "normalizers": normalizer},
        "pre_tokenizer": Value::Null,
        "post_processor": parts.post_processor(parts.add_begin.unwrap_or(true)),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]},
        "model": {
            "type": "BPE", "vocab": parts.vocabulary(), "merges": merges_from_scores(parts),
            "unk_token": parts.unknown_piece(), "byte_fallback": true, "fuse_unk": true, "ignore_merges": false,
        },
    })
}

/// SentencePiece merges the neighbours whose union has the best score: the merges, best union first, are all
/// ways to put a piece together from two others.
fn merges_from_scores(parts: &GgufParts<'_>) -> Vec<Value> {
    let normal = |id: &usize| parts.kind(*id) == kind::NORMAL;
    let ids: std::collections::HashMap<&str, usize> = parts
        .pieces
        .iter()
        .enumerate()
        .filter(|(id, _)| normal(id))
        .map(|(id, piece)| (piece.as_str(), id))
        .collect();
    let score = |id: usize| parts.scores.get(id).copied().unwrap_or_default();
    let mut merges: Vec<(usize, usize, usize)> = Vec::new();
    for (union, piece) in parts.pieces.iter().enumerate().filter(|(id, _)| normal(id)) {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                merges.push((union, left, right));
            }
        }
    }
    merges.sort_by(|a, b| score(b.0).total_cmp(&score(a.0)).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    merges.into_iter().map(|(_, left, right)| json!([parts.pieces[left], parts.pieces[right]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(model: &'a str, pieces: &'a [String], kinds: &'a [i64]) -> GgufParts<'a> {
        GgufParts {
            model,
            pre: Some("gpt-2"),
            pieces,
            kinds,
            scores: &[],
            merges: &[],
            begin: None,
            end: None,
            unknown: None,
            add_begin: None,
            add_space_prefix: None,
        }
    }

    /// The 256 bytes in GPT-2's writing, then `more`.
    fn byte_pieces(more: &[&str]) -> Vec<String> {
        let printable: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
        let mut shifted = 0x100_u32..;
        let bytes = (0..=0xff_u32).map(|byte| match printable.contains(&byte) {
            true => byte,
            false => shifted.next().unwrap(),
        });
        let bytes = bytes.map(|code| char::from_u32(code).unwrap().to_string());
        bytes.chain(more.iter().map(|&piece| piece.to_owned())).collect()
    }

    fn text(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| tokenizer.bytes(token).to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn byte_level_tokens_stand_for_their_bytes() {
        let pieces = byte_pieces(&["he", "Ġhe", "<|im_end|>"]);
        let mut kinds = vec![kind::NORMAL; pieces.len()];
        kinds[258] = kind::CONTROL;
        let merges = ["h e".to_owned(), "Ġ he".to_owned()];
        let tokenizer = build(&GgufParts { merges: &merges, ..parts("gpt2", &pieces, &kinds) }).unwrap();
        let tokens = tokenizer.encode("he he ü<|im_end|>", false).unwrap();
        assert_eq!(tokens, [256, 257, 0x20, 0xc3, 0xbc, 258]);
        assert_eq!(text(&tokenizer, &tokens), "he he ü", "control tokens have no text");
        assert_eq!(tokenizer.end_tokens(std::iter::empty()), [258]);
    }

    #[test]
    fn every_known_pre_tokenizer_compiles_and_loses_nothing() {
        let pieces = byte_pieces(&[]);
        let sample = "Hello'Ve  world 1234\n\n\tfoo_bar — ünïcode 日本語 🦋  ";
        for pre in ["gpt-2", "default", "smollm", "llama-bpe", "smaug-bpe", "qwen2"] {
            let tokenizer = build(&GgufParts { pre: Some(pre), ..parts("gpt2", &pieces, &[]) }).unwrap();
            assert_eq!(text(&tokenizer, &tokenizer.encode(sample, false).unwrap()), sample, "{pre}");
        }
        let unknown = build(&GgufParts { pre: Some("viking"), ..parts("gpt2", &pieces, &[]) });
        assert!(matches!(unknown, Err(TokenizerError::PreTokenizer { found }) if found == "viking"));
    }

    #[test]
    fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
        let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
        pieces.extend((0..=0xff).map(|byte| format!("<0x{byte:02X}>")));
        pieces.extend(["▁", "a", "b", "ab", "▁a", "▁ab"].map(str::to_owned));
        let mut kinds = vec![6; pieces.len()];
        kinds[..3].copy_from_slice(&[2, kind::CONTROL, kind::CONTROL]);
        kinds[259..].fill(kind::NORMAL);
        let mut scores = vec![0.0; pieces.len()];
        // "▁a" is worth more than "ab", and "▁ab" is made of "▁a" and "b".
        scores[259..].copy_from_slice(&[-10.0, -11.0, -12.0, -3.0, -2.0, -4.0]);
        let described = GgufParts {
            scores: &scores,
            begin: Some(1),
            unknown: Some(0),
            ..parts("llama", &pieces, &kinds)
        };
        let tokenizer = build(&described).unwrap();
        assert_eq!(tokenizer.encode("ab", true).unwrap(), [1, 264]);
        assert_eq!(tokenizer.encode("ab", false).unwrap(), [264]);
        let tokens = tokenizer.encode("aé", false).unwrap();
        assert_eq!(tokens, [263, 3 + 0xc3, 3 + 0xa9]);
        assert_eq!(text(&tokenizer, &tokens), " aé");
    }

    #[test]
    fn descriptions_that_contradict_themselves_are_refused() {
        let pieces = byte_pieces(&[]);
        let refused = |parts: GgufParts<'_>| build(&parts).unwrap_err();
        assert!(matches!(refused(parts("bert", &pieces, &[])), TokenizerError::Model { .. }));
        assert!(matches!(refused(parts("gpt2", &pieces, &[1, 1])), TokenizerError::Lengths { .. }));
        let merges = ["ab".to_owned()];
        let no_pair = GgufParts { merges: &merges, ..parts("gpt2", &pieces, &[]) };
        assert!(matches!(refused(no_pair), TokenizerError::Merge { index: 0 }));
        let unknown_pieces = ["no such".to_owned()];
        let no_piece = GgufParts { merges: &unknown_pieces, ..parts("gpt2", &pieces, &[]) };
        assert!(matches!(refused(no_piece), TokenizerError::Library { .. }));
        let long = ["x".repeat(PIECE_LEN_MAX + 1)];
        assert!(matches!(refused(parts("gpt2", &long, &[])), TokenizerError::PieceLen { id: 0, .. }));
    }
}
