//! What a worker and a proxy agree on: the handshake, and the account they keep.
//!
//! Nothing here reads a socket or a clock: answers go in, queries and errors come out. Whatever a proxy says is
//! checked; a wrong value ends one connection and never the process.

mod account;
mod error;
mod handshake;
#[cfg(test)]
mod tests;

use ton::Address;
use units::{AdjustedTokens, Capabilities, Coefficient, ProtocolVersion};
use wire::{peer, proxy, worker};

pub use account::{Account, Accounts, Contracts, ContractsChanged, Totals};
pub use error::SessionError;
pub use handshake::{Compared, ExpectComparison, ExpectCompleted, ExpectConnected, ExpectExtended, Offer};

use handshake::not_lower;

/// Prices that stay payable on a link after a change, since requests at the old price are already under way.
const COEFFICIENTS_KEPT_MAX: usize = 8;

/// An agreed link to one proxy.
#[derive(Debug)]
pub struct Session {
    /// Version of all answers. Version 3 is only wished for until [`Session::agree`] has seen what the proxy can
    /// do.
    pub protocol: ProtocolVersion,
    proxy_contract: Address,
    /// The last totals that the proxy said on this link. Messages of one link are in order, so here a smaller one is
    /// a loss and not a delay.
    seen: Totals,
    /// Prices announced on this link, the newest last.
    offered: Vec<Coefficient>,
}

impl Session {
    fn new(protocol: ProtocolVersion, proxy_contract: Address, coefficient: Coefficient) -> Self {
        Self { protocol, proxy_contract, seen: Totals::default(), offered: vec![coefficient] }
    }

    /// Takes the first packet of a proxy that chose version 3, which stands only between peers that can do the same.
    ///
    /// # Errors
    /// [`SessionError::NoCapabilities`] if it is another message.
    pub fn agree(&mut self, packet: &[u8]) -> Result<(), SessionError> {
        let theirs: peer::Capabilities =
            wire::decode(packet).map_err(|_another| SessionError::NoCapabilities)?;
        self.protocol = Capabilities::from_wire(theirs.capabilities).settle();
        Ok(())
    }

    /// The price announced last.
    #[must_use]
    pub fn coefficient(&self) -> Coefficient {
        *self.offered.last().expect("a session begins with a price and the newest is never removed")
    }

    /// A new price was announced.
    pub fn announce(&mut self, coefficient: Coefficient) {
        self.offered.push(coefficient);
        let outdated = self.offered.len().saturating_sub(COEFFICIENTS_KEPT_MAX);
        self.offered.drain(..outdated);
    }

    /// The price of a request, if it is one that this worker asked for.
    #[must_use]
    pub fn offered(&self, thousandths: i64) -> Option<Coefficient> {
        let coefficient = Coefficient::new(thousandths).ok()?;
        self.offered.contains(&coefficient).then_some(coefficient)
    }

    /// A payment came with a request or by itself. A bad one is worth nothing, and that is all.
    pub fn take_payment(&self, payment: &proxy::SignedPayment<'_>, accounts: &Accounts) {
        let Some(boc) = payment_of(payment) else { return };
        if let Err(error) = accounts.with(&self.proxy_contract, |account| account.take_payment(boc)) {
            tracing::debug!(error = &error as &dyn std::error::Error, "ignored a payment");
        }
    }

    /// A request was settled.
    ///
    /// # Errors
    /// [`SessionError`] if the payment is missing or bad, or a total fell: the connection must be made anew, so
    /// that balances are compared again.
    pub fn settle(
        &mut self,
        message: &proxy::WorkerRequestPayment<'_>,
        accounts: &Accounts,
    ) -> Result<(), SessionError> {
        let stored = tokens("stored", message.db_tokens)?;
        let earned = tokens("earned", message.max_tokens)?;
        let payment = payment_of(&message.signed_payment).ok_or(SessionError::NoPayment)?;
        let signed = accounts.with(&self.proxy_contract, |account| account.take_payment(payment))?;
        not_lower("signed", signed, self.seen.signed)?;
        not_lower("stored", stored, self.seen.stored)?;
        not_lower("earned", earned, self.seen.earned)?;
        self.seen = Totals { signed, stored, earned };
        accounts.with(&self.proxy_contract, |account| account.raise(stored, earned));
        Ok(())
    }

    /// The proxy answered where the account stands. As on the deployed network lower values are passed over here:
    /// the answer may have been overtaken by a settlement.
    ///
    /// # Errors
    /// [`SessionError`] if the answer makes no sense at all.
    pub fn update(
        &self,
        status: &worker::PaymentStatus<'_>,
        accounts: &Accounts,
    ) -> Result<(), SessionError> {
        let stored = tokens("stored", status.db_tokens)?;
        let earned = tokens("earned", status.max_tokens)?;
        self.take_payment(&status.signed_payment, accounts);
        accounts.with(&self.proxy_contract, |account| account.raise(stored, earned));
        Ok(())
    }
}

fn payment_of<'a>(payment: &proxy::SignedPayment<'a>) -> Option<&'a [u8]> {
    match payment {
        proxy::SignedPayment::Payment { data } => Some(data),
        proxy::SignedPayment::Empty => None,
    }
}

fn tokens(total: &'static str, tokens: i64) -> Result<AdjustedTokens, SessionError> {
    match u64::try_from(tokens) {
        Ok(count) => Ok(AdjustedTokens::new(count)),
        Err(_) => Err(SessionError::Negative { total, tokens }),
    }
}
