//! One message executed on one account by the real TVM.

use ton::Address;
use tycho_executor::{Executor, ExecutorInspector, ExecutorParams, TxError};
use tycho_types::cell::{Cell, HashBytes, Lazy};
use tycho_types::error::Error as CellError;
use tycho_types::models::{OptionalAccount, ShardAccount};
use tycho_vm::BehaviourModifiers;

use crate::messages::std_addr;
use crate::network_config::NetworkConfig;

/// What a transaction sees of the block around it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970, as contracts read them.
    pub unix_time: u32,
    /// Logical time at which the block begins.
    pub block_lt: u64,
    /// The least logical time of the transaction.
    pub min_lt: u64,
    /// The block's random seed, from which every account gets its own.
    pub seed: [u8; 32],
    /// Whether every signature passes: only for the estimate of a fee.
    pub ignore_signatures: bool,
}

/// What a message led to.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The account afterwards.
    pub account: ShardAccount,
    /// The transaction, `transaction#7` in TL-B.
    pub transaction: Cell,
    /// The logical time after the transaction's last message.
    pub end_lt: u64,
    /// Messages to other accounts and to the outside, in the order of sending.
    pub out_messages: Vec<Cell>,
}

/// A message that led to nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotExecuted {
    /// An external message that the contract did not accept: nothing happened, nothing was paid.
    #[error("the account does not accept the external message: {}", reason(*exit_code))]
    NotAccepted {
        /// Exit code of the contract, if it was run at all.
        exit_code: Option<i32>,
    },
    /// A message or an account in a form that no chain has.
    #[error("the executor cannot process the message")]
    Impossible(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn reason(exit_code: Option<i32>) -> String {
    match exit_code {
        Some(code) => format!("its contract ended with exit code {code}"),
        None => "there is no contract that could run, or no balance to import the message".to_owned(),
    }
}

/// An account about which nothing is known.
///
/// # Errors
/// Never in practice: an empty cell always builds.
pub(crate) fn unknown_account() -> Result<ShardAccount, CellError> {
    Ok(ShardAccount {
        account: Lazy::new(&OptionalAccount::EMPTY)?,
        last_trans_hash: HashBytes::ZERO,
        last_trans_lt: 0,
    })
}

fn params(moment: &Moment) -> ExecutorParams {
    ExecutorParams {
        rand_seed: HashBytes(moment.seed),
        block_unixtime: moment.unix_time,
        block_lt: moment.block_lt,
        vm_modifiers: BehaviourModifiers {
            chksig_always_succeed: moment.ignore_signatures,
            ..BehaviourModifiers::default()
        },
        ..ExecutorParams::default()
    }
}

/// Executes `message` on `account`, which lives at `address`.
///
/// # Errors
/// [`NotExecuted`]; an internal message is always executed unless it is impossible.
pub fn execute(
    config: &NetworkConfig,
    moment: &Moment,
    address: &Address,
    message: &Cell,
    is_external: bool,
    account: &ShardAccount,
) -> Result<Executed, NotExecuted> {
    let params = params(moment);
    let executor = Executor::new(&params, config.parsed()).with_min_lt(moment.min_lt);
    let mut inspector = ExecutorInspector::default();
    let begun =
        executor.begin_ordinary_ext(&std_addr(address), is_external, message, account, Some(&mut inspector));
    let output = match begun {
        Ok(begun) => begun.commit().map_err(|error| NotExecuted::Impossible(error.into()))?,
        Err(TxError::Skipped) => return Err(NotExecuted::NotAccepted { exit_code: inspector.exit_code }),
        Err(TxError::Fatal(error)) => return Err(NotExecuted::Impossible(error.into())),
    };
    let out_messages = output.transaction_meta.out_msgs.into_iter().map(Lazy::into_inner).collect();
    Ok(Executed {
        account: output.new_state,
        transaction: output.transaction.into_inner(),
        end_lt: output.transaction_meta.next_lt,
        out_messages,
    })
}

/// Whether the account would accept this external message: what a node checks before it passes one on.
///
/// # Errors
/// [`NotExecuted`] if it would not.
pub(crate) fn check(
    config: &NetworkConfig,
    moment: &Moment,
    address: &Address,
    message: &Cell,
    account: &ShardAccount,
) -> Result<(), NotExecuted> {
    let params = params(moment);
    let executor = Executor::new(&params, config.parsed()).with_min_lt(moment.min_lt);
    let mut inspector = ExecutorInspector::default();
    match executor.check_ordinary_ext(&std_addr(address), message, account, Some(&mut inspector)) {
        Ok(()) => Ok(()),
        Err(TxError::Skipped) => Err(NotExecuted::NotAccepted { exit_code: inspector.exit_code }),
        Err(TxError::Fatal(error)) => Err(NotExecuted::Impossible(error.into())),
    }
}
