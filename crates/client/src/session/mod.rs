//! What a client and a proxy agree on and tell each other: the handshake, the account, requests and answers.
//!
//! Nothing here reads a socket or a clock: messages go in, messages and facts come out. Whatever a proxy says is
//! checked; a wrong value ends one connection or one request, never the process.

mod account;
mod answer;
mod error;
mod handshake;
mod message;
#[cfg(test)]
mod tests;

pub(crate) use account::{Accounts, Contracts};
pub(crate) use answer::{AnswerState, End, FinalInfo, Step, refusal, request_of};
pub(crate) use error::SessionError;
pub(crate) use handshake::{ExpectConnected, Party, Session};
pub(crate) use message::{FromProxy, Models, Outgoing, RequestMessage};
