//! The settlement of a proxy against the real contracts on a devnet: money from clients' wallets to owners of workers, with
//! signed orders, to the nanoton.
//!
//! The chain is the devnet as a value: time moves by hand, and what the settlement asks for is carried out by functions
//! that may delay, drop and repeat.
#![cfg(test)]

mod foreign;
mod life;
mod random;
mod world;
