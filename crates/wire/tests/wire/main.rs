//! The crate against its schema, its golden vectors and recorded conversations.
#![cfg(test)]

// The name under which the workspace knows the crate.
extern crate cocoon_wire as wire;

mod constructors;
mod properties;
mod recorded;
mod schema;
mod vectors;
