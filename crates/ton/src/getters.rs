//! Get methods of the contracts: what they are asked, and what their answers mean.
//!
//! `contracts/src` has the methods of a network's own contracts; [`GetSeqno`] and [`GetPublicKey`] are those of every wallet.
//! Whoever has a TVM or a server of one runs [`Getter::method`] with [`Getter::arguments`] and gives
//! [`Getter::answer`] what came out.

mod value;

use units::{AdjustedTokens, ConfigVersion, ImageHash, ModelHash, Multiplier, NanoTon, PublicKey};

pub use value::ValueError;
use value::read_all;

use crate::stack::StackValue;
use crate::states::ContractState;
use crate::{Address, Seconds};

/// A question to a contract.
pub trait Getter {
    /// What the contract says.
    type Answer;

    /// The method's name.
    fn method(&self) -> &'static str;

    /// What the method is given, the first argument first.
    fn arguments(&self) -> Vec<StackValue> {
        Vec::new()
    }

    /// Reads what the method left on the stack, the first result first.
    ///
    /// # Errors
    /// [`GetterError`] if it ended otherwise than with exit code 0 or 1, or with something else than this method's results.
    fn answer(&self, exit_code: i32, stack: &[StackValue]) -> Result<Self::Answer, GetterError>;
}

/// An answer that the contract asked for would not give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetterError {
    /// The method ended badly, or there is none.
    #[error("{method} ended with exit code {exit_code}{}", hint(*.exit_code))]
    Failed {
        /// The method.
        method: &'static str,
        /// As the TVM gave it; servers say -13 of an account without a contract.
        exit_code: i32,
    },
    /// Another number of results.
    #[error("{method} gave {found} values, and should give {expected}: is it another contract's?")]
    Count {
        /// The method.
        method: &'static str,
        /// Results found.
        found: usize,
        /// Results that the method has.
        expected: usize,
    },
    /// A result that is none.
    #[error("{field} of {method} {problem}")]
    Value {
        /// The method.
        method: &'static str,
        /// Which result.
        field: &'static str,
        /// What is wrong with it.
        problem: ValueError,
    },
}

fn hint(exit_code: i32) -> &'static str {
    match exit_code {
        -13 => ": the account has no contract",
        11 => ": the contract has no such method",
        _ => "",
    }
}

/// Declares a get method without arguments, and its results in their order.
macro_rules! getters {
    ($(
        $(#[$request_doc:meta])*
        $request:ident = $method:literal
        $(#[$answer_doc:meta])*
        $answer:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )+ }
    )+) => { $(
        $(#[$request_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $request;

        $(#[$answer_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $answer {
            $( $(#[$field_doc])* pub $field: $type, )+
        }

        impl Getter for $request {
            type Answer = $answer;

            fn method(&self) -> &'static str {
                $method
            }

            fn answer(&self, exit_code: i32, stack: &[StackValue]) -> Result<$answer, GetterError> {
                let mut values = read_all($method, exit_code, stack, &[$(stringify!($field)),+])?;
                Ok($answer { $( $field: values.next()?, )+ })
            }
        }
    )+ };
}

/// Declares a get method without arguments that has one result.
macro_rules! single_getters {
    ($( $(#[$doc:meta])* $request:ident = $method:literal, $field:literal: $type:ty; )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $request;

        impl Getter for $request {
            type Answer = $type;

            fn method(&self) -> &'static str {
                $method
            }

            fn answer(&self, exit_code: i32, stack: &[StackValue]) -> Result<$type, GetterError> {
                read_all($method, exit_code, stack, &[$field])?.next()
            }
        }
    )+ };
}

getters! {
    /// Asks a root contract for its version, and what roles need most.
    GetRoot = "get_cocoon_data"
    /// A root contract in short.
    RootSummary {
        /// Grows with every change.
        version: ConfigVersion,
        /// The number of the proxy registered last.
        last_proxy_seqno: u32,
        /// Grows with every change of the terms.
        params_version: u32,
        /// The network's own number.
        unique_id: u32,
        /// Whether the network plays with test money.
        is_test: bool,
        /// What a client pays per adjusted token.
        price_per_token: NanoTon,
        /// What a worker earns per adjusted token.
        worker_fee_per_token: NanoTon,
        /// The stake without which a proxy takes no deposits.
        min_proxy_stake: NanoTon,
        /// The stake that client contracts begin with.
        min_client_stake: NanoTon,
        /// Who may change the contract.
        owner: Address,
    }

    /// Asks a root contract for the terms of new contracts.
    GetParams = "get_cur_params"
    /// Terms of new contracts. The method does not tell the multipliers of prompts and completions.
    Terms {
        /// Grows with every change of the terms.
        params_version: u32,
        /// The network's own number.
        unique_id: u32,
        /// Whether the network plays with test money.
        is_test: bool,
        /// What a client pays per adjusted token.
        price_per_token: NanoTon,
        /// What a worker earns per adjusted token.
        worker_fee_per_token: NanoTon,
        /// The price of cached prompt tokens.
        cached_multiplier: Multiplier,
        /// The price of reasoning tokens.
        reasoning_multiplier: Multiplier,
        /// How long a closing proxy contract stays open.
        proxy_delay_before_close: Seconds,
        /// How long a closing client contract stays open.
        client_delay_before_close: Seconds,
        /// The stake without which a proxy takes no deposits.
        min_proxy_stake: NanoTon,
        /// The stake that client contracts begin with.
        min_client_stake: NanoTon,
        /// Hash of the code of proxy contracts; zeros for none.
        proxy_code: [u8; 32],
        /// Hash of the code of worker contracts; zeros for none.
        worker_code: [u8; 32],
        /// Hash of the code of client contracts; zeros for none.
        client_code: [u8; 32],
    }

    /// Asks a proxy contract what it is and has.
    GetProxy = "get_cocoon_proxy_data"
    /// A proxy contract.
    ProxySummary {
        /// Who gets the earnings and the stake.
        owner: Address,
        /// Signs payments.
        key: PublicKey,
        /// The root contract.
        root: Address,
        /// Whether it works, closes or is closed.
        state: ContractState,
        /// Earned by the owner and not taken out.
        balance: NanoTon,
        /// What refunds by force are paid from.
        stake: NanoTon,
        /// When a closing contract may be closed: Unix time in seconds.
        unlock_at: u32,
        /// What a client pays per adjusted token.
        price_per_token: NanoTon,
        /// What a worker earns per adjusted token.
        worker_fee_per_token: NanoTon,
        /// The stake without which it takes no deposits.
        min_proxy_stake: NanoTon,
        /// The stake that client contracts begin with.
        min_client_stake: NanoTon,
        /// The version of its terms.
        params_version: u32,
    }

    /// Asks a client contract what it is and has.
    GetClient = "get_cocoon_client_data"
    /// A client contract.
    ClientSummary {
        /// The client's node wallet.
        owner: Address,
        /// The proxy contract.
        proxy: Address,
        /// The key that signs the proxy's payments.
        key: PublicKey,
        /// Whether it works, closes or is closed.
        state: ContractState,
        /// Paid in and not charged.
        balance: NanoTon,
        /// The floor under the balance.
        stake: NanoTon,
        /// Charged since the beginning.
        tokens_used: AdjustedTokens,
        /// When a closing contract may take what is left: Unix time in seconds.
        unlock_at: u32,
        /// SHA-256 of the login secret; zeros for none.
        secret_hash: [u8; 32],
    }

    /// Asks a worker contract what it is and has.
    GetWorker = "get_cocoon_worker_data"
    /// A worker contract.
    WorkerSummary {
        /// Who receives the earnings.
        owner: Address,
        /// The proxy contract.
        proxy: Address,
        /// The key that signs the proxy's payments.
        key: PublicKey,
        /// Whether it works or is closed.
        state: ContractState,
        /// Paid out since the beginning.
        tokens: AdjustedTokens,
    }
}

single_getters! {
    /// Asks a root contract for the number of the proxy registered last.
    GetLastProxySeqno = "last_proxy_seqno", "seqno": u32;
    /// Asks a proxy contract what it owes to clients and workers together. Deployed contracts do not know it.
    GetPool = "get_cocoon_proxy_pool", "pool": NanoTon;
    /// Asks any wallet for the number of its next order.
    GetSeqno = "seqno", "seqno": u32;
    /// Asks any wallet for the key that signs its orders.
    GetPublicKey = "get_public_key", "key": PublicKey;
    /// Asks a node wallet for its owner.
    GetOwner = "get_owner_address", "owner": Address;
}

/// Asks a root contract whether one of its lists allows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsListed {
    /// May proxies run the image?
    ProxyImage(ImageHash),
    /// May workers run the image?
    WorkerImage(ImageHash),
    /// May workers serve the model?
    Model(ModelHash),
}

impl Getter for IsListed {
    type Answer = bool;

    fn method(&self) -> &'static str {
        match self {
            Self::ProxyImage(_) => "proxy_hash_is_valid",
            Self::WorkerImage(_) => "worker_hash_is_valid",
            Self::Model(_) => "model_hash_is_valid",
        }
    }

    fn arguments(&self) -> Vec<StackValue> {
        vec![StackValue::from_hash(match self {
            Self::ProxyImage(image) | Self::WorkerImage(image) => image.as_bytes(),
            Self::Model(model) => model.as_bytes(),
        })]
    }

    fn answer(&self, exit_code: i32, stack: &[StackValue]) -> Result<bool, GetterError> {
        read_all(self.method(), exit_code, stack, &["validity"])?.next()
    }
}
