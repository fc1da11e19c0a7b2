//! The proxy's core without sockets: whom it admits, what it forwards, what it charges.
#![cfg(test)]

mod admission;
mod agreement;
mod answers;
mod cancel;
mod chaos;
mod choice;
mod client_handshake;
mod durable;
mod endings;
mod fairness;
mod flow;
mod moving;
mod on_chain;
mod replay;
mod upload;
mod worker_handshake;
mod world;
