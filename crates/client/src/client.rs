//! The client as a library.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use gateway::server::{Model, ModelWorker};
use gateway::{ApiError, ErrorKind, RequestBody};
use node::failpoint;
use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ton::Address;
use transport::SendError;
use units::{Coefficient, RequestId};

use crate::answer::{Answer, Record};
use crate::config::{Config, StartError};
use crate::link::{Answering, Connection, keep_connected};
use crate::session::{Outgoing, RequestMessage, Step};
use crate::settlement::Stage;
use crate::shared::Shared;

/// A client of the network. Cheap to clone; connections are kept until the last clone is gone or
/// [`Client::shutdown`] is called.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why [`Client::connect`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be used.
    #[error("the client cannot start")]
    Start(#[from] StartError),
    /// No proxy became ready within the configured timeout.
    #[error("no proxy became ready within {} s: {}", timeout_s, problems.join("; "))]
    NoProxy {
        /// How long was waited, in seconds.
        timeout_s: u64,
        /// What went wrong last, for each connection.
        problems: Vec<String>,
    },
}

/// A request is offered to at most this many connections.
const ATTEMPTS_MAX: usize = 3;

impl Client {
    /// Starts to connect to proxies, and returns as soon as the root configuration was read.
    ///
    /// # Errors
    /// [`StartError`] if the configuration cannot be used.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let (shared, runner) = Shared::new(config).await?;
        let shared = Arc::new(shared);
        let tasks = Tasks { stop: CancellationToken::new(), tracker: TaskTracker::new() };
        for slot in 0..shared.config.proxy_connections {
            let (shared, stop) = (Arc::clone(&shared), tasks.stop.clone());
            tasks.tracker.spawn(stop.run_until_cancelled_owned(keep_connected(shared, slot)));
        }
        let (following, stop) = (Arc::clone(&shared), tasks.stop.clone());
        tasks.tracker.spawn(stop.run_until_cancelled_owned(async move { following.follow_root().await }));
        let (keeping, stop) = (Arc::clone(&shared), tasks.stop.clone());
        tasks.tracker.spawn(stop.run_until_cancelled_owned(async move { keeping.keep_charges().await }));
        if let Some(runner) = runner {
            let (paying, stop) = (Arc::clone(&shared), tasks.stop.clone());
            tasks.tracker.spawn(stop.run_until_cancelled_owned(runner.run(transport::clock::unix_now)));
            let stop = tasks.stop.clone();
            tasks.tracker.spawn(stop.run_until_cancelled_owned(async move { paying.pay().await }));
        }
        tasks.tracker.close();
        Ok(Self { shared, tasks: Arc::new(tasks) })
    }

    /// As [`Client::open`], and waits until a proxy is ready, at most the configured timeout of a request.
    ///
    /// # Errors
    /// [`ConnectError`] if the configuration cannot be used or no proxy became ready.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let timeout = config.timeout;
        let client = Self::open(config).await?;
        match tokio::time::timeout(timeout, client.ready()).await {
            Ok(()) => Ok(client),
            Err(_elapsed) => {
                let problems =
                    client.shared.slots.all().into_iter().filter_map(|slot| slot.problem).collect();
                Err(ConnectError::NoProxy { timeout_s: timeout.as_secs(), problems })
            }
        }
    }

    /// Waits until a proxy is ready.
    pub async fn ready(&self) {
        let mut count = self.shared.pool.count();
        // The sender lives in `shared`, so waiting cannot fail.
        let _count = count.wait_for(|count| *count > 0).await;
    }

    /// The models of all connected proxies, with the workers that serve them now.
    ///
    /// # Errors
    /// [`ApiError`] if no proxy is ready or none answers.
    pub async fn models(&self) -> Result<Vec<Model>, ApiError> {
        let connections = self.shared.pool.all();
        let asked = connections.iter().map(|connection| connection.ask_models());
        let mut models: BTreeMap<String, Vec<ModelWorker>> = BTreeMap::new();
        let (mut answered, mut failure) = (false, None);
        for answer in join_all(asked).await {
            match answer {
                Ok(list) => {
                    answered = true;
                    for model in list {
                        models.entry(model.id).or_default().extend(model.workers);
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            _ if answered => Ok(models.into_iter().map(|(id, workers)| Model { id, workers }).collect()),
            Some(error) => Err(error),
            None => Err(no_proxy()),
        }
    }

    /// Runs one request up to the head of its answer. Dropping the future or the answer gives it up.
    ///
    /// # Errors
    /// [`ApiError`] if it was refused or failed before the head came.
    pub async fn run(&self, request: &RequestBody) -> Result<Answer, ApiError> {
        self.run_as(RequestId::new(rand::rng().random()), request.clone()).await
    }

    /// As [`Client::run`] under a known id. A body that nobody else holds is not copied before it is a message.
    pub(crate) fn run_as(
        &self,
        id: RequestId,
        mut request: RequestBody,
    ) -> impl Future<Output = Result<Answer, ApiError>> + Send {
        let mut record = Record::start(Arc::clone(&self.shared), &request);
        // An `async fn` would hold the request twice: as its argument, and as what it works on.
        async move {
            let Shared { config, .. } = &*self.shared;
            let outcome = async {
                let timeout = request.timeout().unwrap_or(config.timeout);
                let body = request.take_for_wire(config.request_defaults());
                let default_ceiling = Coefficient::new(config.max_coefficient.into());
                let affinity =
                    request.affinity_key().map(|key| self.shared.affinity.conceal(request.model(), key));
                let message = RequestMessage {
                    id,
                    affinity: affinity.as_deref(),
                    route: request.route(),
                    model: request.model(),
                    tokens_max: request.tokens_max(config.request_defaults())?,
                    max_coefficient: request.max_coefficient().unwrap_or_else(|| {
                        default_ceiling.expect("the configuration was checked at the start")
                    }),
                    timeout,
                    enable_debug: request.enable_debug(),
                    config_version: self.shared.root().version,
                    body: &body,
                };
                let deadline = Instant::now() + timeout;
                match tokio::time::timeout_at(deadline, self.head(&message)).await {
                    Ok(Ok((first, answering))) => Ok((first, answering, deadline)),
                    Ok(Err(error)) => Err(error),
                    Err(_elapsed) => Err(timed_out()),
                }
            };
            match outcome.await {
                Ok((first, answering, deadline)) => Answer::new(id, first, answering, deadline, record),
                Err(error) => {
                    record.failed(None);
                    Err(error)
                }
            }
        }
    }

    /// Offers the request to connections until one takes it; returns what its answer begins with.
    ///
    /// A request that a proxy refused before the head, for a reason that another proxy may not have, was not
    /// charged and goes to the next connection. So does one whose proxy was lost: if only the link to it broke, the proxy
    /// gives the request up, and what a worker of an older version still counts is the price of not failing.
    async fn head(&self, message: &RequestMessage<'_>) -> Result<(Step, Answering), ApiError> {
        let mut tried: Vec<Arc<Connection>> = Vec::new();
        loop {
            let next = self.shared.pool.pick(message.model, &tried);
            let Some(connection) = next else { return Err(no_proxy()) };
            tried.push(Arc::clone(&connection));
            let may_go_on = tried.len() < ATTEMPTS_MAX && self.shared.pool.has_other(&tried);
            let mut answering = match connection.requests.open(message.id) {
                Ok(answering) => answering,
                Err(_lost) if may_go_on => continue,
                Err(error) => return Err(error),
            };
            let Outgoing { first, rest } = message.encode(connection.session.protocol);
            let upload = rest.map(|parts| (answering.begin_upload(parts.first_cost), parts));
            connection.session.ask(message);
            failpoint::pass("client-request");
            match connection.link.send(first).await {
                Ok(()) => {}
                Err(SendError::TooLarge { .. }) => {
                    let text = "the body does not fit one message of the network with its envelope";
                    return Err(ApiError::new(ErrorKind::BodyTooLarge, text));
                }
                Err(SendError::Closed | SendError::QueueFull) if may_go_on => continue,
                Err(SendError::Closed | SendError::QueueFull) => {
                    return Err(ApiError::new(ErrorKind::ProxyLost, "the connection to the proxy ended"));
                }
            }
            let rest_of_query = async {
                if let Some((gate, mut parts)) = upload {
                    while let Some((cost, part)) = parts.next() {
                        gate.pass(cost).await;
                        failpoint::pass("client-part");
                        // A lost link shows as the end of the answer.
                        let _lost = connection.link.send(part).await;
                    }
                }
                std::future::pending().await
            };
            // A refusal may come before the query has ended; then nobody wants the rest.
            let step = tokio::select! {
                biased;
                step = std::future::poll_fn(|context| answering.poll_step(context)) => step,
                () = rest_of_query => unreachable!("it never ends"),
            };
            if !may_go_on || !step.refusal().is_some_and(|error| is_local(&error)) {
                return Ok((step, answering));
            }
        }
    }

    /// What keeps the client from answering requests; empty when it is ready.
    pub(crate) fn missing(&self) -> Vec<String> {
        let ready = self.shared.pool.all();
        if ready.is_empty() {
            let problems: Vec<String> =
                self.shared.slots.all().into_iter().filter_map(|slot| slot.problem).collect();
            let unpaid = self.shared.purse.as_ref().and_then(|purse| purse.problem());
            let problems: Vec<String> = problems.into_iter().chain(unpaid).collect();
            let why = if problems.is_empty() { "connecting".to_owned() } else { problems.join("; ") };
            let closed = self.has_closed_all().then(|| NO_CONTRACT.to_owned());
            return [format!("a ready proxy ({why})")].into_iter().chain(closed).collect();
        }
        if self.has_closed_all() {
            return vec![NO_CONTRACT.to_owned()];
        }
        let has_worker = ready.iter().any(|connection| connection.has_workers());
        if has_worker { Vec::new() } else { vec!["a worker with a model".to_owned()] }
    }

    /// Whether the owner has left every proxy that is connected, or if none is, every one there ever was: they take
    /// connections all the same, and refuse requests.
    fn has_closed_all(&self) -> bool {
        let Some(purse) = &self.shared.purse else { return false };
        let connected: Vec<Address> =
            self.shared.slots.all().into_iter().filter_map(|slot| slot.proxy_contract).collect();
        let mut stages = purse
            .glances()
            .into_iter()
            .filter(|glance| connected.is_empty() || connected.contains(&glance.proxy))
            .map(|glance| glance.view.stage)
            .peekable();
        stages.peek().is_some() && stages.all(|stage| matches!(stage, Stage::Closing { .. } | Stage::Closed))
    }

    /// Closes all connections; requests in progress fail.
    pub async fn shutdown(self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.wait().await;
        let (state, charges) = (Arc::clone(&self.shared.state), self.shared.accounts.to_keep());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || state.keep_payments(charges)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last charges cannot be kept");
        }
    }
}

/// What is missing after the owner has left.
const NO_CONTRACT: &str = "an open contract with a proxy: those that there were are closed, and others are made when the network's \
                           params change";

/// Whether another proxy may well answer otherwise.
fn is_local(error: &ApiError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnknownModel
            | ErrorKind::NoReadyWorker
            | ErrorKind::ShareExceeded
            | ErrorKind::PriceCeilingTooLow
            | ErrorKind::BalanceTooLow
            | ErrorKind::ClientClosing
            | ErrorKind::ProxyUnavailable
            | ErrorKind::ProxyLost
            | ErrorKind::ConfigVersionTooLow
    )
}

fn no_proxy() -> ApiError {
    ApiError::new(ErrorKind::ProxyUnavailable, "no proxy is connected and ready")
}

pub(crate) fn timed_out() -> ApiError {
    ApiError::new(ErrorKind::Timeout, "the answer was not complete within the request's timeout")
}

#[cfg(test)]
mod tests;
