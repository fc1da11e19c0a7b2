//! Trains the demo model of Cocoon from `demo/corpus.txt` and writes `demo/cocoon-demo.gguf`.
//!
//! ```text
//! cargo run --release -p cocoon-engine --example train_demo               train, write, measure
//! cargo run --release -p cocoon-engine --example train_demo -- --check    does the file belong to the corpus?
//! cargo run --release -p cocoon-engine --example train_demo -- --measure  count right answers
//! cargo run --release -p cocoon-engine --example train_demo -- --ask "What is Cocoon?"
//! ```
//!
//! Everything random comes from one seed through a generator of its own, so that on one kind of processor the same
//! corpus gives the same bytes. `demo/CARD.md` says what was measured.

mod by_row;
mod corpus;
mod gguf;
mod judge;
mod lesson;
mod model;
mod rng;
mod tokenizer;
mod train;

use anyhow::{Context, Result, bail};
use candle_core::quantized::GgmlDType;
use std::fs;
use std::path::Path;
use std::process::Command;

const SEED: u64 = 2026;
const STEPS: usize = 2400;
const FORMAT: GgmlDType = GgmlDType::Q8_0;

/// Candle's threads wait for each other by spinning, which is slow on a busy machine, and how they share work may
/// change the last bits. So it gets one thread; training makes its own.
const CANDLE_THREADS: &str = "RAYON_NUM_THREADS";
/// Keeps glibc from giving the memory of every tensor back to the kernel: a fifth of the time. Others ignore it.
const KEEP_MEMORY: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "1073741824")];

fn main() -> Result<()> {
    // Both are read before main, so that they can only be set for another process.
    if std::env::var(CANDLE_THREADS).as_deref() != Ok("1") {
        let mut again = Command::new(std::env::current_exe()?);
        again.args(std::env::args_os().skip(1)).env(CANDLE_THREADS, "1").envs(KEEP_MEMORY);
        std::process::exit(again.status()?.code().unwrap_or(1));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let text = fs::read_to_string(folder.join("corpus.txt")).context("cannot read the corpus")?;
    let corpus = corpus::Corpus::parse(&text)?;
    let origin = gguf::Origin { corpus_sha256: gguf::sha256(text.as_bytes()), seed: SEED, steps: STEPS };
    let path = folder.join("cocoon-demo.gguf");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let file = make(&corpus, &origin)?;
            fs::write(&path, &file).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{} bytes, SHA-256 {}", file.len(), gguf::sha256(&file));
            judge::Judge::new(&path)?.measure(&corpus)
        }
        ["--check"] => {
            gguf::check(&gguf::read(&read(&path)?)?, &origin)?;
            println!("the demo model belongs to corpus {} and seed {SEED}", origin.corpus_sha256);
            Ok(())
        }
        ["--measure"] => judge::Judge::new(&path)?.measure(&corpus),
        ["--ask", question] => {
            println!("{}", judge::Judge::new(&path)?.answer(&[lesson::message("user", question)])?);
            Ok(())
        }
        _ => bail!("unknown arguments; give none, --check, --measure or --ask QUESTION"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn make(corpus: &corpus::Corpus, origin: &gguf::Origin) -> Result<Vec<u8>> {
    let vocabulary = tokenizer::Vocabulary::learn(&corpus.texts())?;
    let speech = lesson::Speech::new(vocabulary.tokenizer()?)?;
    let model = model::Model::new(vocabulary.tokens.len(), &mut rng::Rng::new(origin.seed))?;
    println!("corpus {}, seed {}", origin.corpus_sha256, origin.seed);
    println!("{} answers, {} weights", corpus.blocks.len(), model.parameter_count());
    let mut teacher = lesson::Teacher::new(corpus, &speech, rng::Rng::new(!origin.seed));
    let loss = train::train(&model, &mut teacher, origin.steps)?;
    println!("last loss {loss:.4}");
    let unrounded = gguf::write(&model, &vocabulary, origin, GgmlDType::F32)?;
    let rounded = gguf::write(&model, &vocabulary, origin, FORMAT)?;
    judge::compare(&model, &speech, &unrounded)?;
    Ok(rounded)
}
