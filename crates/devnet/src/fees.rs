//! What a message would cost.

use tycho_types::models::{ComputePhase, Transaction, TxInfo};

use crate::devnet::SubmitError;
use crate::execute::{Moment, NotExecuted, execute, unknown_account};
use crate::messages::ExternalMessage;
use crate::network_config::NetworkConfig;
use tycho_types::models::ShardAccount;

/// What the receiver of an external message pays for it, in nanotons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeEstimate {
    /// For bringing the message in.
    pub import: u128,
    /// Rent since the account's last transaction.
    pub storage: u128,
    /// For running the contract.
    pub gas: u128,
    /// For sending messages on.
    pub forward: u128,
}

/// Executes `message` in thought, with any signature taken for a good one if `moment` says so.
///
/// # Errors
/// [`SubmitError`] if the account would not accept it.
pub fn estimate_fee(
    config: &NetworkConfig,
    moment: &Moment,
    account: Option<&ShardAccount>,
    message: &ExternalMessage,
) -> Result<FeeEstimate, SubmitError> {
    let account = account.cloned().map_or_else(unknown_account, Ok)?;
    let executed = execute(config, moment, &message.to, &message.cell, true, &account)?;
    let transaction: Transaction = executed.transaction.parse()?;
    let TxInfo::Ordinary(info) = transaction.load_info()? else {
        return Err(NotExecuted::NotAccepted { exit_code: None }.into());
    };
    let storage = info.storage_phase.map_or(0, |phase| phase.storage_fees_collected.into_inner());
    let gas = match info.compute_phase {
        ComputePhase::Executed(phase) => phase.gas_fees.into_inner(),
        ComputePhase::Skipped(_) => 0,
    };
    let action = info.action_phase.as_ref();
    let forward = action.and_then(|phase| phase.total_fwd_fees).unwrap_or_default().into_inner();
    let paid_here = action.and_then(|phase| phase.total_action_fees).unwrap_or_default().into_inner();
    let import = transaction.total_fees.tokens.into_inner().saturating_sub(storage + gas + paid_here);
    Ok(FeeEstimate { import, storage, gas, forward })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Pace;
    use crate::testing::{Pilot, START, balance, devnet, empty, transfer};
    use units::NanoTon;

    #[test]
    fn the_estimate_is_what_is_paid() {
        let mut devnet = devnet(Pace::Instant);
        let pilot = Pilot::deployed(&mut devnet, 0);
        let nobody = ton::Address::new(0, [1; 32]);
        let amount = NanoTon::new(10_000_000);
        let message = pilot.order(1, &[(1, transfer(&nobody, amount, false, empty()))]);
        let account = devnet.account(&pilot.address);
        let fees = estimate_fee(devnet.config(), &devnet.next_moment(START), account, &message).unwrap();
        let before = balance(&devnet, &pilot.address);
        devnet.submit(START, message).unwrap();
        let paid = before - balance(&devnet, &pilot.address) - u128::from(amount.get());
        assert_eq!(fees.import + fees.storage + fees.gas + fees.forward, paid);
        assert!(fees.import > 0 && fees.gas > 0 && fees.forward > 0);

        let refused = pilot.order(99, &[]);
        let account = devnet.account(&pilot.address);
        assert!(estimate_fee(devnet.config(), &devnet.next_moment(START), account, &refused).is_err());
    }
}
