//! Which type holds which constructor of the schema. Also used by the fuzz targets.

use bytes::Bytes;
use wire::{DecodeError, TokensUsed, client, http, key_manager, peer, proxy, stream, tcp, worker};

/// A type to read objects with.
pub(crate) struct Entry {
    /// Name in the schema, or of the set.
    pub(crate) name: &'static str,
    /// For a set of constructors: their names.
    pub(crate) members: &'static [&'static str],
    /// Decodes and encodes again.
    pub(crate) reencode: fn(&[u8]) -> Result<Bytes, DecodeError>,
    /// Decodes and formats.
    pub(crate) show: fn(&[u8]) -> Result<String, DecodeError>,
}

macro_rules! entries {
    ($($name:literal $([$($member:literal),* $(,)?])? => $ty:ty,)*) => {
        &[$(Entry {
            name: $name,
            members: &[$($($member),*)?],
            reencode: |bytes| wire::decode::<$ty>(bytes).map(|object| wire::encode(&object)),
            show: |bytes| wire::decode::<$ty>(bytes).map(|object| format!("{object:?}")),
        }),*]
    };
}

/// One entry per constructor.
pub(crate) const CONSTRUCTORS: &[Entry] = entries! {
    "tcp.connect" => tcp::Packet<'_>,
    "tcp.connected" => tcp::Packet<'_>,
    "tcp.ping" => tcp::Packet<'_>,
    "tcp.pong" => tcp::Packet<'_>,
    "tcp.packet" => tcp::Packet<'_>,
    "tcp.query" => tcp::Packet<'_>,
    "tcp.queryAnswer" => tcp::Packet<'_>,
    "tcp.queryError" => tcp::Packet<'_>,

    "tokensUsed" => TokensUsed,
    "http.header" => http::Header<'_>,
    "http.request" => http::Request<'_>,
    "http.response" => http::Response<'_>,
    "proxy.params" => proxy::Params<'_>,
    "proxy.signedPayment" => proxy::SignedPayment<'_>,
    "proxy.signedPaymentEmpty" => proxy::SignedPayment<'_>,

    "client.params" => client::Params<'_>,
    "client.connectToProxy" => client::ConnectToProxy<'_>,
    "client.connectedToProxy" => client::ConnectedToProxy<'_>,
    "client.proxyConnectionAuthShort" => client::ProxyConnectionAuth,
    "client.proxyConnectionAuthLong" => client::ProxyConnectionAuth,
    "client.authorizeWithProxyShort" => client::AuthorizeWithProxyShort<'_>,
    "client.authorizeWithProxyLong" => client::AuthorizeWithProxyLong,
    "client.authorizationWithProxySuccess" => client::AuthorizationWithProxySuccess<'_>,
    "client.authorizationWithProxyFailed" => client::AuthorizationWithProxyFailed<'_>,
    "client.runQuery" => client::RunQuery<'_>,
    "client.runQueryEx" => client::RunQueryEx<'_>,
    "client.queryAnswer" => client::QueryAnswer<'_>,
    "client.queryAnswerError" => client::QueryAnswerError<'_>,
    "client.queryAnswerPart" => client::QueryAnswerPart<'_>,
    "client.queryAnswerPartError" => client::QueryAnswerPartError<'_>,
    "client.queryFinalInfo" => client::QueryFinalInfo<'_>,
    "client.queryAnswerEx" => client::QueryAnswerEx<'_>,
    "client.queryAnswerErrorEx" => client::QueryAnswerErrorEx<'_>,
    "client.queryAnswerPartEx" => client::QueryAnswerPartEx<'_>,
    "client.getWorkerTypes" => client::GetWorkerTypes,
    "client.workerType" => client::WorkerType<'_>,
    "client.workerTypes" => client::WorkerTypes<'_>,
    "client.getWorkerTypesV2" => client::GetWorkerTypesV2,
    "client.workerInstanceV2" => client::WorkerInstanceV2,
    "client.workerTypeV2" => client::WorkerTypeV2<'_>,
    "client.workerTypesV2" => client::WorkerTypesV2<'_>,
    "client.updatePaymentStatus" => client::UpdatePaymentStatus,
    "client.paymentStatus" => client::PaymentStatus<'_>,
    "proxy.clientRequestPayment" => proxy::ClientRequestPayment<'_>,
    "client.requestRefund" => client::RequestRefund,
    "client.refund" => client::Refund<'_>,
    "client.refundRejected" => client::RefundRejected,

    "worker.params" => worker::Params<'_>,
    "worker.connectToProxy" => worker::ConnectToProxy<'_>,
    "worker.connectedToProxy" => worker::ConnectedToProxy<'_>,
    "worker.compareBalanceWithProxy" => worker::CompareBalanceWithProxy,
    "worker.compareBalanceWithProxyResult" => worker::CompareBalanceWithProxyResult<'_>,
    "worker.extendedCompareBalanceWithProxy" => worker::ExtendedCompareBalanceWithProxy<'_>,
    "worker.extendedCompareBalanceWithProxyResult" => worker::ExtendedCompareBalanceWithProxyResult,
    "worker.proxyHandshakeComplete" => worker::ProxyHandshakeComplete,
    "worker.proxyHandshakeCompleted" => worker::ProxyHandshakeCompleted,
    "proxy.runQuery" => proxy::RunQuery<'_>,
    "proxy.runQueryEx" => proxy::RunQueryEx<'_>,
    "proxy.queryAnswer" => proxy::QueryAnswer<'_>,
    "proxy.queryAnswerError" => proxy::QueryAnswerError<'_>,
    "proxy.queryAnswerPart" => proxy::QueryAnswerPart<'_>,
    "proxy.queryAnswerPartError" => proxy::QueryAnswerPartError<'_>,
    "proxy.queryFinalInfo" => proxy::QueryFinalInfo<'_>,
    "proxy.queryAnswerEx" => proxy::QueryAnswerEx<'_>,
    "proxy.queryAnswerErrorEx" => proxy::QueryAnswerErrorEx<'_>,
    "proxy.queryAnswerPartEx" => proxy::QueryAnswerPartEx<'_>,
    "proxy.workerRequestPayment" => proxy::WorkerRequestPayment<'_>,
    "worker.enabledDisabled" => worker::EnabledDisabled,
    "worker.newCoefficient" => worker::NewCoefficient,
    "worker.updatePaymentStatus" => worker::UpdatePaymentStatus,
    "worker.paymentStatus" => worker::PaymentStatus<'_>,

    "keyManager.getProxyPrivateKeys" => key_manager::GetProxyPrivateKeys,
    "keyManager.getWorkerPrivateKeys" => key_manager::GetWorkerPrivateKeys,
    "keyManager.privateKey" => key_manager::PrivateKey,
    "keyManager.privateKeys" => key_manager::PrivateKeys,

    "peer.capabilities" => peer::Capabilities,
    "peer.goingAway" => peer::GoingAway,
    "stream.begin" => stream::Begin<'_>,
    "stream.bodyPart" => stream::BodyPart<'_>,
    "stream.cancel" => stream::Cancel,
    "stream.credit" => stream::Credit,
    "stream.usage" => stream::Usage,
};

/// One entry per set of objects that may stand in the same place.
pub(crate) const SETS: &[Entry] = entries! {
    "tcp::Packet" [
        "tcp.connect", "tcp.connected", "tcp.ping", "tcp.pong", "tcp.packet", "tcp.query", "tcp.queryAnswer",
        "tcp.queryError",
    ] => tcp::Packet<'_>,
    "client::Query" [
        "client.connectToProxy", "client.authorizeWithProxyShort", "client.authorizeWithProxyLong",
        "client.getWorkerTypes", "client.getWorkerTypesV2", "client.updatePaymentStatus", "client.requestRefund",
    ] => client::Query<'_>,
    "client::Packet" [
        "client.runQuery", "client.runQueryEx", "peer.capabilities", "stream.begin", "stream.bodyPart",
        "stream.cancel", "stream.credit",
    ] => client::Packet<'_>,
    "client::FromProxy" [
        "client.queryAnswer", "client.queryAnswerError", "client.queryAnswerPart", "client.queryAnswerPartError",
        "client.queryAnswerEx", "client.queryAnswerErrorEx", "client.queryAnswerPartEx",
        "proxy.clientRequestPayment", "proxy.signedPayment", "proxy.signedPaymentEmpty", "peer.capabilities",
        "peer.goingAway", "stream.credit",
    ] => client::FromProxy<'_>,
    "client::AuthorizationWithProxy" [
        "client.authorizationWithProxySuccess", "client.authorizationWithProxyFailed",
    ] => client::AuthorizationWithProxy<'_>,
    "worker::Query" [
        "worker.connectToProxy", "worker.compareBalanceWithProxy", "worker.extendedCompareBalanceWithProxy",
        "worker.proxyHandshakeComplete", "worker.updatePaymentStatus",
    ] => worker::Query<'_>,
    "worker::ToProxy" [
        "proxy.queryAnswer", "proxy.queryAnswerError", "proxy.queryAnswerPart", "proxy.queryAnswerPartError",
        "proxy.queryAnswerEx", "proxy.queryAnswerErrorEx", "proxy.queryAnswerPartEx",
        "worker.enabledDisabled", "worker.newCoefficient", "peer.capabilities", "stream.credit", "stream.usage",
    ] => worker::ToProxy<'_>,
    "worker::FromProxy" [
        "proxy.runQuery", "proxy.runQueryEx", "proxy.workerRequestPayment", "proxy.signedPayment",
        "proxy.signedPaymentEmpty", "peer.capabilities", "peer.goingAway", "stream.begin", "stream.bodyPart",
        "stream.cancel", "stream.credit",
    ] => worker::FromProxy<'_>,
    "key_manager::Query" [
        "keyManager.getProxyPrivateKeys", "keyManager.getWorkerPrivateKeys",
    ] => key_manager::Query,
};
