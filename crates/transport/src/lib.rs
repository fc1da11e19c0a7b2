//! Links between Cocoon peers: TCP, proof of work, mutual TLS 1.3, and the frames of `wire` on top.
//!
//! Here so far: what is exchanged before the first frame. Follows the wire protocol of the deployed network.
#![forbid(unsafe_code)]

pub mod clock;
pub mod peer_header;
pub mod pow;
