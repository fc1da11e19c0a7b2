//! Turns the corpus into token sequences to learn from: conversations, with the carelessness of real typing.

use crate::corpus::{Block, Corpus};
use crate::rng::Rng;
use crate::tokenizer::IM_END;
use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};
use minijinja::{Environment, Value, context};
use tokenizers::Tokenizer;

/// ChatML, as stored in the file; conversations to learn from are rendered with it too.
pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Share of lessons that are bare text, for the completions route.
const BARE_SHARE: f64 = 0.08;
const SYSTEM_SHARE: f64 = 0.35;
const EARLIER_TURN_SHARE: f64 = 0.15;
/// Share of lessons that end after the first tokens of the answer. Those decide which answer it is and take long to
/// learn; the rest is soon known by heart.
const OPENING_SHARE: f64 = 0.75;
const OPENING_LEN: usize = 8;
/// Lessons that are drawn together, sorted by length and cut into batches, so that little is padding.
const BATCHES_PER_DRAW: usize = 8;

pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

pub(crate) fn message(role: &'static str, content: impl Into<String>) -> Message {
    Message { role, content: content.into() }
}

/// Text and tokens of conversations.
pub(crate) struct Speech {
    templates: Environment<'static>,
    tokenizer: Tokenizer,
}

impl Speech {
    pub(crate) fn new(tokenizer: Tokenizer) -> Result<Self> {
        let mut templates = Environment::new();
        templates.add_template("chat", CHAT_TEMPLATE)?;
        Ok(Self { templates, tokenizer })
    }

    /// The text that stands before an answer.
    pub(crate) fn prompt(&self, messages: &[Message]) -> Result<String> {
        let spoken =
            |message: &Message| context! { role => message.role, content => message.content.as_str() };
        let messages: Vec<Value> = messages.iter().map(spoken).collect();
        Ok(self
            .templates
            .get_template("chat")?
            .render(context! { messages, add_generation_prompt => true })?)
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| anyhow!(error))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| anyhow!(error))
    }

    pub(crate) fn end(&self) -> Result<u32> {
        self.tokenizer.token_to_id(IM_END).context("the tokenizer has no end token")
    }
}

/// A sequence whose last part, from `learn_from` on, is to be predicted.
struct Lesson {
    ids: Vec<u32>,
    learn_from: usize,
}

/// Equally long sequences: inputs `(batch, len)`, the places to learn at, and the right next tokens there.
pub(crate) struct Batch {
    pub(crate) ids: Tensor,
    pub(crate) places: Tensor,
    pub(crate) targets: Tensor,
}

pub(crate) struct Teacher<'a> {
    corpus: &'a Corpus,
    speech: &'a Speech,
    rng: Rng,
    /// Each block as often as its weight says.
    deck: Vec<&'a Block>,
    ready: Vec<Vec<Lesson>>,
}

impl<'a> Teacher<'a> {
    pub(crate) fn new(corpus: &'a Corpus, speech: &'a Speech, rng: Rng) -> Self {
        let deck = corpus.blocks.iter().flat_map(|block| std::iter::repeat_n(block, block.weight)).collect();
        Self { corpus, speech, rng, deck, ready: Vec::new() }
    }

    /// `parts` batches of together `size` lessons of similar length.
    pub(crate) fn next_batches(&mut self, size: usize, parts: usize) -> Result<Vec<Batch>> {
        if self.ready.is_empty() {
            let mut lessons =
                (0..size * BATCHES_PER_DRAW).map(|_| self.lesson()).collect::<Result<Vec<_>>>()?;
            lessons.sort_by_key(|lesson| lesson.ids.len());
            while !lessons.is_empty() {
                self.ready.push(lessons.split_off(lessons.len() - size));
            }
            self.rng.shuffle(&mut self.ready);
        }
        let lessons = self.ready.pop().context("a draw makes at least one batch")?;
        lessons.chunks(size.div_ceil(parts)).map(to_batch).collect()
    }

    fn lesson(&mut self) -> Result<Lesson> {
        let block = *self.rng.pick(&self.deck);
        let question = self.question(block);
        let prompt = if self.rng.chance(BARE_SHARE) {
            if self.rng.chance(0.5) { String::new() } else { format!("{question}\n") }
        } else {
            self.conversation(question)?
        };
        let mut ids = self.speech.encode(&prompt)?;
        let learn_from = ids.len().max(1);
        ids.extend(self.speech.encode(&block.answer)?);
        ids.push(self.speech.end()?);
        if self.rng.chance(OPENING_SHARE) {
            ids.truncate(learn_from + OPENING_LEN);
        }
        Ok(Lesson { ids, learn_from })
    }

    fn conversation(&mut self, question: String) -> Result<String> {
        let mut messages = Vec::new();
        if self.rng.chance(SYSTEM_SHARE) {
            messages.push(message("system", self.rng.pick(&self.corpus.systems)));
        }
        while self.rng.chance(EARLIER_TURN_SHARE) && messages.len() < 4 {
            let earlier = *self.rng.pick(&self.deck);
            messages.push(message("user", self.question(earlier)));
            messages.push(message("assistant", &earlier.answer));
        }
        messages.push(message("user", question));
        self.speech.prompt(&messages)
    }

    /// A question of `block` as somebody might type it, never a held-out one.
    fn question(&mut self, block: &Block) -> String {
        loop {
            let template = self.rng.pick(&block.questions);
            let question = self.corpus.fill(template, &mut self.rng);
            let question = vary(question, &mut self.rng);
            if !self.corpus.is_held_out(&question) {
                return question;
            }
        }
    }
}

/// Other openings of the same question.
const OPENINGS: [(&str, &[&str]); 8] = [
    ("How do I ", &["How can I ", "How to ", "How would I ", "How does one ", "How should I "]),
    ("What is ", &["What's ", "Whats ", "what exactly is "]),
    ("Who can ", &["Who is able to ", "Who could "]),
    ("Which ", &["What "]),
    ("Can I ", &["Could I ", "May I ", "Is it possible to "]),
    ("Do you ", &["Will you ", "Can you "]),
    ("Is there ", &["Do you have ", "Is there maybe "]),
    ("Why ", &["And why ", "For what reason "]),
];
const PREFIXES: [&str; 14] = [
    "please tell me: ",
    "hey, ",
    "so, ",
    "hi, ",
    "hello! ",
    "and ",
    "ok, ",
    "tell me, ",
    "I want to know: ",
    "question: ",
    "one question: ",
    "well, ",
    "I have a question. ",
    "now ",
];
const SUFFIXES: [&str; 8] = [" please", " thanks", "?", "??", " :)", " here", " exactly?", " in short"];

fn vary(mut question: String, rng: &mut Rng) -> String {
    if rng.chance(0.3) {
        return question;
    }
    for (opening, others) in OPENINGS {
        if rng.chance(0.3) && question.starts_with(opening) {
            question.replace_range(..opening.len(), rng.pick::<&str>(others));
            break;
        }
    }
    if rng.chance(0.3) {
        question.truncate(question.trim_end_matches(['?', '.', '!']).len());
    }
    if rng.chance(0.15) {
        question.insert_str(0, rng.pick::<&str>(&PREFIXES));
    }
    if rng.chance(0.08) {
        question.push_str(rng.pick::<&str>(&SUFFIXES));
    }
    if rng.chance(0.2) {
        question = misspell(&question, rng);
    }
    match rng.unit() {
        low if low < 0.4 => question.to_lowercase(),
        high if high > 0.98 => question.to_uppercase(),
        _ => question,
    }
}

/// One slip of the finger: a letter lost, doubled, exchanged or replaced.
fn misspell(text: &str, rng: &mut Rng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    if letters.len() < 4 {
        return text.to_owned();
    }
    let place = rng.below(letters.len() - 1);
    match rng.below(4) {
        0 => drop(letters.remove(place)),
        1 => letters.insert(place, letters[place]),
        2 => letters.swap(place, place + 1),
        _ => letters[place] = char::from(*rng.pick(b"abcdefghijklmnopqrstuvwxyz")),
    }
    letters.into_iter().collect()
}

fn to_batch(lessons: &[Lesson]) -> Result<Batch> {
    let len = lessons.iter().map(|lesson| lesson.ids.len() - 1).max().context("a batch is not empty")?;
    let (mut ids, mut places, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (row, lesson) in lessons.iter().enumerate() {
        for place in lesson.learn_from - 1..lesson.ids.len() - 1 {
            places.push(u32::try_from(row * len + place)?);
            targets.push(lesson.ids[place + 1]);
        }
        // What follows the end is never looked at, whatever it is.
        ids.extend_from_slice(&lesson.ids[..lesson.ids.len() - 1]);
        ids.resize((row + 1) * len, 0);
    }
    let count = places.len();
    Ok(Batch {
        ids: Tensor::from_vec(ids, (lessons.len(), len), &Device::Cpu)?,
        places: Tensor::from_vec(places, count, &Device::Cpu)?,
        targets: Tensor::from_vec(targets, count, &Device::Cpu)?,
    })
}
