//! Asks a finished file questions, through the engine that will serve it, and counts the right answers.

use crate::corpus::Corpus;
use crate::lesson::{Message, Speech, message};
use crate::model::{CONTEXT_LEN, Model};
use crate::rng::Rng;
use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};
use cocoon_engine::{Engine, EngineConfig, Source, openai};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Judge {
    engine: Engine,
    runtime: Runtime,
}

impl Judge {
    pub(crate) fn new(file: &Path) -> Result<Self> {
        // The time stands in answers and decides nothing.
        let engine = Engine::load(&Source::Gguf(file.to_owned()), EngineConfig::new(|| Duration::ZERO))?;
        Ok(Self { engine, runtime: Builder::new_current_thread().build()? })
    }

    /// The most likely answer.
    pub(crate) fn answer(&self, messages: &[Message]) -> Result<String> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| json!({ "role": message.role, "content": message.content }))
            .collect();
        let body = json!({ "model": self.engine.model_id().base(), "messages": messages, "temperature": 0 });
        let answer = self.runtime.block_on(async {
            let body = body.to_string();
            let mut response = openai::respond(&self.engine, "/v1/chat/completions", body.as_bytes()).await;
            response.body.recv().await
        });
        let answer: Value = serde_json::from_slice(&answer.context("the engine ended without an answer")?)?;
        let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
        Ok(text.with_context(|| format!("the engine answered {answer}"))?.to_owned())
    }

    /// Prints how many questions get exactly their answer: those trained on, and those held out.
    pub(crate) fn measure(&self, corpus: &Corpus) -> Result<()> {
        let mut rng = Rng::new(1);
        let mut trained = Score::default();
        let mut held_out = Score::default();
        let mut held_out_with_system = Score::default();
        for block in &corpus.blocks {
            for template in &block.questions {
                let question = corpus.fill(template, &mut rng);
                trained.add(&question, &block.answer, &self.answer(&[message("user", &question)])?);
            }
            for question in &block.held_out {
                held_out.add(question, &block.answer, &self.answer(&[message("user", question)])?);
                let messages = [message("system", "You are a helpful assistant."), message("user", question)];
                held_out_with_system.add(question, &block.answer, &self.answer(&messages)?);
            }
        }
        trained.print("questions trained on");
        held_out.print("questions held out");
        held_out_with_system.print("questions held out, with a system message");
        Ok(())
    }
}

#[derive(Default)]
struct Score {
    right: usize,
    wrong: Vec<(String, String)>,
}

impl Score {
    fn add(&mut self, question: &str, expected: &str, answer: &str) {
        if answer == expected {
            self.right += 1;
        } else {
            self.wrong.push((question.to_owned(), answer.to_owned()));
        }
    }

    fn print(&self, name: &str) {
        let all = self.right + self.wrong.len();
        println!(
            "{name}: {} of {all} answered exactly ({:.1} %)",
            self.right,
            100.0 * self.right as f64 / all as f64
        );
        for (question, answer) in &self.wrong {
            println!("    {question}\n      {answer}");
        }
    }
}

/// Refuses an unrounded file from which the engine answers otherwise than the network that was trained: then the file
/// was written wrongly.
pub(crate) fn compare(model: &Model, speech: &Speech, unrounded: &[u8]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("unrounded.gguf");
    std::fs::write(&path, unrounded)?;
    let judge = Judge::new(&path)?;
    for question in ["What is Cocoon?", "Who pays the workers?", "What is the capital of Peru?"] {
        let messages = [message("user", question)];
        let (trained, served) = (greedy(model, speech, &messages)?, judge.answer(&messages)?);
        ensure!(trained == served, "to {question:?} the network says {trained:?} and its file {served:?}");
    }
    Ok(())
}

/// The most likely answer of the network as it was trained.
fn greedy(model: &Model, speech: &Speech, messages: &[Message]) -> Result<String> {
    let mut ids = speech.encode(&speech.prompt(messages)?)?;
    let (prompt_len, end) = (ids.len(), speech.end()?);
    while ids.len() < CONTEXT_LEN {
        let batch = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let last = Tensor::new(&[u32::try_from(ids.len() - 1)?], &Device::Cpu)?;
        let next = model.logits(&batch, &last)?.squeeze(0)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
        if next == end {
            break;
        }
        ids.push(next);
    }
    speech.decode(&ids[prompt_len..])
}
