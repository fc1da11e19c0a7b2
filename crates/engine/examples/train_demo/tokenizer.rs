//! A byte-level BPE in the manner of GPT-2, learned from the corpus.

use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

pub(crate) const VOCABULARY_LEN: usize = 1024;
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";
pub(crate) const IM_START: &str = "<|im_start|>";
pub(crate) const IM_END: &str = "<|im_end|>";
/// The last entries of the vocabulary, in this order.
pub(crate) const SPECIALS: [&str; 3] = [END_OF_TEXT, IM_START, IM_END];

/// What a GGUF file stores of a tokenizer.
pub(crate) struct Vocabulary {
    /// Bytes, then merged pieces, then [`SPECIALS`].
    pub(crate) tokens: Vec<String>,
    /// Pairs of tokens in the order of merging.
    pub(crate) merges: Vec<(String, String)>,
}

impl Vocabulary {
    /// Merges the most frequent pair again and again; among equals the one with the lowest numbers.
    pub(crate) fn learn(texts: &[String]) -> Result<Self> {
        let mut tokens: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
        tokens.sort();
        let mut words: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for text in texts {
            for word in split(text)? {
                let letters = word.chars().map(|letter| tokens.binary_search(&letter.to_string()));
                let letters = letters.collect::<Result<_, _>>().map_err(|place: usize| {
                    anyhow!("a letter of {word:?} is missing at {place} of the byte alphabet")
                })?;
                *words.entry(letters).or_default() += 1;
            }
        }
        let mut merges = Vec::new();
        while tokens.len() + SPECIALS.len() < VOCABULARY_LEN {
            let mut pairs: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            for (word, count) in &words {
                for pair in word.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += count;
                }
            }
            let Some((&pair, _)) = pairs.iter().max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair)))
            else {
                break;
            };
            words =
                words.into_iter().map(|(word, count)| (merge(&word, pair, tokens.len()), count)).collect();
            merges.push((tokens[pair.0].clone(), tokens[pair.1].clone()));
            tokens.push(format!("{}{}", tokens[pair.0], tokens[pair.1]));
        }
        tokens.extend(SPECIALS.map(str::to_owned));
        Ok(Self { tokens, merges })
    }

    pub(crate) fn tokenizer(&self) -> Result<Tokenizer> {
        let numbered = (0u32..).zip(&self.tokens).map(|(id, token)| (token.clone(), id));
        let model = BPE::builder()
            .vocab_and_merges(numbered.collect::<tokenizers::models::bpe::Vocab>(), self.merges.clone());
        let mut tokenizer = Tokenizer::new(model.build().map_err(|error| anyhow!(error))?);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        tokenizer
            .add_special_tokens(SPECIALS.map(|special| AddedToken::from(special, true)))
            .map_err(|error| anyhow!(error))?;
        Ok(tokenizer)
    }
}

/// The words of a text after GPT-2's splitting, in its byte alphabet.
fn split(text: &str) -> Result<Vec<String>> {
    let mut words = PreTokenizedString::from(text);
    ByteLevel::new(false, false, true).pre_tokenize(&mut words).map_err(|error| anyhow!(error))?;
    let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
}

fn merge(word: &[usize], pair: (usize, usize), merged: usize) -> Vec<usize> {
    let mut result = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        if *first == pair.0 && tail.first() == Some(&pair.1) {
            result.push(merged);
            rest = &tail[1..];
        } else {
            result.push(*first);
            rest = tail;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() -> Result<()> {
        let texts = ["the proxy and the worker".to_owned(), "the client".to_owned()];
        let vocabulary = Vocabulary::learn(&texts)?;
        let tokenizer = vocabulary.tokenizer()?;
        for text in ["the proxy", "Ünïcode 123\n\tand 😀", "<|im_start|>user\nHi<|im_end|>\n"] {
            let encoding = tokenizer.encode(text, false).map_err(|error| anyhow!(error))?;
            assert_eq!(tokenizer.decode(encoding.get_ids(), false).map_err(|error| anyhow!(error))?, text);
        }
        Ok(())
    }

    #[test]
    fn the_most_frequent_pair_is_merged_first() -> Result<()> {
        let vocabulary = Vocabulary::learn(&["abab abc".to_owned()])?;
        assert_eq!(vocabulary.merges[0], ("a".to_owned(), "b".to_owned()));
        assert_eq!(vocabulary.tokens[256], "ab");
        Ok(())
    }
}
