//! The state of the business at one moment, for operators.

use ledger::{ClientLimits, Party, Totals};
use market::WorkerId;
use ton::Address;
use ton::states::ContractState;
use units::{AdjustedTokens, Coefficient, ImageHash, ModelName};

use super::accounts::Side;
use super::{Core, LinkId};

/// Everything an operator may see. Addresses are as deployed peers write them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was charged, and where it went.
    pub totals: Totals,
    /// Whether the journal durably holds all of it.
    pub is_durable: bool,
    /// Clients that are here, and others that have an account; by address.
    pub clients: Vec<ClientSnapshot>,
    /// Owners of workers, in the same way.
    pub workers: Vec<WorkerSnapshot>,
    /// Workers that are connected, by link.
    pub connections: Vec<ConnectionSnapshot>,
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientSnapshot {
    /// Its wallet.
    pub owner: String,
    /// The contract between it and this proxy.
    pub contract: String,
    /// What it used, and may use.
    pub limits: ClientLimits,
    /// What its contract was charged on the chain, if one is followed.
    pub charged: AdjustedTokens,
    /// How its contract is.
    pub state: ContractState,
}

/// One owner of workers.
#[derive(Clone, Debug)]
pub struct WorkerSnapshot {
    /// The owner's address.
    pub owner: String,
    /// The contract between it and this proxy.
    pub contract: String,
    /// All its earnings.
    pub earned: AdjustedTokens,
    /// What its contract has paid out on the chain, if one is followed.
    pub paid: AdjustedTokens,
    /// Whether an order to pay more is on its way.
    pub is_paying: bool,
    /// Running requests of all its workers.
    pub running: u32,
}

/// One connected worker.
#[derive(Clone, Debug)]
pub struct ConnectionSnapshot {
    /// Its link.
    pub link: LinkId,
    /// Its owner's address.
    pub owner: String,
    /// The full name of its model.
    pub model: ModelName,
    /// Its attested image.
    pub image_hash: Option<ImageHash>,
    /// Its price.
    pub coefficient: Coefficient,
    /// Its running requests.
    pub running: u32,
    /// Whether it takes part.
    pub enabled: bool,
}

impl Core {
    /// The state of the business now, with at most `rows_max` rows of each kind: a proxy with many accounts must not
    /// stand still while somebody looks at it.
    #[must_use]
    pub fn snapshot(&self, rows_max: usize) -> Snapshot {
        let text = |address: &Address| self.terms.address_text(address);
        let contract = |side, owner: &Address| text(&self.terms.contract_of(side, owner));
        let ledger = &self.ledger;
        let follows_chain = self.settlement().is_some();
        let on_chain =
            |owner: &Address| ledger.client_contract(*owner).filter(|_| follows_chain).unwrap_or_default();
        let present = |side, owner: &Address| self.accounts.is_present(side, owner);
        let here = self.accounts.present(Side::Client);
        let here = here.filter_map(|owner| Some((*owner, ledger.client(*owner)?)));
        let elsewhere = ledger.clients().filter(|(owner, _)| !present(Side::Client, owner));
        let mut clients: Vec<_> = here
            .chain(elsewhere)
            .take(rows_max)
            .map(|(owner, limits)| ClientSnapshot {
                owner: text(&owner),
                contract: contract(Side::Client, &owner),
                limits,
                charged: on_chain(&owner).funds.tokens_used,
                state: on_chain(&owner).state,
            })
            .collect();
        clients.sort_by(|one, other| one.owner.cmp(&other.owner));
        let here = self.accounts.present(Side::Worker);
        let here = here.filter_map(|owner| Some((*owner, ledger.worker(*owner)?)));
        let elsewhere = ledger.workers().filter(|(owner, _)| !present(Side::Worker, owner));
        let mut workers: Vec<_> = here
            .chain(elsewhere)
            .take(rows_max)
            .map(|(owner, totals)| WorkerSnapshot {
                owner: text(&owner),
                contract: contract(Side::Worker, &owner),
                earned: totals.earned,
                paid: ledger.worker_contract(owner).unwrap_or_default().paid,
                is_paying: self
                    .settlement()
                    .is_some_and(|settlement| settlement.is_settling(Party::Worker(owner))),
                running: totals.running,
            })
            .collect();
        workers.sort_by(|one, other| one.owner.cmp(&other.owner));
        let introduced = self.workers.iter().filter_map(|(link, worker)| {
            let party = worker.party.as_ref()?;
            let state = self.market.worker(WorkerId::new(link.0))?;
            Some(ConnectionSnapshot {
                link: *link,
                owner: text(&party.account),
                model: party.model.clone(),
                image_hash: worker.peer.attestation.map(|attestation| attestation.image),
                coefficient: state.coefficient,
                running: state.running,
                enabled: state.enabled,
            })
        });
        let mut connections: Vec<_> = introduced.take(rows_max).collect();
        connections.sort_by_key(|connection| connection.link);
        Snapshot {
            totals: self.ledger.totals(),
            is_durable: self.ledger.is_durable(),
            clients,
            workers,
            connections,
        }
    }
}
