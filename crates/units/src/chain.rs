//! Orders on TON: of blocks, and of what happens in them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares a position in an order that only grows.
macro_rules! position {
    ($(#[$doc:meta])* $name:ident: $repr:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Wraps the number as the chain has it.
            #[must_use]
            pub const fn new(position: $repr) -> Self {
                Self(position)
            }

            /// The number as the chain has it.
            #[must_use]
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

position! {
    /// The number of a block in its shard.
    BlockSeqno: u32
}
position! {
    /// Logical time: what caused something has a smaller one. Of one account, no two transactions share theirs.
    LogicalTime: u64
}
