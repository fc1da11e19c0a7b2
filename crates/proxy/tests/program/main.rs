//! The proxy as a program, on real sockets, between peers that know the protocol and nothing else.
#![cfg(test)]

mod face;
mod links;
mod on_chain;
mod peers;
mod sealed;
