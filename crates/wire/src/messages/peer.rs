//! Version 3: what peers tell each other about themselves. Ours, not part of the deployed network.

use crate::macros::tl_struct;

tl_struct! {
    /// What the sender can do in version 3: the first packet each way after the answer that chose that version.
    #[derive(Copy, Eq)]
    pub struct Capabilities = peer.capabilities {
        #flags,
        /// One bit each.
        capabilities: i64,
    }
}

tl_struct! {
    /// The proxy takes no more requests on this link; those that run go on.
    #[derive(Copy, Eq)]
    pub struct GoingAway = peer.goingAway {}
}
