//! Tiny models with random weights, and ways to ask them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::quantized::gguf_file::{self, Value as Meta};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use cocoon_engine::{Engine, EngineConfig, Source, openai};
use serde_json::{Value, json};

pub(crate) const HIDDEN: usize = 32;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const LAYERS: usize = 2;
pub(crate) const FEED_FORWARD: usize = 64;
pub(crate) const CONTEXT: usize = 256;
pub(crate) const BEGIN: u32 = 256;
pub(crate) const TURN_END: u32 = 258;

/// ChatML, with a switch as Qwen 3 has one.
pub(crate) const TEMPLATE: &str = "{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

/// A model whose weights follow from its family alone.
pub(crate) struct Tiny {
    pub(crate) family: Family,
    /// By their name in safetensors.
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Qwen 3 has heads of another size than the hidden size suggests.
    pub(crate) fn head_dim(self) -> usize {
        if self == Self::Qwen3 { 16 } else { HIDDEN / HEADS }
    }
}

/// The 256 bytes in GPT-2's writing, control tokens, merged pieces.
pub(crate) fn pieces() -> Vec<String> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut shifted = 0x100_u32..;
    let bytes = (0..=0xff_u32).map(|byte| if printable(&byte) { byte } else { shifted.next().unwrap() });
    let mut pieces: Vec<String> = bytes.map(|code| char::from_u32(code).unwrap().to_string()).collect();
    pieces
        .extend(["<s>", "<|im_start|>", "<|im_end|>", "he", "ll", "hell", "hello", "Ġw"].map(str::to_owned));
    pieces
}

pub(crate) const MERGES: [&str; 5] = ["h e", "l l", "he ll", "hell o", "Ġ w"];

impl Tiny {
    pub(crate) fn new(family: Family) -> Self {
        let mut random = SplitMix(family as u64 + 1);
        let (query, kv) = (HEADS * family.head_dim(), KV_HEADS * family.head_dim());
        let vocabulary = pieces().len();
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, dims: &[usize], scale: f32, offset: f32| {
            let values: Vec<f32> =
                (0..dims.iter().product()).map(|_| random.uniform() * scale + offset).collect();
            tensors.insert(name, Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
        };
        add("model.embed_tokens.weight".into(), &[vocabulary, HIDDEN], 1.0, 0.0);
        add("lm_head.weight".into(), &[vocabulary, HIDDEN], 0.6, 0.0);
        add("model.norm.weight".into(), &[HIDDEN], 0.3, 1.0);
        for layer in 0..LAYERS {
            let mut add = |name: &str, dims: &[usize], scale, offset| {
                add(format!("model.layers.{layer}.{name}"), dims, scale, offset);
            };
            add("input_layernorm.weight", &[HIDDEN], 0.3, 1.0);
            add("post_attention_layernorm.weight", &[HIDDEN], 0.3, 1.0);
            add("self_attn.q_proj.weight", &[query, HIDDEN], 0.5, 0.0);
            add("self_attn.k_proj.weight", &[kv, HIDDEN], 0.5, 0.0);
            add("self_attn.v_proj.weight", &[kv, HIDDEN], 0.5, 0.0);
            add("self_attn.o_proj.weight", &[HIDDEN, query], 0.5, 0.0);
            add("mlp.gate_proj.weight", &[FEED_FORWARD, HIDDEN], 0.4, 0.0);
            add("mlp.up_proj.weight", &[FEED_FORWARD, HIDDEN], 0.4, 0.0);
            add("mlp.down_proj.weight", &[HIDDEN, FEED_FORWARD], 0.4, 0.0);
            if family == Family::Qwen2 {
                add("self_attn.q_proj.bias", &[query], 0.5, 0.0);
                add("self_attn.k_proj.bias", &[kv], 0.5, 0.0);
                add("self_attn.v_proj.bias", &[kv], 0.5, 0.0);
            }
            if family == Family::Qwen3 {
                add("self_attn.q_norm.weight", &[family.head_dim()], 0.3, 1.0);
                add("self_attn.k_norm.weight", &[family.head_dim()], 0.3, 1.0);
            }
        }
        Self { family, tensors }
    }

    /// Writes `config.json`, `tokenizer.json`, `tokenizer_config.json` and the tensors.
    pub(crate) fn write_safetensors(&self, folder: &Path) {
        let config = json!({
            "model_type": self.family.name(), "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
            "head_dim": self.family.head_dim(), "vocab_size": pieces().len(), "rms_norm_eps": 1e-5,
            "max_position_embeddings": CONTEXT, "rope_theta": 10000.0, "tie_word_embeddings": false,
            "hidden_act": "silu", "eos_token_id": TURN_END, "rope_scaling": null,
        });
        let write = |name: &str, value: &Value| {
            std::fs::write(folder.join(name), serde_json::to_vec(value).unwrap()).unwrap();
        };
        write("config.json", &config);
        write("tokenizer.json", &tokenizer_json());
        let tokens =
            json!({"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "chat_template": TEMPLATE});
        write("tokenizer_config.json", &tokens);
        let tensors: std::collections::HashMap<String, Tensor> = self.tensors.clone().into_iter().collect();
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
    }

    /// The metadata of the same model as GGUF.
    pub(crate) fn metadata(&self) -> Vec<(String, Meta)> {
        let arch = self.family.name();
        let own = |name: &str| format!("{arch}.{name}");
        let size = |value: usize| Meta::U32(u32::try_from(value).unwrap());
        let texts = |texts: Vec<String>| Meta::Array(texts.into_iter().map(Meta::String).collect());
        let kinds = (0..pieces().len()).map(|id| Meta::I32(if (256..259).contains(&id) { 3 } else { 1 }));
        vec![
            ("general.architecture".into(), Meta::String(arch.into())),
            (own("block_count"), size(LAYERS)),
            (own("embedding_length"), size(HIDDEN)),
            (own("feed_forward_length"), size(FEED_FORWARD)),
            (own("context_length"), size(CONTEXT)),
            (own("attention.head_count"), size(HEADS)),
            (own("attention.head_count_kv"), size(KV_HEADS)),
            (own("attention.key_length"), size(self.family.head_dim())),
            (own("attention.layer_norm_rms_epsilon"), Meta::F32(1e-5)),
            (own("rope.freq_base"), Meta::F32(10_000.0)),
            (own("rope.dimension_count"), size(self.family.head_dim())),
            ("tokenizer.ggml.model".into(), Meta::String("gpt2".into())),
            ("tokenizer.ggml.pre".into(), Meta::String("gpt-2".into())),
            ("tokenizer.ggml.tokens".into(), texts(pieces())),
            ("tokenizer.ggml.token_type".into(), Meta::Array(kinds.collect())),
            ("tokenizer.ggml.merges".into(), texts(MERGES.map(str::to_owned).to_vec())),
            ("tokenizer.ggml.bos_token_id".into(), Meta::U32(BEGIN)),
            ("tokenizer.ggml.eos_token_id".into(), Meta::U32(TURN_END)),
            ("tokenizer.chat_template".into(), Meta::String(TEMPLATE.into())),
        ]
    }

    /// The tensors under their GGUF names; matrices as `dtype`, vectors as f32.
    pub(crate) fn gguf_tensors(&self, dtype: GgmlDType) -> Vec<(String, QTensor)> {
        let convert = |(name, tensor): (&String, &Tensor)| {
            let tensor = match self.family {
                Family::Llama if name.contains("q_proj") => adjacent_pairs(tensor, HEADS),
                Family::Llama if name.contains("k_proj") => adjacent_pairs(tensor, KV_HEADS),
                _ => tensor.clone(),
            };
            let dtype = if tensor.rank() == 2 { dtype } else { GgmlDType::F32 };
            (gguf_name(name), QTensor::quantize(&tensor, dtype).unwrap())
        };
        self.tensors.iter().map(convert).collect()
    }

    pub(crate) fn write_gguf(&self, path: &Path, dtype: GgmlDType) {
        write_gguf(path, &self.metadata(), &self.gguf_tensors(dtype));
    }
}

pub(crate) fn write_gguf(path: &Path, metadata: &[(String, Meta)], tensors: &[(String, QTensor)]) {
    let metadata: Vec<(&str, &Meta)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// GGUF files of the llama architecture store the rows of each head so that rotated pairs are neighbours.
fn adjacent_pairs(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = tensor.dims2().unwrap();
    let pairs = rows / heads / 2;
    let halves = tensor.reshape((heads, 2, pairs, columns)).unwrap();
    halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, columns)).unwrap()
}

fn gguf_name(name: &str) -> String {
    let table = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    table.iter().fold(name.to_owned(), |name, (theirs, gguf)| name.replace(theirs, gguf))
}

fn tokenizer_json() -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        pieces().into_iter().enumerate().map(|(id, piece)| (piece, id.into())).collect();
    let special = |id: u32| {
        json!({"id": id, "content": pieces()[id as usize], "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0,
        "direction": "Right"}, "padding": null, "added_tokens": [special(256), special(257), special(258)],
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": MERGES},
    })
}

/// The same numbers on every machine and with every version of every library.
struct SplitMix(u64);

impl SplitMix {
    /// Between -1 and 1.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u16::try_from((z ^ (z >> 31)) >> 48).unwrap();
        f32::from(bits) / 32_768.0 - 1.0
    }
}

/// A fixed time: 2025-11-21 14:24:05 UTC.
pub(crate) fn now() -> Duration {
    Duration::from_secs(1_763_735_045)
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig { threads: 2, ..EngineConfig::new(now) }
}

/// An engine with a tiny model of the Llama family.
pub(crate) fn engine(config: EngineConfig) -> Engine {
    engine_with(config, |_| {})
}

/// The same with a context that takes minutes to fill: its long answers end because something ends them.
pub(crate) fn patient_engine(config: EngineConfig) -> Engine {
    let config = EngineConfig { context_len_max: 1 << 16, ..config };
    engine_with(config, |metadata| {
        metadata.retain(|(key, _)| key != "llama.context_length");
        metadata.push(("llama.context_length".into(), Meta::U32(1 << 16)));
    })
}

fn engine_with(config: EngineConfig, change: impl FnOnce(&mut Vec<(String, Meta)>)) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("tiny.gguf");
    let tiny = Tiny::new(Family::Llama);
    let mut metadata = tiny.metadata();
    change(&mut metadata);
    write_gguf(&path, &metadata, &tiny.gguf_tensors(GgmlDType::F32));
    Engine::load(&Source::Gguf(path), config).unwrap()
}

/// Status and body of a request.
pub(crate) async fn ask(engine: &Engine, path: &str, body: &Value) -> (u16, Vec<u8>) {
    let mut response = openai::respond(engine, path, &serde_json::to_vec(body).unwrap()).await;
    let mut bytes = Vec::new();
    while let Some(piece) = response.body.recv().await {
        bytes.extend_from_slice(&piece);
    }
    (response.status, bytes)
}

/// The JSON of a request that must succeed.
pub(crate) async fn answer(engine: &Engine, path: &str, body: &Value) -> Value {
    let (status, bytes) = ask(engine, path, body).await;
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The error object of a request that must be refused.
pub(crate) async fn refusal(engine: &Engine, path: &str, body: &Value) -> (u16, Value) {
    let (status, bytes) = ask(engine, path, body).await;
    assert_ne!(status, 200, "{body} was accepted");
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    (status, value["error"].clone())
}

/// The events of a stream, which must end with the end mark.
pub(crate) async fn events(engine: &Engine, path: &str, body: &Value) -> Vec<Value> {
    let (status, bytes) = ask(engine, path, body).await;
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(status, 200, "{text}");
    let text = text.strip_suffix("data: [DONE]\n\n").expect("a stream ends with [DONE]");
    let event = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    text.split_terminator("\n\n").map(event).collect()
}

/// A chat request for at most `tokens` tokens, greedy.
pub(crate) fn chat(text: &str, tokens: usize) -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0})
}

/// `base` with the members of `more`.
pub(crate) fn with(mut base: Value, more: Value) -> Value {
    let (Value::Object(members), Value::Object(more)) = (&mut base, more) else { panic!("not objects") };
    members.extend(more);
    base
}

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";

/// A token in the API's notation: its text, or `bytes:` and its bytes if they are no text by themselves.
pub(crate) fn token_text(id: u32) -> String {
    match u8::try_from(id) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        Ok(byte) => format!("bytes:\\x{byte:02x}"),
        Err(_) if (256..259).contains(&id) => String::new(),
        Err(_) => pieces()[id as usize].replace('Ġ', " "),
    }
}
