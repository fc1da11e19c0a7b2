//! What a client and a proxy say to each other.

mod account;
mod answer;
mod models;
mod session;

use super::{peer, proxy, stream};
use crate::TlStr;
use crate::macros::{tl_dispatch, tl_struct};

pub use account::{PaymentStatus, Refund, RefundRejected, RequestRefund, UpdatePaymentStatus};
pub use answer::{
    DebugInfo, QueryAnswer, QueryAnswerError, QueryAnswerErrorEx, QueryAnswerEx, QueryAnswerPart,
    QueryAnswerPartError, QueryAnswerPartEx, QueryFinalInfo, Times,
};
pub use models::{
    GetWorkerTypes, GetWorkerTypesV2, WorkerInstanceV2, WorkerType, WorkerTypeV2, WorkerTypes, WorkerTypesV2,
};
pub use session::{
    AuthorizationWithProxy, AuthorizationWithProxyFailed, AuthorizationWithProxySuccess,
    AuthorizeWithProxyLong, AuthorizeWithProxyShort, ConnectToProxy, ConnectedToProxy, Params, ProtoRange,
    ProxyConnectionAuth,
};

tl_dispatch! {
    /// Functions that a proxy answers to a client, each in a `tcp.query`.
    pub enum Query<'a> {
        /// First step of the handshake.
        ConnectToProxy(ConnectToProxy<'a>),
        /// Second step, with a secret known on chain.
        AuthorizeWithProxyShort(AuthorizeWithProxyShort<'a>),
        /// Second step, with a transaction.
        AuthorizeWithProxyLong(AuthorizeWithProxyLong),
        /// Protocol 0.
        GetWorkerTypes(GetWorkerTypes),
        /// Protocol 1 or later.
        GetWorkerTypesV2(GetWorkerTypesV2),
        /// Asked again and again.
        UpdatePaymentStatus(UpdatePaymentStatus),
        /// Defined, but not answered in the deployed network.
        RequestRefund(RequestRefund),
    }
}

tl_dispatch! {
    /// One-way messages of a client, each in a `tcp.packet`.
    pub enum Packet<'a> {
        /// Protocol 0.
        RunQuery(RunQuery<'a>),
        /// Protocol 1 or later.
        RunQueryEx(RunQueryEx<'a>),
        /// Protocol 3.
        Capabilities(peer::Capabilities),
        /// Protocol 3: a long request.
        Begin(stream::Begin<'a>),
        /// Protocol 3: more of a long request.
        BodyPart(stream::BodyPart<'a>),
        /// Protocol 3: the answer is not wanted any more.
        Cancel(stream::Cancel),
        /// Protocol 3: room for more of an answer.
        Credit(stream::Credit),
    }
}

tl_dispatch! {
    /// One-way messages to a client, each in a `tcp.packet`.
    pub enum FromProxy<'a> {
        /// Protocol 0.
        QueryAnswer(QueryAnswer<'a>),
        /// Every protocol: the proxy itself refuses or gives up before the first answer.
        QueryAnswerError(QueryAnswerError<'a>),
        /// Protocol 0.
        QueryAnswerPart(QueryAnswerPart<'a>),
        /// Every protocol: the proxy itself gives up after the first answer.
        QueryAnswerPartError(QueryAnswerPartError<'a>),
        /// Protocol 1 or later.
        QueryAnswerEx(QueryAnswerEx<'a>),
        /// Protocol 1 or later.
        QueryAnswerErrorEx(QueryAnswerErrorEx<'a>),
        /// Protocol 1 or later.
        QueryAnswerPartEx(QueryAnswerPartEx<'a>),
        /// After each finished request.
        ClientRequestPayment(proxy::ClientRequestPayment<'a>),
        /// A charge, signed anew.
        SignedPayment(proxy::SignedPayment<'a>),
        /// Protocol 3.
        Capabilities(peer::Capabilities),
        /// Protocol 3: no more requests on this link.
        GoingAway(peer::GoingAway),
        /// Protocol 3: room for more of a long request.
        Credit(stream::Credit),
    }
}

impl FromProxy<'_> {
    /// Bytes of an answer that the message carries; `None` if it is no part of an answer.
    #[must_use]
    pub const fn answer_len(&self) -> Option<usize> {
        match self {
            Self::QueryAnswer(message) => Some(message.answer.len()),
            Self::QueryAnswerPart(message) => Some(message.answer.len()),
            Self::QueryAnswerEx(message) => Some(message.answer.len()),
            Self::QueryAnswerPartEx(message) => Some(message.answer.len()),
            _ => None,
        }
    }
}

tl_struct! {
    /// A request, in protocol 0.
    pub struct RunQuery<'a> = client.runQuery {
        /// Name without `@commit:hash`.
        model_name: TlStr<'a>,
        /// A boxed [`http.request`](crate::http::Request).
        query: &'a [u8],
        /// Highest price that the client pays, in thousandths.
        max_coefficient: i32,
        /// Most tokens that the answer may have; with the length of the query it bounds what is reserved.
        max_tokens: i32,
        /// Seconds that the proxy has.
        timeout: f64,
        /// Random; names the request on this connection.
        request_id: [u8; 32],
        /// `version` of the root contract's state that the client has; the proxy may not work with an older one.
        min_config_version: i32,
    }
}

tl_struct! {
    /// A request, in protocol 1 or later.
    pub struct RunQueryEx<'a> = client.runQueryEx {
        /// Name without `@commit:hash`.
        model_name: TlStr<'a>,
        /// A boxed [`http.request`](crate::http::Request).
        query: &'a [u8],
        /// Highest price that the client pays, in thousandths.
        max_coefficient: i32,
        /// Most tokens that the answer may have; with the length of the query it bounds what is reserved.
        max_tokens: i32,
        /// Seconds that the proxy has.
        timeout: f64,
        /// Random; names the request on this connection.
        request_id: [u8; 32],
        /// `version` of the root contract's state that the client has; the proxy may not work with an older one.
        min_config_version: i32,
        #flags,
        @optional {
            /// Whether the final info should tell how the request was handled.
            0 => enable_debug: bool,
        }
    }
}
