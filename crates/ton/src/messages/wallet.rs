//! What a node wallet accepts from its owner. External messages of the node are in [`crate::wallet`].

use super::{Cell, LayoutError, Reader, bodies};

bodies! {
    /// Messages of its owner to a node wallet.
    WalletMessage, "message to a node wallet" {
        /// Sends a message in the wallet's name.
        Send = 0x9c69_f376 {
            /// How it is sent, as the TVM's `SENDRAWMSG` takes it.
            mode: u8,
            /// The message, without source and fees.
            message: Cell,
        }
    }
}
