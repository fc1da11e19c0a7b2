//! One link to a proxy, from the handshake to its end.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gateway::ApiError;
use gateway::server::Model;
use node::failpoint;
use rand::RngExt as _;
use tokio::time::Instant;
use ton::Address;
use transport::clock::unix_now;
use transport::{CloseReason, Link, LinkEvent, LinkEvents, QueryError};
use units::ProtocolVersion;
use wire::client::{PaymentStatus, UpdatePaymentStatus};
use wire::{DecodeError, StatusCode};

use super::Requests;
use super::slot::Readiness;
use crate::session::{Contracts, ExpectConnected, FromProxy, Models, Session, SessionError};
use crate::settlement::Purse;
use crate::shared::Shared;

/// Deadlines of the deployed network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The long way waits for a transaction.
const AUTHORIZE_TIMEOUT: Duration = Duration::from_secs(300);
const PAYMENT_STATUS_TIMEOUT: Duration = Duration::from_secs(60);
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);

/// How often models are asked for while no worker is known: soon at first, since a network that has just been
/// started gets its first worker within a moment.
const MODELS_SOONEST: Duration = Duration::from_millis(200);
/// How often models are asked for at last, and while workers are known.
const MODELS_LATEST: Duration = Duration::from_secs(10);

/// Why a link to a proxy was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The proxy did not answer, or refused.
    #[error("the proxy did not complete the handshake")]
    Query(#[from] QueryError),
    /// The proxy said something that we do not accept.
    #[error("the proxy was refused")]
    Session(#[from] SessionError),
    /// The proxy broke the protocol in the session.
    #[error("the proxy misbehaved")]
    Misbehaved(#[source] SessionError),
    /// The link ended.
    #[error("the link ended")]
    Closed(#[source] CloseReason),
    /// The proxy takes no more requests; those that run go on.
    #[error("the proxy takes no more requests")]
    Leaves(Lingering),
}

/// A connection whose proxy takes no more requests. Dropping it fails those that run.
pub(crate) struct Lingering {
    connection: Arc<Connection>,
    events: LinkEvents,
}

impl std::fmt::Debug for Lingering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lingering").finish_non_exhaustive()
    }
}

/// How often it is looked whether the last request has ended. Only a link waits for it.
const LINGER_INTERVAL: Duration = Duration::from_secs(1);

impl Lingering {
    /// Returns once the requests that run have ended.
    pub(crate) async fn finish(mut self, shared: Arc<Shared>) {
        while !self.connection.requests.is_idle() {
            let receiving = receive(&shared, &self.connection, &mut self.events);
            if tokio::time::timeout(LINGER_INTERVAL, receiving).await.is_ok_and(|ended| ended.is_some()) {
                break;
            }
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.connection.link.close("the proxy takes no more requests");
        self.connection.requests.fail_all();
    }
}

/// A link that is ready for requests.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) session: Session,
    pub(crate) requests: Arc<Requests>,
    models: Mutex<Vec<Model>>,
}

impl Connection {
    pub(super) fn has_worker_for(&self, name: &str) -> bool {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().any(|model| model.id == name && !model.workers.is_empty())
    }

    /// Asks the proxy for its models and keeps the answer.
    ///
    /// # Errors
    /// [`ApiError`] if it does not answer or the answer makes no sense.
    pub(crate) async fn ask_models(&self) -> Result<Vec<Model>, ApiError> {
        let protocol = self.session.protocol;
        failpoint::pass("client-query");
        let answer =
            self.link.query(Models::query(protocol), MODELS_TIMEOUT).await.map_err(|error| match error {
                QueryError::Refused { code, message } => ApiError::from_wire(code.code(), &message),
                QueryError::Timeout => {
                    ApiError::from_wire(652, "the proxy did not say in time which models it has")
                }
                QueryError::Closed | QueryError::TooLarge { .. } => {
                    ApiError::from_wire(651, "the connection to the proxy ended")
                }
            })?;
        let models = Models::read(protocol, &answer).map_err(|_malformed: DecodeError| {
            ApiError::new(gateway::ErrorKind::PeerMisbehaved, "the proxy's list of models cannot be read")
        })?;
        models.clone_into(&mut self.models.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(models)
    }

    /// Whether any model has a worker.
    pub(crate) fn has_workers(&self) -> bool {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().any(|model| !model.workers.is_empty())
    }
}

/// Does the handshake on a fresh link and keeps the connection in the pool until the link ends.
pub(crate) async fn serve(
    shared: &Shared,
    link: Link,
    mut events: LinkEvents,
    slot: usize,
    address: SocketAddrV4,
) -> Ended {
    // As long as the link is there, its proxy is paid.
    let (session, _paying) = match handshake(shared, &link, &mut events, address).await {
        Ok(session) => session,
        Err(ended) => {
            link.close("handshake failed");
            return ended;
        }
    };
    let streams = (session.protocol == ProtocolVersion::V3).then(|| link.clone());
    let requests = Requests::new(shared.config.waiting_len_max, streams);
    let connection = Arc::new(Connection { link, session, requests, models: Mutex::new(Vec::new()) });
    let mut ready = Ready::enter(shared, &connection, slot);
    let ended = tokio::select! {
        ended = receive(shared, &connection, &mut events) => ended,
        never = follow_payments(shared, &connection) => match never {},
        never = follow_models(&connection) => match never {},
    };
    match ended {
        Some(ended) => {
            connection.link.close("session over");
            ended
        }
        None => {
            ready.is_left = true;
            drop(ready);
            Ended::Leaves(Lingering { connection, events })
        }
    }
}

async fn handshake<'s>(
    shared: &'s Shared,
    link: &Link,
    events: &mut LinkEvents,
    address: SocketAddrV4,
) -> Result<(Session, Option<Paying<'s>>), Ended> {
    let attestation = link.peer().attestation();
    let (expect, query) = ExpectConnected::begin(shared.party.clone(), shared.root(), attestation)?;
    failpoint::pass("client-query");
    let answer = link.query(query, CONNECT_TIMEOUT).await?;
    let (expect, query) = expect.handle(&answer, &shared.accounts)?;
    if let Some(greeting) = expect.greeting() {
        link.try_send(greeting).map_err(|_closed_or_full| QueryError::Closed)?;
    }
    let paying = shared.purse.as_ref().map(|purse| {
        let Contracts { proxy, proxy_key, client } = expect.contracts();
        purse.begin(expect.config(), address, proxy, proxy_key, expect.nonce(), unix_now());
        Paying { purse, client: *client, nonce: expect.nonce() }
    });
    failpoint::pass("client-query");
    let answer = link.query(query, AUTHORIZE_TIMEOUT).await?;
    let mut session = expect.handle(&answer, &shared.accounts)?;
    if let Some(Paying { purse, client, nonce }) = &paying {
        purse.authorised(client, *nonce);
    }
    if session.protocol == ProtocolVersion::V3 {
        // It was sent before the authorisation was answered, so an honest proxy makes nobody wait.
        match tokio::time::timeout(CONNECT_TIMEOUT, events.next()).await {
            Ok(Some(LinkEvent::Packet(packet))) => session.agree(&packet)?,
            Ok(Some(LinkEvent::Closed(reason))) => return Err(Ended::Closed(reason)),
            Ok(_) | Err(_) => return Err(SessionError::NoCapabilities.into()),
        }
    }
    Ok((session, paying))
}

/// A connection whose proxy is paid. Once it is gone, nothing more is sent for it.
struct Paying<'s> {
    purse: &'s Purse,
    client: Address,
    nonce: Option<u64>,
}

impl Drop for Paying<'_> {
    fn drop(&mut self) {
        self.purse.leave(&self.client, self.nonce);
    }
}

/// Membership in the pool. However the connection ends, its requests end with it.
struct Ready<'s> {
    shared: &'s Shared,
    connection: Arc<Connection>,
    slot: usize,
    since: Instant,
    /// Its requests go on without it.
    is_left: bool,
}

impl<'s> Ready<'s> {
    fn enter(shared: &'s Shared, connection: &Arc<Connection>, slot: usize) -> Self {
        shared.slots.ready(slot, connection.session.proxy_contract);
        shared.pool.add(Arc::clone(connection));
        Self { shared, connection: Arc::clone(connection), slot, since: Instant::now(), is_left: false }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.shared.pool.remove(&self.connection);
        let (ready_for, has_served) = (self.since.elapsed(), self.connection.requests.has_served());
        self.shared.slots.left(self.slot, Readiness { ready_for, has_served });
        if !self.is_left {
            self.connection.requests.fail_all();
        }
    }
}

/// Reads what the proxy sends until the link ends. `None` as soon as the proxy says that it takes no more requests.
async fn receive(shared: &Shared, connection: &Connection, events: &mut LinkEvents) -> Option<Ended> {
    loop {
        match events.next().await {
            Some(LinkEvent::Packet(frame)) => match take(shared, connection, &frame) {
                Ok(Taken::Handled) => {}
                Ok(Taken::GoingAway) => return None,
                Err(error) => {
                    connection.link.close("malformed message");
                    return Some(Ended::Misbehaved(error));
                }
            },
            Some(LinkEvent::Query(query)) => {
                query.responder.refuse(StatusCode::PROTOCOL_VIOLATION, "a client answers no queries");
            }
            Some(LinkEvent::Closed(reason)) => return Some(Ended::Closed(reason)),
            None => return Some(Ended::Closed(CloseReason::Local("session over"))),
        }
    }
}

/// What a message asks of its connection.
enum Taken {
    Handled,
    GoingAway,
}

/// Takes one message of the proxy.
fn take(shared: &Shared, connection: &Connection, frame: &Bytes) -> Result<Taken, SessionError> {
    let account = &connection.session.proxy_contract;
    match wire::decode(frame) {
        Ok(FromProxy::ClientRequestPayment(message)) => shared.accounts.with(account, |account| {
            account.adopt(&message.signed_payment, message.db_tokens, message.max_tokens)
        })?,
        Ok(FromProxy::SignedPayment(payment)) => {
            shared.accounts.with(account, |account| account.take_payment(&payment));
        }
        Ok(FromProxy::Credit(credit)) => connection.requests.credit(&credit),
        Ok(FromProxy::GoingAway(_)) if connection.session.protocol == ProtocolVersion::V3 => {
            return Ok(Taken::GoingAway);
        }
        Ok(answer) => {
            if !connection.requests.deliver(&answer, frame) {
                // What was under way when a request was given up still comes; before version 3, all of it.
                shared.stats.ignored_message();
            }
        }
        // Newer proxies may know more than we do.
        Err(DecodeError::UnknownConstructor { id }) => {
            tracing::debug!(id, "ignored a message of an unknown kind");
        }
        Err(malformed) => return Err(malformed.into()),
    }
    Ok(Taken::Handled)
}

/// Asks again and again where the account stands.
async fn follow_payments(shared: &Shared, connection: &Connection) -> std::convert::Infallible {
    loop {
        let pause = rand::rng().random_range(10.0..20.0);
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        let query = wire::encode(&UpdatePaymentStatus {});
        failpoint::pass("client-query");
        let Ok(answer) = connection.link.query(query, PAYMENT_STATUS_TIMEOUT).await else {
            // A link that fails ends by itself; a refusal leaves the account as it is.
            continue;
        };
        let adopted =
            wire::decode(&answer).map_err(SessionError::from).and_then(|status: PaymentStatus<'_>| {
                shared.accounts.with(&connection.session.proxy_contract, |account| {
                    account.adopt(&status.signed_payment, status.db_tokens, status.max_tokens)
                })
            });
        if let Err(error) = adopted {
            tracing::warn!(error = &error as &dyn std::error::Error, "ignored a payment status");
        }
    }
}

/// Asks again and again which models the proxy has.
async fn follow_models(connection: &Connection) -> std::convert::Infallible {
    let mut soon = MODELS_SOONEST;
    loop {
        if let Err(error) = connection.ask_models().await {
            tracing::debug!(%error, "a proxy did not say which models it has");
        }
        if connection.has_workers() {
            soon = MODELS_SOONEST;
            tokio::time::sleep(MODELS_LATEST).await;
        } else {
            tokio::time::sleep(soon).await;
            soon = (soon * 3 / 2).min(MODELS_LATEST);
        }
    }
}
