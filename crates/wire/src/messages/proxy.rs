//! What a proxy says about itself, payments, and the exchange of requests and answers between proxy and worker.

use super::TokensUsed;
use crate::TlStr;
use crate::macros::{tl_enum, tl_struct};

tl_struct! {
    /// A proxy introduces itself to a client or a worker.
    pub struct Params<'a> = proxy.params {
        #flags,
        /// Ed25519 key that signs payments.
        proxy_public_key: [u8; 32],
        /// Wallet that owns the proxy, as address text.
        proxy_owner_address: TlStr<'a>,
        /// The proxy's contract, as address text.
        proxy_sc_address: TlStr<'a>,
        @optional {
            /// Whether the proxy runs in test mode; both sides must agree.
            0 => is_test: bool,
            /// The version chosen for this connection; absent means 0.
            1 => proto_version: i32,
        }
    }
}

tl_enum! {
    /// The latest payment that the proxy signed for the peer.
    pub enum SignedPayment<'a> {
        /// There is one.
        Payment = proxy.signedPayment {
            /// A message to a contract, as a bag of cells.
            data: &'a [u8],
        },
        /// Nothing was signed yet.
        Empty = proxy.signedPaymentEmpty,
    }
}

tl_struct! {
    /// Tells a client what a finished request cost and where its account stands.
    pub struct ClientRequestPayment<'a> = proxy.clientRequestPayment {
        /// The request, as the client named it.
        request_id: [u8; 32],
        /// The latest charge.
        signed_payment: SignedPayment<'a>,
        /// Adjusted tokens that the proxy has stored durably as used, over the life of the contract.
        db_tokens: i64,
        /// Adjusted tokens used and reserved, over the life of the contract.
        max_tokens: i64,
        /// Adjusted tokens of this request.
        request_tokens: i64,
    }
}

tl_struct! {
    /// Tells a worker what a finished request earned and where its account stands.
    pub struct WorkerRequestPayment<'a> = proxy.workerRequestPayment {
        /// The request, as the proxy named it.
        request_id: [u8; 32],
        /// The latest payout.
        signed_payment: SignedPayment<'a>,
        /// Adjusted tokens that the proxy has stored durably as earned, over the life of the contract.
        db_tokens: i64,
        /// Adjusted tokens earned, stored or not, over the life of the contract.
        max_tokens: i64,
        /// Adjusted tokens of this request.
        request_tokens: i64,
        /// Wallet of the client, as address text.
        request_client_owner: TlStr<'a>,
    }
}

tl_struct! {
    /// Hands a request to a worker of protocol 0.
    pub struct RunQuery<'a> = proxy.runQuery {
        /// A boxed [`http.request`](crate::http::Request).
        query: &'a [u8],
        /// The latest payout.
        signed_payment: SignedPayment<'a>,
        /// The price that the request was routed at, in thousandths.
        coefficient: i64,
        /// Seconds that the worker has.
        timeout: f64,
        /// Names the request between this proxy and this worker.
        request_id: [u8; 32],
    }
}

tl_struct! {
    /// Hands a request to a worker of protocol 1 or later.
    pub struct RunQueryEx<'a> = proxy.runQueryEx {
        /// A boxed [`http.request`](crate::http::Request).
        query: &'a [u8],
        /// The latest payout.
        signed_payment: SignedPayment<'a>,
        /// The price that the request was routed at, in thousandths.
        coefficient: i64,
        /// Seconds that the worker has.
        timeout: f64,
        /// Names the request between this proxy and this worker.
        request_id: [u8; 32],
        #flags,
        @optional {
            /// Whether the final info should tell how the request was handled.
            0 => enable_debug: bool,
        }
    }
}

tl_struct! {
    /// First answer of a worker of protocol 0.
    pub struct QueryAnswer<'a> = proxy.queryAnswer {
        /// A boxed [`http.response`](crate::http::Response).
        answer: &'a [u8],
        /// No part follows.
        is_completed: bool,
        /// The request.
        request_id: [u8; 32],
        /// The cost so far.
        tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// A worker of protocol 0 gave up before its first answer.
    pub struct QueryAnswerError<'a> = proxy.queryAnswerError {
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
        /// The request.
        request_id: [u8; 32],
        /// The cost so far.
        tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// A later part from a worker of protocol 0.
    pub struct QueryAnswerPart<'a> = proxy.queryAnswerPart {
        /// Bytes of the HTTP body.
        answer: &'a [u8],
        /// No part follows.
        is_completed: bool,
        /// The request.
        request_id: [u8; 32],
        /// The cost so far.
        tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// A worker of protocol 0 gave up after its first answer.
    pub struct QueryAnswerPartError<'a> = proxy.queryAnswerPartError {
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
        /// The request.
        request_id: [u8; 32],
        /// The cost so far.
        tokens_used: TokensUsed,
    }
}

tl_struct! {
    /// First answer of a worker of protocol 1 or later.
    pub struct QueryAnswerEx<'a> = proxy.queryAnswerEx {
        /// The request.
        request_id: [u8; 32],
        /// A boxed [`http.response`](crate::http::Response).
        answer: &'a [u8],
        #flags,
        @optional {
            /// Present if no part follows.
            0 => final_info: QueryFinalInfo<'a>,
        }
    }
}

tl_struct! {
    /// A worker of protocol 1 or later gave up. Ends the request.
    pub struct QueryAnswerErrorEx<'a> = proxy.queryAnswerErrorEx {
        /// The request.
        request_id: [u8; 32],
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
        #flags,
        @optional {
            /// Always sent: proxies of the deployed network stop working when it is missing.
            0 => final_info: QueryFinalInfo<'a>,
        }
    }
}

tl_struct! {
    /// A later part from a worker of protocol 1 or later.
    pub struct QueryAnswerPartEx<'a> = proxy.queryAnswerPartEx {
        /// The request.
        request_id: [u8; 32],
        /// Bytes of the HTTP body.
        answer: &'a [u8],
        #flags,
        @optional {
            /// Present if this part is the last.
            0 => final_info: QueryFinalInfo<'a>,
        }
    }
}

tl_struct! {
    /// What a worker tells about a finished request.
    pub struct QueryFinalInfo<'a> = proxy.queryFinalInfo {
        #flags,
        /// The cost.
        tokens_used: TokensUsed,
        @optional {
            /// JSON about how the request was handled, if the request wanted it.
            0 => worker_debug: TlStr<'a>,
            /// Protocol 2 or later.
            1 => times: Times,
        }
    }
}

tl_struct! {
    /// When a worker handled a request, in Unix seconds of its own clock.
    #[derive(Copy)]
    pub struct Times {
        /// The request arrived.
        worker_start_time: f64,
        /// The last part was sent.
        worker_end_time: f64,
    }
}
