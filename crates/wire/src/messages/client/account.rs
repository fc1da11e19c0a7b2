//! The client's account with the proxy.

use crate::macros::tl_struct;
use crate::messages::proxy;

tl_struct! {
    /// Asks where the account stands. Answered by [`PaymentStatus`].
    pub struct UpdatePaymentStatus = client.updatePaymentStatus {}
}

tl_struct! {
    /// Where the account stands, in adjusted tokens over the life of the contract.
    pub struct PaymentStatus<'a> = client.paymentStatus {
        /// The latest charge.
        signed_payment: proxy::SignedPayment<'a>,
        /// Used, stored durably.
        db_tokens: i64,
        /// Used and reserved.
        max_tokens: i64,
    }
}

tl_struct! {
    /// Wants the rest of the balance back. Defined, but not answered in the deployed network.
    pub struct RequestRefund = client.requestRefund {}
}

tl_struct! {
    /// Grants a refund. Never sent in the deployed network.
    pub struct Refund<'a> = client.refund {
        /// A message to a contract, as a bag of cells.
        data: &'a [u8],
    }
}

tl_struct! {
    /// Refuses a refund. Never sent in the deployed network.
    pub struct RefundRejected = client.refundRejected {
        /// Requests that must end first.
        active_queries: i64,
    }
}
