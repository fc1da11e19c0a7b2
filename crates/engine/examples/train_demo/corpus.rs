//! Reads `demo/corpus.txt`; its head describes the format.

use crate::rng::Rng;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;

pub(crate) struct Corpus {
    pub(crate) blocks: Vec<Block>,
    pub(crate) systems: Vec<String>,
    lists: Vec<(String, Vec<String>)>,
    held_out: BTreeSet<String>,
}

/// One answer and everything that asks for it.
pub(crate) struct Block {
    pub(crate) weight: usize,
    /// Trained on; `{word}` stands for an entry of a list.
    pub(crate) questions: Vec<String>,
    /// Never trained on.
    pub(crate) held_out: Vec<String>,
    pub(crate) answer: String,
}

impl Corpus {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (mut forms, mut systems, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        let mut blocks = Vec::new();
        let body: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        for section in body.split("\n\n").map(str::trim).filter(|section| !section.is_empty()) {
            let (head, lines) =
                section.split_once('\n').with_context(|| format!("{section:?} has no lines"))?;
            let lines = lines.lines().map(str::to_owned);
            match head {
                "[forms]" => forms = lines.collect(),
                "[systems]" => systems = lines.collect(),
                "[lists]" => lists = lines.map(|line| parse_list(&line)).collect::<Result<_>>()?,
                _ => blocks.push(Block::parse(head, lines, &forms).with_context(|| format!("in {head}"))?),
            }
        }
        let held_out =
            blocks.iter().flat_map(|block: &Block| &block.held_out).map(|text| plain(text)).collect();
        let corpus = Self { blocks, systems, lists, held_out };
        for question in corpus.blocks.iter().flat_map(|block| &block.questions) {
            ensure!(!corpus.is_held_out(question), "{question:?} is both trained on and held out");
        }
        Ok(corpus)
    }

    /// Whether `question` is a held-out one, apart from case and punctuation.
    pub(crate) fn is_held_out(&self, question: &str) -> bool {
        self.held_out.contains(&plain(question))
    }

    /// Replaces every `{word}` by an entry of its list.
    pub(crate) fn fill(&self, template: &str, rng: &mut Rng) -> String {
        let mut filled = template.to_owned();
        for (name, entries) in &self.lists {
            let slot = format!("{{{name}}}");
            while filled.contains(&slot) {
                filled = filled.replacen(&slot, rng.pick::<String>(entries), 1);
            }
        }
        filled
    }

    /// Every piece of text, answers more than once: what the tokenizer learns its merges from.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts = self.systems.clone();
        // The roles stand in every conversation, so each is to be one token.
        texts.extend(["system", "user", "assistant"].into_iter().flat_map(|role| vec![role.to_owned(); 100]));
        texts.extend(
            self.lists.iter().flat_map(|(_, entries)| entries.iter().map(|entry| format!(" {entry}"))),
        );
        for block in &self.blocks {
            texts.extend(std::iter::repeat_n(block.answer.clone(), 4));
            for question in &block.questions {
                texts.push(question.clone());
                texts.push(question.to_lowercase());
            }
        }
        texts
    }
}

impl Block {
    fn parse(head: &str, lines: impl Iterator<Item = String>, forms: &[String]) -> Result<Self> {
        let (_, weight) = head
            .strip_prefix('[')
            .and_then(|head| head.split_once(']'))
            .context("a block begins with [name]")?;
        let weight = if weight.is_empty() {
            1
        } else {
            weight.trim().parse().context("the weight is not a number")?
        };
        let (mut questions, mut held_out, mut answer) = (Vec::new(), Vec::new(), None);
        for line in lines {
            match line.split_once(": ") {
                Some(("N", thing)) => questions.extend(forms.iter().map(|form| define(form, thing))),
                Some(("Q", question)) => questions.push(question.to_owned()),
                Some(("H", question)) => held_out.push(question.to_owned()),
                Some(("A", text)) if answer.is_none() => answer = Some(text.to_owned()),
                _ => bail!("unexpected line {line:?}"),
            }
        }
        ensure!(!questions.is_empty(), "no question");
        Ok(Self { weight, questions, held_out, answer: answer.context("no answer")? })
    }
}

fn parse_list(line: &str) -> Result<(String, Vec<String>)> {
    let (name, entries) = line.split_once(": ").context("a list is written `name: entry | entry`")?;
    Ok((name.to_owned(), entries.split(" | ").map(str::to_owned).collect()))
}

/// Puts `thing` into a form: with its article as `{a}`, without it as `{bare}`.
fn define(form: &str, thing: &str) -> String {
    let bare = ["a ", "an ", "the "].iter().find_map(|article| thing.strip_prefix(article)).unwrap_or(thing);
    form.replace("{a}", thing).replace("{bare}", bare)
}

/// The letters and digits of a question: what remains when case, spaces and punctuation are ignored.
fn plain(question: &str) -> String {
    question.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "# a comment\n[forms]\nWhat is {a}?\n{bare}\n\n[lists]\nfood: rice | soup\n\n[proxy] 2\nN: a proxy\nH: Describe a proxy.\nA: It connects.\n\n[unknown]\nQ: Cook {food}.\nA: No.\n";

    #[test]
    fn blocks_forms_and_lists_are_read() -> Result<()> {
        let corpus = Corpus::parse(SMALL)?;
        assert_eq!(corpus.blocks[0].questions, ["What is a proxy?", "proxy"]);
        assert_eq!(corpus.blocks[0].weight, 2);
        assert_eq!(corpus.blocks[1].weight, 1);
        assert!(corpus.is_held_out("describe a proxy"));
        assert!(!corpus.is_held_out("proxy"));
        let filled = corpus.fill("Cook {food}.", &mut Rng::new(1));
        assert!(["Cook rice.", "Cook soup."].contains(&filled.as_str()), "{filled}");
        Ok(())
    }

    #[test]
    fn mistakes_are_refused() {
        let questions_after = |lines: &str| Corpus::parse(&format!("[name]\n{lines}\n"));
        assert!(questions_after("Q: Who?\nA: I.").is_ok());
        assert!(questions_after("Q: Who?").is_err(), "no answer");
        assert!(questions_after("A: I.").is_err(), "no question");
        assert!(questions_after("Q: Who?\nA: I.\nA: You.").is_err(), "two answers");
        assert!(questions_after("Q: Who?\nB: I.").is_err(), "unknown kind of line");
        assert!(questions_after("Q: Who?\nH: who\nA: I.").is_err(), "trained on and held out");
    }
}
