//! The objects of `spec/wire.tl`, one module per namespace.

pub mod client;
pub mod http;
pub mod key_manager;
pub mod peer;
pub mod proxy;
pub mod stream;
pub mod tcp;
pub mod worker;

use crate::macros::tl_struct;

tl_struct! {
    /// What a request cost, in adjusted tokens: raw tokens times the prices of their kinds.
    #[derive(Copy, Default, Eq)]
    pub struct TokensUsed = tokensUsed {
        /// Prompt tokens that no cache answered.
        prompt_tokens_used: i64,
        /// Prompt tokens that a prefix cache answered.
        cached_tokens_used: i64,
        /// Generated tokens of the visible answer.
        completion_tokens_used: i64,
        /// Tokens generated before the visible answer.
        reasoning_tokens_used: i64,
        /// The sum of the others.
        total_tokens_used: i64,
    }
}
