//! Which models the workers of a proxy offer.

use crate::TlStr;
use crate::macros::tl_struct;

tl_struct! {
    /// Asks for the models, in protocol 0. Answered by [`WorkerTypes`].
    pub struct GetWorkerTypes = client.getWorkerTypes {}
}

tl_struct! {
    /// The models, in protocol 0.
    pub struct WorkerTypes<'a> = client.workerTypes {
        /// One entry per model.
        types: Vec<WorkerType<'a>>,
    }
}

tl_struct! {
    /// A model and the prices asked for it, in thousandths.
    pub struct WorkerType<'a> = client.workerType {
        /// Name without `@commit:hash`.
        name: TlStr<'a>,
        /// Number of workers.
        active_workers: i32,
        /// The lowest price.
        coefficient_min: i32,
        /// The price that half of the workers do not exceed.
        coefficient_bucket50: i32,
        /// The highest price.
        coefficient_max: i32,
    }
}

tl_struct! {
    /// Asks for the models, in protocol 1 or later. Answered by [`WorkerTypesV2`].
    pub struct GetWorkerTypesV2 = client.getWorkerTypesV2 {}
}

tl_struct! {
    /// The models, in protocol 1 or later.
    pub struct WorkerTypesV2<'a> = client.workerTypesV2 {
        /// One entry per model.
        types: Vec<WorkerTypeV2<'a>>,
    }
}

tl_struct! {
    /// A model and its workers.
    pub struct WorkerTypeV2<'a> = client.workerTypeV2 {
        /// Name without `@commit:hash`.
        name: TlStr<'a>,
        /// By price, the lowest first; disabled workers are left out.
        workers: Vec<WorkerInstanceV2>,
    }
}

tl_struct! {
    /// One worker.
    pub struct WorkerInstanceV2 = client.workerInstanceV2 {
        #flags,
        /// Asking price in thousandths.
        coefficient: i32,
        /// Requests that it runs for this proxy.
        active_requests: i32,
        /// Requests that it would run at once for this proxy.
        max_active_requests: i32,
    }
}
