//! What a proxy contract accepts from people and nodes.

use units::NanoTon;

use super::{Cell, LayoutError, Reader, bodies};
use crate::Address;

bodies! {
    /// Unsigned messages to a proxy contract. Each needs 0.1 TON beside the amount it moves.
    ProxyMessage, "message to a proxy contract" {
        /// From anyone: pays the owner what he has earned.
        Payout = 0x7610_e6eb {
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From anyone: the amount comes with the message and goes to the stake. Below `min_proxy_stake` the
        /// contract takes no deposits of clients.
        IncreaseStake = 0x9713_f187 {
            /// What the stake grows by.
            amount: NanoTon,
            /// Where the rest of the message's value goes.
            excess: Address,
        }
        /// From the owner: begins to close.
        Close = 0xb51d_5a01 {
            /// Where the rest of the message's value goes.
            excess: Address,
        }
    }
}
