//! The handshake.

use crate::TlStr;
use crate::macros::{tl_dispatch, tl_enum, tl_struct};
use crate::messages::proxy;

tl_struct! {
    /// A client introduces itself.
    pub struct Params<'a> = client.params {
        #flags,
        /// Wallet that the client node spends from, as address text.
        client_owner_address: TlStr<'a>,
        @optional {
            /// Whether the client runs in test mode; both sides must agree. Sent by all but very old clients.
            0 => is_test: bool,
            /// Absent means version 0 only.
            1 => proto_range: ProtoRange,
        }
    }
}

tl_struct! {
    /// Protocol versions that a client or a worker speaks, both ends included.
    #[derive(Copy)]
    pub struct ProtoRange {
        /// The oldest.
        min_proto_version: i32,
        /// The newest.
        max_proto_version: i32,
    }
}

tl_struct! {
    /// First step of the handshake. Answered by [`ConnectedToProxy`].
    pub struct ConnectToProxy<'a> = client.connectToProxy {
        /// The client.
        params: Params<'a>,
        /// `version` of the root contract's state that the client has; the proxy may not work with an older one.
        min_config_version: i32,
    }
}

tl_struct! {
    /// The proxy accepts the client and says how it must authorize.
    pub struct ConnectedToProxy<'a> = client.connectedToProxy {
        /// The proxy.
        params: proxy::Params<'a>,
        /// The contract between the two, as address text.
        client_sc_address: TlStr<'a>,
        /// The second step.
        auth: ProxyConnectionAuth,
        /// The latest charge.
        signed_payment: proxy::SignedPayment<'a>,
    }
}

tl_enum! {
    /// How a client can authorize.
    pub enum ProxyConnectionAuth {
        /// With the secret that its contract holds the hash of.
        Short = client.proxyConnectionAuthShort {
            /// SHA-256 of the secret.
            secret_hash: [u8; 32],
            /// For the long way, should the client have lost its secret.
            nonce: i64,
        },
        /// With a transaction.
        Long = client.proxyConnectionAuthLong {
            /// To be registered on chain.
            nonce: i64,
        },
    }
}

tl_struct! {
    /// Second step with the secret. Answered by [`AuthorizationWithProxy`].
    pub struct AuthorizeWithProxyShort<'a> = client.authorizeWithProxyShort {
        /// The secret in clear.
        data: &'a [u8],
    }
}

tl_struct! {
    /// Second step with a transaction; the answer comes when the proxy has seen it.
    /// Answered by [`AuthorizationWithProxy`].
    pub struct AuthorizeWithProxyLong = client.authorizeWithProxyLong {}
}

tl_dispatch! {
    /// The answer to either second step.
    pub enum AuthorizationWithProxy<'a> {
        /// The connection is ready.
        Success(AuthorizationWithProxySuccess<'a>),
        /// Refused. Proxies of the deployed network refuse with `tcp.queryError` instead.
        Failed(AuthorizationWithProxyFailed<'a>),
    }
}

tl_struct! {
    /// The client is authorized; its account in adjusted tokens, over the life of the contract.
    pub struct AuthorizationWithProxySuccess<'a> = client.authorizationWithProxySuccess {
        /// The latest charge.
        signed_payment: proxy::SignedPayment<'a>,
        /// Used, stored durably.
        tokens_committed_to_db: i64,
        /// Used and reserved.
        max_tokens: i64,
    }
}

tl_struct! {
    /// The client is not authorized.
    pub struct AuthorizationWithProxyFailed<'a> = client.authorizationWithProxyFailed {
        /// See [`StatusCode`](crate::StatusCode).
        error_code: i32,
        /// For people to read.
        error: TlStr<'a>,
    }
}
