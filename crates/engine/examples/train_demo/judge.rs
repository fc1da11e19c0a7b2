//! Asks a finished file questions, with candle's own Llama, and counts the right answers.

use crate::corpus::Corpus;
use crate::gguf;
use crate::lesson::{Message, Speech, message};
use crate::model::{CONTEXT_LEN, Model};
use crate::rng::Rng;
use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use std::io::Cursor;

pub(crate) struct Judge {
    weights: ModelWeights,
    pub(crate) speech: Speech,
}

impl Judge {
    pub(crate) fn new(file: &[u8]) -> Result<Self> {
        let content = gguf::read(file)?;
        let speech = Speech::new(gguf::vocabulary(&content)?.tokenizer()?)?;
        let weights = ModelWeights::from_gguf(content, &mut Cursor::new(file), &Device::Cpu)?;
        Ok(Self { weights, speech })
    }

    fn logits(&mut self, ids: &[u32], position: usize) -> Result<Tensor> {
        Ok(self.weights.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, position)?.squeeze(0)?)
    }

    /// The most likely answer.
    pub(crate) fn answer(&mut self, messages: &[Message]) -> Result<String> {
        let mut ids = self.speech.encode(&self.speech.prompt(messages)?)?;
        let end = self.speech.end()?;
        let prompt_len = ids.len();
        let mut logits = self.logits(&ids, 0)?;
        while ids.len() < CONTEXT_LEN {
            let next = logits.argmax(D::Minus1)?.to_scalar::<u32>()?;
            if next == end {
                break;
            }
            logits = self.logits(&[next], ids.len())?;
            ids.push(next);
        }
        self.speech.decode(&ids[prompt_len..])
    }

    /// Largest difference between the logits of this file and those of the network as it was trained.
    pub(crate) fn distance(&mut self, model: &Model, question: &str) -> Result<f32> {
        let ids = self.speech.encode(&self.speech.prompt(&[message("user", question)])?)?;
        let batch = Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let last = Tensor::new(&[u32::try_from(ids.len() - 1)?], &Device::Cpu)?;
        let trained = model.logits(&batch, &last)?.squeeze(0)?;
        Ok((trained - self.logits(&ids, 0)?)?.abs()?.max_all()?.to_scalar::<f32>()?)
    }

    /// Prints how many questions get exactly their answer: those trained on, and those held out.
    pub(crate) fn measure(&mut self, corpus: &Corpus) -> Result<()> {
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

/// Refuses a file whose unrounded twin does not compute what was trained.
pub(crate) fn compare(model: &Model, unrounded: &[u8], rounded: &[u8]) -> Result<()> {
    let question = "What is Cocoon?";
    let distance = Judge::new(unrounded)?.distance(model, question).context("the unrounded file")?;
    println!("largest difference of logits, unrounded: {distance:.6}");
    ensure!(distance < 1e-3, "the file computes something else than the network that was trained");
    println!(
        "largest difference of logits, as written: {:.6}",
        Judge::new(rounded)?.distance(model, question)?
    );
    Ok(())
}
