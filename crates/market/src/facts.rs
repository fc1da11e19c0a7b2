//! What the market is told and what it says.

use units::{Coefficient, ModelName};

/// One connection of a worker, as the caller numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u64);

impl WorkerId {
    /// Wraps the caller's number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The caller's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Who owns a worker, as the caller names owners: outages are remembered by owner and model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner([u8; 32]);

impl Owner {
    /// Wraps the caller's name.
    #[must_use]
    pub const fn new(name: [u8; 32]) -> Self {
        Self(name)
    }
}

/// What requests have in common that profit from running at the same worker, for instance the beginning of their
/// prompts: equal numbers prefer the same worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity(pub(crate) u64);

impl Affinity {
    /// Wraps the client's number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// What a worker offers when it joins. It starts disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who offers.
    pub owner: Owner,
    /// The model; requests name its base.
    pub model: ModelName,
    /// The price.
    pub coefficient: Coefficient,
    /// How many requests it runs at once.
    pub running_max: u32,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// Base name of the model.
    pub model: &'a str,
    /// The highest price that the client pays.
    pub ceiling: Coefficient,
    /// Whose neighbour the request wants to be.
    pub affinity: Option<Affinity>,
}

/// A worker joined twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {} is already listed", .0.get())]
pub struct AlreadyListed(pub(crate) WorkerId);

/// Why no worker was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWorker {
    /// Nobody offered this model lately.
    #[error("no worker has offered this model")]
    UnknownModel,
    /// The model was offered, but nobody is connected now.
    #[error("no worker for this model is connected")]
    NoneConnected,
    /// Nobody takes part.
    #[error("every worker for this model is disabled")]
    NoneEnabled,
    /// Everybody whom the client would pay runs as much as it may: waiting helps.
    #[error("every worker for this model at this price is full")]
    Full,
    /// Everybody is dearer than the client allows.
    #[error("the cheapest worker for this model has coefficient {}", cheapest.get())]
    TooDear {
        /// The lowest ceiling that would be served now, or, while everybody is full, later.
        cheapest: Coefficient,
    },
}

/// How a listed worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Its price.
    pub coefficient: Coefficient,
    /// Whether it takes part.
    pub enabled: bool,
    /// Requests it runs.
    pub running: u32,
    /// Requests it may run at once.
    pub running_max: u32,
}
