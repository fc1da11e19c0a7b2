//! What a worker says to a proxy.

use super::{peer, proxy, stream};
use crate::TlStr;
use crate::macros::{tl_dispatch, tl_struct};
use crate::messages::client::ProtoRange;

tl_dispatch! {
    /// Functions that a proxy answers to a worker, each in a `tcp.query`.
    pub enum Query<'a> {
        /// First step of the handshake.
        ConnectToProxy(ConnectToProxy<'a>),
        /// Second step.
        CompareBalanceWithProxy(CompareBalanceWithProxy),
        /// Extra step when the balances differ.
        ExtendedCompareBalanceWithProxy(ExtendedCompareBalanceWithProxy<'a>),
        /// Last step.
        ProxyHandshakeComplete(ProxyHandshakeComplete),
        /// Asked again and again afterwards.
        UpdatePaymentStatus(UpdatePaymentStatus),
    }
}

tl_dispatch! {
    /// One-way messages of a worker, each in a `tcp.packet`.
    pub enum ToProxy<'a> {
        /// Protocol 0.
        QueryAnswer(proxy::QueryAnswer<'a>),
        /// Protocol 0.
        QueryAnswerError(proxy::QueryAnswerError<'a>),
        /// Protocol 0.
        QueryAnswerPart(proxy::QueryAnswerPart<'a>),
        /// Protocol 0.
        QueryAnswerPartError(proxy::QueryAnswerPartError<'a>),
        /// Protocol 1 or later.
        QueryAnswerEx(proxy::QueryAnswerEx<'a>),
        /// Protocol 1 or later.
        QueryAnswerErrorEx(proxy::QueryAnswerErrorEx<'a>),
        /// Protocol 1 or later.
        QueryAnswerPartEx(proxy::QueryAnswerPartEx<'a>),
        /// The worker starts or stops taking requests.
        EnabledDisabled(EnabledDisabled),
        /// The worker changes its price.
        NewCoefficient(NewCoefficient),
        /// Protocol 3.
        Capabilities(peer::Capabilities),
        /// Protocol 3: room for more of a long request.
        Credit(stream::Credit),
        /// Protocol 3: what an answer costs so far.
        Usage(stream::Usage),
    }
}

tl_dispatch! {
    /// One-way messages to a worker, each in a `tcp.packet`.
    pub enum FromProxy<'a> {
        /// Protocol 0.
        RunQuery(proxy::RunQuery<'a>),
        /// Protocol 1 or later.
        RunQueryEx(proxy::RunQueryEx<'a>),
        /// After each finished request.
        WorkerRequestPayment(proxy::WorkerRequestPayment<'a>),
        /// A payout, signed anew.
        SignedPayment(proxy::SignedPayment<'a>),
        /// Protocol 3.
        Capabilities(peer::Capabilities),
        /// Protocol 3: no more requests on this link.
        GoingAway(peer::GoingAway),
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

tl_struct! {
    /// A worker introduces itself.
    pub struct Params<'a> = worker.params {
        #flags,
        /// Wallet that is paid, as address text.
        worker_owner_address: TlStr<'a>,
        /// Full name, `name@commit:hash`.
        model: TlStr<'a>,
        /// Asking price in thousandths.
        coefficient: i32,
        @optional {
            /// Sent by every worker that is not very old.
            0 => deployment: Deployment,
            /// Absent means version 0 only.
            1 => proto_range: ProtoRange,
        }
    }
}

tl_struct! {
    /// How a worker is set up.
    #[derive(Copy)]
    pub struct Deployment {
        /// Whether it runs in test mode; both sides must agree.
        is_test: bool,
        /// Number of proxies that it serves at once.
        proxy_cnt: i32,
        /// Number of requests that it runs at once, over all proxies.
        max_active_requests: i32,
    }
}

tl_struct! {
    /// First step of the handshake. Answered by [`ConnectedToProxy`].
    pub struct ConnectToProxy<'a> = worker.connectToProxy {
        /// The worker.
        params: Params<'a>,
    }
}

tl_struct! {
    /// The proxy accepts the worker.
    pub struct ConnectedToProxy<'a> = worker.connectedToProxy {
        /// The proxy.
        params: proxy::Params<'a>,
        /// The contract between the two, as address text.
        worker_sc_address: TlStr<'a>,
    }
}

tl_struct! {
    /// Second step: what the worker remembers of its account, in adjusted tokens over the life of the contract.
    /// Answered by [`CompareBalanceWithProxyResult`].
    pub struct CompareBalanceWithProxy = worker.compareBalanceWithProxy {
        /// Paid out on chain.
        tokens_committed_to_blockchain: i64,
        /// Said by the proxy to be stored durably.
        tokens_committed_to_db: i64,
        /// Earned, stored or not.
        max_tokens: i64,
    }
}

tl_struct! {
    /// What the proxy knows of the account.
    pub struct CompareBalanceWithProxyResult<'a> = worker.compareBalanceWithProxyResult {
        /// The latest payout; workers of the deployed network want one even for 0 tokens.
        signed_payment: proxy::SignedPayment<'a>,
        /// Adjusted tokens stored durably.
        tokens_committed_to_db: i64,
        /// Adjusted tokens earned, stored or not.
        max_tokens: i64,
        /// 0, or 1 if the proxy knows of fewer tokens than the worker.
        error_code: i32,
    }
}

tl_struct! {
    /// Extra step when the balances differ. Answered by [`ExtendedCompareBalanceWithProxyResult`].
    pub struct ExtendedCompareBalanceWithProxy<'a> = worker.extendedCompareBalanceWithProxy {
        /// Adjusted tokens said by the proxy to be stored durably.
        tokens_committed_to_db: i64,
        /// Without a meaning so far; empty.
        other: &'a [u8],
    }
}

tl_struct! {
    /// The answer to the extra step.
    pub struct ExtendedCompareBalanceWithProxyResult = worker.extendedCompareBalanceWithProxyResult {
        /// 0 in the deployed network.
        error_code: i32,
    }
}

tl_struct! {
    /// Last step: the worker is content. Answered by [`ProxyHandshakeCompleted`].
    pub struct ProxyHandshakeComplete = worker.proxyHandshakeComplete {
        /// Whether the worker takes no requests for now.
        is_disabled: bool,
    }
}

tl_struct! {
    /// The connection is ready.
    pub struct ProxyHandshakeCompleted = worker.proxyHandshakeCompleted {}
}

tl_struct! {
    /// The worker starts or stops taking requests.
    pub struct EnabledDisabled = worker.enabledDisabled {
        /// 0 or 1.
        disabled: i32,
    }
}

tl_struct! {
    /// The worker changes its price for requests to come.
    pub struct NewCoefficient = worker.newCoefficient {
        /// In thousandths; never negative.
        new_coefficient: i32,
    }
}

tl_struct! {
    /// Asks where the account stands. Answered by [`PaymentStatus`].
    pub struct UpdatePaymentStatus = worker.updatePaymentStatus {}
}

tl_struct! {
    /// Where the account stands.
    pub struct PaymentStatus<'a> = worker.paymentStatus {
        /// The latest payout.
        signed_payment: proxy::SignedPayment<'a>,
        /// Adjusted tokens stored durably as earned, over the life of the contract.
        db_tokens: i64,
        /// Adjusted tokens earned, stored or not, over the life of the contract.
        max_tokens: i64,
    }
}
