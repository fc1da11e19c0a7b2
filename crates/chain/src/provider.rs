//! One server of HTTP API v2, asked over HTTP or HTTPS.
//!
//! Every question has a deadline, every answer a length. Questions that change nothing are asked again a few times, with
//! growing pauses; a message is handed in once, and whoever sends it decides what follows.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rand::RngExt as _;
use serde_json::{Value, json};
use ton::Address;
use ton::getters::{Getter, GetterError};
use ton::stack;
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use units::{BlockSeqno, LogicalTime, NanoTon};

use crate::account::Account;
use crate::answers::{self, Envelope, GetterAnswer, Malformed};
use crate::endpoint::Endpoint;
use crate::network::Network;
use crate::transaction::{Transaction, TransactionId};

mod tls;

/// Bounds of talking to a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long one answer may take, its body included. Default: 10 s.
    pub answer_time_max: Duration,
    /// Bytes of one answer. Default: 8 MiB, a page of large transactions.
    pub answer_len_max: usize,
    /// How often a question is asked before its error is told. Default: 4.
    pub attempts_max: u32,
    /// The pause before the second attempt; it doubles with each. Default: 0.2 s.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer_time_max: Duration::from_secs(10),
            answer_len_max: 8 << 20,
            attempts_max: 4,
            pause: Duration::from_millis(200),
        }
    }
}

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A question without a usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Nothing was exchanged, or it broke off.
    #[error("{endpoint} cannot be asked for {method}: is it running, and is the address right?")]
    Unreachable {
        /// The server.
        endpoint: String,
        /// The question.
        method: &'static str,
        /// What broke.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No whole answer in time.
    #[error("{endpoint} did not answer {method} within {within:?}")]
    Late {
        /// The server.
        endpoint: String,
        /// The question.
        method: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// More than anybody asked for.
    #[error("the answer to {method} is longer than {len_max} bytes")]
    TooLong {
        /// The question.
        method: &'static str,
        /// What is read at most.
        len_max: usize,
    },
    /// The server has no time for us.
    #[error(
        "{endpoint} answers {method} with status {status}: too many questions, or it is out of order; a key of its own may help"
    )]
    Busy {
        /// The server.
        endpoint: String,
        /// The question.
        method: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// The server understood and said no.
    #[error("{method} was refused with code {code}: {words}")]
    Refused {
        /// The question.
        method: &'static str,
        /// Its number for the reason, as HTTP has them.
        code: i64,
        /// Its words, cut and cleaned.
        words: String,
    },
    /// An answer of the past.
    #[error(
        "{endpoint} tells of an account as of block {block}, and has told of block {newest}: it is behind, or one of several \
         servers there is; ask again later or another one"
    )]
    Old {
        /// The server.
        endpoint: String,
        /// The block as of which it answers.
        block: BlockSeqno,
        /// The newest one that it knew when it was asked.
        newest: BlockSeqno,
    },
    /// An answer that makes no sense.
    #[error("the answer to {method} cannot be used")]
    Malformed {
        /// The question.
        method: &'static str,
        /// What is wrong.
        source: Malformed,
    },
    /// A get method that the contract does not have, or that it answers in another way.
    #[error("account {account} does not answer as it should")]
    Getter {
        /// The account.
        account: Address,
        /// How it answers.
        source: GetterError,
    },
}

impl ProviderError {
    /// Whether the same question may be answered when asked again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } | Self::Busy { .. } | Self::Old { .. } => true,
            // What the server's own liteservers could not say in time.
            Self::Refused { code, .. } => *code >= 500,
            Self::TooLong { .. } | Self::Malformed { .. } | Self::Getter { .. } => false,
        }
    }
}

/// A client of one server. Clones share its connections.
#[derive(Clone)]
pub struct Provider {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    limits: Limits,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The newest block as of which an account was told.
    newest: AtomicU32,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({})", self.shared.endpoint)
    }
}

/// The newest block that a server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number in the masterchain.
    pub seqno: BlockSeqno,
    /// When it was made, since 1970.
    pub time: Duration,
}

impl Provider {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, limits: Limits) -> Self {
        Self::over(tls::connector(), endpoint, limits)
    }

    fn over(connector: HttpsConnector<HttpConnector>, endpoint: Endpoint, limits: Limits) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { shared: Arc::new(Shared { endpoint, limits, client, newest: AtomicU32::new(0) }) }
    }

    /// The server.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// An account as of the newest block: never as of one before those that earlier answers were of, so that nobody
    /// decides anew what was decided and done. Behind one address there are often several servers, some of them late.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn account(&self, account: &Address) -> Result<Account, ProviderError> {
        let params = json!({ "address": account.to_string() });
        // Answers to questions that were asked at the same time may overtake each other: what was known before counts.
        let newest = self.shared.newest.load(Ordering::Relaxed);
        let is_of_now = |told: &Account| {
            self.shared.newest.fetch_max(told.block.get(), Ordering::Relaxed);
            if told.block.get() >= newest {
                return Ok(());
            }
            let (endpoint, newest) = (self.endpoint().to_string(), BlockSeqno::new(newest));
            Err(ProviderError::Old { endpoint, block: told.block, newest })
        };
        self.ask_until("getAddressInformation", &params, answers::account, is_of_now).await
    }

    /// The newest block. Two questions.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn head(&self) -> Result<Head, ProviderError> {
        let block = self.ask("getMasterchainInfo", &json!({}), answers::newest_block).await?;
        let params = json!({
            "workchain": block.workchain, "shard": block.shard.to_string(), "seqno": block.seqno,
        });
        let time = self.ask("getBlockHeader", &params, answers::block_time).await?;
        Ok(Head { seqno: BlockSeqno::new(block.seqno), time })
    }

    /// Which network the server says it serves.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn network(&self) -> Result<Network, ProviderError> {
        self.ask("getMasterchainInfo", &json!({}), answers::network).await
    }

    /// Up to `count` transactions of an account from `from` on, the newest first, as bags of cells: what they are worth is
    /// for [`Follower`](crate::Follower) to find out.
    pub(crate) async fn transactions(
        &self,
        account: &Address,
        from: TransactionId,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, ProviderError> {
        let params = json!({
            "address": account.to_string(),
            "limit": count,
            "lt": from.lt.to_string(),
            "hash": STANDARD.encode(from.hash.as_bytes()),
            "archival": true,
        });
        self.ask("getTransactions", &params, answers::transactions).await
    }

    /// The transaction that a message led to, read from its cell; none if the server knows none yet.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn transaction_of_message(
        &self,
        from: &Address,
        to: &Address,
        created_lt: LogicalTime,
    ) -> Result<Option<Transaction>, ProviderError> {
        const METHOD: &str = "tryLocateResultTx";
        let params = json!({
            "source": from.to_string(), "destination": to.to_string(), "created_lt": created_lt.to_string(),
        });
        // Every server has its own code for "not yet", so nothing is asked twice here.
        let boc = match self.ask_once(METHOD, &params, answers::transaction).await {
            Err(ProviderError::Refused { .. }) => return Ok(None),
            answer => answer?,
        };
        let transaction = Transaction::from_boc(to, &boc);
        transaction.map(Some).map_err(|error| ProviderError::Malformed {
            method: METHOD,
            source: answers::malformed("data", error),
        })
    }

    /// What a contract answers.
    ///
    /// # Errors
    /// [`ProviderError`]. With [`ProviderError::Getter`], the account has no such contract.
    pub async fn getter<G: Getter>(&self, account: &Address, getter: &G) -> Result<G::Answer, ProviderError> {
        let stack = stack::to_json(&getter.arguments());
        let params = json!({ "address": account.to_string(), "method": getter.method(), "stack": stack });
        let GetterAnswer { exit_code, stack } = self.ask("runGetMethod", &params, answers::getter).await?;
        let answer = getter.answer(exit_code, &stack);
        answer.map_err(|source| ProviderError::Getter { account: *account, source })
    }

    /// Hands in an external message, once.
    ///
    /// # Errors
    /// [`ProviderError`]. With [`ProviderError::Refused`], the account refuses it as things are; with any other one it may
    /// have been taken all the same.
    pub async fn send(&self, message: &Cell) -> Result<(), ProviderError> {
        let params = json!({ "boc": STANDARD.encode(Boc::encode(message)) });
        self.ask_once("sendBoc", &params, |_done| Ok(())).await
    }

    /// What an external message with this body would cost its account now, signatures unchecked: import, storage, gas, and
    /// the way of the messages that it sends.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn estimate(
        &self,
        account: &Address,
        state_init: Option<(&Cell, &Cell)>,
        body: &Cell,
    ) -> Result<NanoTon, ProviderError> {
        let text = |cell: &Cell| STANDARD.encode(Boc::encode(cell));
        let (code, data) = state_init.map_or_else(Default::default, |(code, data)| (text(code), text(data)));
        let params = json!({
            "address": account.to_string(), "body": text(body), "init_code": code, "init_data": data,
            "ignore_chksig": true,
        });
        self.ask("estimateFee", &params, answers::fees).await
    }

    /// Asks until there is an answer, a refusal that stays one, or no attempt left.
    async fn ask<T>(
        &self,
        method: &'static str,
        params: &Value,
        read: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<T, ProviderError> {
        self.ask_until(method, params, read, |_answer| Ok(())).await
    }

    /// [`Self::ask`], where an answer must be one that `takes` takes.
    async fn ask_until<T>(
        &self,
        method: &'static str,
        params: &Value,
        read: impl Fn(&str) -> Result<T, Malformed>,
        takes: impl Fn(&T) -> Result<(), ProviderError>,
    ) -> Result<T, ProviderError> {
        let mut pause = self.shared.limits.pause;
        let mut attempts = 1;
        loop {
            let answer = self.ask_once(method, params, &read).await;
            match answer.and_then(|answer| takes(&answer).map(|()| answer)) {
                Err(error) if error.is_passing() && attempts < self.shared.limits.attempts_max => {}
                answer => return answer,
            }
            attempts += 1;
            let part = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(part)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn ask_once<T>(
        &self,
        method: &'static str,
        params: &Value,
        read: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<T, ProviderError> {
        let within = self.shared.limits.answer_time_max;
        let exchange = tokio::time::timeout(within, self.exchange(method, params)).await;
        let (status, body) = exchange.map_err(|_elapsed| ProviderError::Late {
            endpoint: self.endpoint().to_string(),
            method,
            within,
        })??;
        self.result(method, status, &body, read)
    }

    fn exchange(
        &self,
        method: &'static str,
        params: &Value,
    ) -> impl Future<Output = Result<(StatusCode, Bytes), ProviderError>> {
        let body = json!({ "id": "1", "jsonrpc": "2.0", "method": method, "params": params });
        let shared = &self.shared;
        let unreachable = move |source: Box<dyn std::error::Error + Send + Sync>| {
            ProviderError::Unreachable { endpoint: shared.endpoint.to_string(), method, source }
        };
        async move {
            let mut request = Request::post(shared.endpoint.uri())
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body.to_string())))
                .map_err(|error| unreachable(error.into()))?;
            if let Some(key) = shared.endpoint.api_key() {
                let mut key = HeaderValue::from_str(key).map_err(|error| unreachable(error.into()))?;
                key.set_sensitive(true);
                request.headers_mut().insert("X-API-Key", key);
            }
            let response = shared.client.request(request).await.map_err(|error| unreachable(error.into()))?;
            let status = response.status();
            let len_max = shared.limits.answer_len_max;
            match Limited::new(response.into_body(), len_max).collect().await {
                Ok(body) => Ok((status, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => {
                    Err(ProviderError::TooLong { method, len_max })
                }
                Err(error) => Err(unreachable(error)),
            }
        }
    }

    fn result<T>(
        &self,
        method: &'static str,
        status: StatusCode,
        body: &Bytes,
        read: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<T, ProviderError> {
        let malformed = |source| ProviderError::Malformed { method, source };
        let busy =
            || ProviderError::Busy { endpoint: self.endpoint().to_string(), method, status: status.as_u16() };
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(busy());
        }
        let envelope: Envelope<'_> = match serde_json::from_slice(body) {
            Ok(envelope) => envelope,
            // A page of a forwarder in front of the server.
            Err(_page) if !status.is_success() => return Err(busy()),
            Err(error) => return Err(malformed(answers::malformed("answer", error))),
        };
        match envelope.result {
            Some(result) if envelope.ok && status.is_success() => read(result.get()).map_err(malformed),
            _ => Err(ProviderError::Refused {
                method,
                code: envelope.code.unwrap_or_else(|| status.as_u16().into()),
                words: envelope.reason().unwrap_or_else(|| "no reason given".to_owned()),
            }),
        }
    }
}
