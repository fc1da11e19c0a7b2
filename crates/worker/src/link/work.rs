//! A link after its handshake.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::failpoint;
use rand::RngExt as _;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use transport::clock::unix_now;
use transport::{CloseReason, Link, LinkEvent, LinkEvents, QueryError};
use units::{ProtocolVersion, RequestId};
use wire::frame::MESSAGE_LEN_MAX;
use wire::proxy::RunQueryEx;
use wire::worker::{EnabledDisabled, FromProxy, NewCoefficient, PaymentStatus, UpdatePaymentStatus};
use wire::{DecodeError, StatusCode, stream};

use super::{Common, LinkError};
use crate::answer::AnswerForm;
use crate::model::{Model, ModelState};
use crate::network::Network;
use crate::request::{Admitted, Received, Refused, Work};
use crate::session::{Session, SessionError};
use crate::stream::{Streams, UnknownStream};

/// How often a proxy is asked where the account stands, if it may have changed, at random between these.
pub(super) const PAYMENT_POLL_INTERVAL: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(20));
/// How long the proxy may take to say it.
const PAYMENT_POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// Refusals that may wait for a slow proxy before it counts as hostile.
const REFUSALS_WAITING_MAX: usize = 1024;

/// Everything after the handshake, until the link ends. All requests of the link end with it. Also says whether one came
/// to its end before.
pub(super) async fn work(
    common: &Common,
    model: &Arc<Model>,
    network: &Network,
    link: Link,
    mut events: LinkEvents,
    session: Session,
    announced: ModelState,
) -> (LinkError, bool) {
    let _counted = model.count_link();
    let work = Arc::new(Work {
        link: link.clone(),
        model: Arc::clone(model),
        prices: network.prices,
        stats: Arc::clone(&common.stats),
    });
    let mut worker = Working {
        common,
        model,
        session,
        announced,
        requests: JoinSet::new(),
        streams: Streams::default(),
        is_left: false,
        has_served: false,
        // What an earlier link left behind may have been settled since.
        is_owed: true,
        payments: JoinSet::new(),
        work,
    };
    let mut states = model.subscribe();
    states.mark_changed();
    let mut networks = common.network.subscribe();
    loop {
        let payment_pause = rand::rng().random_range(PAYMENT_POLL_INTERVAL.0..PAYMENT_POLL_INTERVAL.1);
        let mut payment_due = std::pin::pin!(sleep(payment_pause));
        loop {
            let handled = tokio::select! {
                event = events.next() => match event {
                    Some(LinkEvent::Packet(message)) => worker.handle_packet(&message),
                    Some(LinkEvent::Query(query)) => {
                        let message = "a worker answers no queries";
                        query.responder.refuse(StatusCode::PROTOCOL_VIOLATION, message);
                        Ok(())
                    }
                    Some(LinkEvent::Closed(reason)) => Err(LinkError::Closed(reason)),
                    None => Err(LinkError::Closed(CloseReason::Peer)),
                },
                Ok(()) = states.changed() => {
                    let state = *states.borrow_and_update();
                    worker.announce(state).await;
                    Ok(())
                }
                Ok(()) = networks.changed() => {
                    let params = networks.borrow_and_update().config.params.params_version;
                    if params == network.config.params.params_version {
                        Ok(())
                    } else {
                        Err(LinkError::ConfigurationChanged)
                    }
                }
                Some(answer) = worker.payments.join_next() => worker.handle_payment_status(answer),
                Some(ended) = worker.requests.join_next() => {
                    match ended {
                        Ok((id, was_run)) => {
                            worker.streams.close(id);
                            worker.has_served |= was_run;
                        }
                        Err(error) => {
                            tracing::error!(error = &error as &dyn std::error::Error, "a request's task failed");
                            worker.streams.close_ended();
                        }
                    }
                    Ok(())
                }
                () = &mut payment_due => break,
                () = common.stop.cancelled() => Err(LinkError::Stopped),
            };
            let handled = match handled {
                Ok(()) if worker.is_left && worker.requests.is_empty() => Err(LinkError::ProxyLeaves),
                handled => handled,
            };
            if let Err(error) = handled {
                let reason = match error {
                    LinkError::Stopped => "the worker is shutting down",
                    LinkError::ProxyLeaves => "the proxy takes no more requests",
                    LinkError::ConfigurationChanged => "the root configuration changed",
                    _ => "the proxy misbehaved",
                };
                link.close(reason);
                return (error, worker.has_served);
            }
        }
        worker.poll_payments();
    }
}

/// The state of a link at work.
struct Working<'a> {
    common: &'a Common,
    model: &'a Arc<Model>,
    session: Session,
    /// What the proxy was told last.
    announced: ModelState,
    /// Each task says whether it ran its request or refused it.
    requests: JoinSet<(RequestId, bool)>,
    /// Of version 3.
    streams: Streams,
    /// The proxy takes no more requests.
    is_left: bool,
    /// A request came to its end.
    has_served: bool,
    /// The account may stand elsewhere than the proxy said last.
    is_owed: bool,
    payments: JoinSet<Result<Bytes, QueryError>>,
    work: Arc<Work>,
}

impl Working<'_> {
    fn handle_packet(&mut self, message: &Bytes) -> Result<(), LinkError> {
        let start = unix_now();
        match wire::decode(message) {
            Ok(FromProxy::RunQuery(query)) => {
                self.session.take_payment(&query.signed_payment, &self.common.accounts);
                let received = Received {
                    form: self.form(query.request_id),
                    query: message.slice_ref(query.query),
                    query_len: query.query.len(),
                    timeout: query.timeout,
                    enable_debug: false,
                    start,
                };
                self.begin(received, query.coefficient)
            }
            Ok(FromProxy::RunQueryEx(query)) => self.run_query(message, &query, query.query.len()),
            Ok(FromProxy::WorkerRequestPayment(payment)) => {
                Ok(self.session.settle(&payment, &self.common.accounts)?)
            }
            Ok(FromProxy::SignedPayment(payment)) => {
                self.session.take_payment(&payment, &self.common.accounts);
                Ok(())
            }
            Ok(ours) if self.session.protocol == ProtocolVersion::V3 => {
                self.handle_stream_packet(message, &ours)
            }
            // Meant for another version.
            Ok(_) => Ok(()),
            // A newer proxy may say more than we understand.
            Err(DecodeError::UnknownConstructor { id }) => {
                tracing::debug!(id = format_args!("{id:08x}"), "ignored an unknown message of the proxy");
                Ok(())
            }
            Err(error) => Err(LinkError::Malformed(error)),
        }
    }

    /// What only version 3 says.
    fn handle_stream_packet(&mut self, message: &Bytes, packet: &FromProxy<'_>) -> Result<(), LinkError> {
        match packet {
            FromProxy::Cancel(cancel) => self.streams.cancel(RequestId::new(cancel.request_id)),
            FromProxy::Credit(credit) => {
                let request_id = RequestId::new(credit.request_id);
                if let Err(error) = self.streams.grant(request_id, credit.len) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%request_id, error, "a proxy broke the rules of a stream: it is cancelled");
                }
            }
            FromProxy::Begin(begin) => {
                let run: RunQueryEx<'_> = wire::decode(begin.run).map_err(LinkError::Malformed)?;
                let query_len = usize::try_from(begin.query_len).unwrap_or(0);
                if query_len <= run.query.len() || query_len > MESSAGE_LEN_MAX {
                    return Err(LinkError::QueryLen { query_len: begin.query_len });
                }
                self.streams.expect_parts();
                return self.run_query(message, &run, query_len);
            }
            FromProxy::BodyPart(part) => {
                let id = RequestId::new(part.request_id);
                let grant = self.streams.part(id, part.data, part.is_last);
                if let Some(len) = grant.map_err(|UnknownStream| LinkError::UnknownStream)? {
                    let credit = stream::Credit { request_id: part.request_id, len };
                    failpoint::pass("worker-credit");
                    // A lost link shows as an event.
                    let _lost = self.work.link.send_bounded(wire::encode(&credit));
                }
            }
            FromProxy::GoingAway(_) => self.is_left = true,
            FromProxy::Capabilities(_) => return Err(SessionError::CapabilitiesTwice.into()),
            _ => {}
        }
        Ok(())
    }

    /// A request whose query has `query_len` bytes, which may continue in parts.
    fn run_query(
        &mut self,
        message: &Bytes,
        query: &RunQueryEx<'_>,
        query_len: usize,
    ) -> Result<(), LinkError> {
        self.session.take_payment(&query.signed_payment, &self.common.accounts);
        let received = Received {
            form: self.form(query.request_id),
            query: message.slice_ref(query.query),
            query_len,
            timeout: query.timeout,
            enable_debug: query.enable_debug.unwrap_or(false),
            start: unix_now(),
        };
        self.begin(received, query.coefficient)
    }

    fn form(&self, request_id: [u8; 32]) -> AnswerForm {
        AnswerForm { protocol: self.session.protocol, request_id: RequestId::new(request_id) }
    }

    /// Starts a request, or its refusal.
    fn begin(&mut self, received: Received, thousandths: i64) -> Result<(), LinkError> {
        let work = Arc::clone(&self.work);
        let id = received.form.request_id;
        match self.admit(&received, thousandths) {
            Ok(admitted) => {
                self.is_owed = true;
                let mut running = received.begin(work, admitted);
                self.requests.spawn(async move {
                    running.run().await;
                    (id, true)
                });
            }
            Err(refused) => {
                let places = usize::from(self.model.max_active_requests);
                if self.requests.len() >= places + REFUSALS_WAITING_MAX {
                    return Err(LinkError::Flood);
                }
                self.requests.spawn(async move {
                    received.refuse(refused, &work).await;
                    (id, false)
                });
            }
        }
        Ok(())
    }

    fn admit(&mut self, received: &Received, thousandths: i64) -> Result<Admitted, Refused> {
        if self.model.state().is_draining {
            return Err(Refused::Draining);
        }
        let coefficient = self.session.offered(thousandths).ok_or(Refused::Price)?;
        let time = received.time().ok_or(Refused::NoTime)?;
        let place = self.model.take_place().ok_or(Refused::Busy)?;
        // Two requests of one name would have two heads and two ends, and nobody could tell whose.
        let Received { form, query, query_len, .. } = received;
        let name = self.streams.open(form.request_id, query, *query_len).ok_or(Refused::IdInUse)?;
        let stream = (form.protocol == ProtocolVersion::V3).then(|| Arc::clone(&name));
        Ok(Admitted { coefficient, time, place, name, stream })
    }

    /// Tells the proxy what changed.
    async fn announce(&mut self, state: ModelState) {
        let mut messages = Vec::new();
        if state.coefficient != self.announced.coefficient {
            // Known before the proxy can use it.
            self.session.announce(state.coefficient);
            let new_coefficient = state.coefficient.get().cast_signed();
            messages.push(wire::encode(&NewCoefficient { new_coefficient }));
        }
        if state.is_disabled() != self.announced.is_disabled() {
            messages.push(wire::encode(&EnabledDisabled { disabled: state.is_disabled().into() }));
        }
        self.announced = state;
        for message in messages {
            failpoint::pass("worker-announce");
            // A lost link shows as an event.
            let _lost = self.work.link.send(message).await;
        }
    }

    /// Asks where the account stands, unless nothing can have changed: ten thousand workers that wait for work need
    /// not ask all the time.
    fn poll_payments(&mut self) {
        if self.is_owed && self.payments.is_empty() {
            self.is_owed = !self.requests.is_empty();
            let link = self.work.link.clone();
            let query = wire::encode(&UpdatePaymentStatus {});
            failpoint::pass("worker-query");
            self.payments.spawn(async move { link.query(query, PAYMENT_POLL_TIMEOUT).await });
        }
    }

    fn handle_payment_status(
        &mut self,
        answer: Result<Result<Bytes, QueryError>, JoinError>,
    ) -> Result<(), LinkError> {
        match answer {
            Ok(Ok(answer)) => {
                let status: PaymentStatus<'_> = wire::decode(&answer).map_err(LinkError::Malformed)?;
                self.is_owed |= status.db_tokens < status.max_tokens;
                Ok(self.session.update(&status, &self.common.accounts)?)
            }
            // A proxy that does not say it now is asked again.
            Ok(Err(error)) => {
                self.is_owed = true;
                tracing::debug!(error = &error as &dyn std::error::Error, "no payment status");
                Ok(())
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a query's task failed");
                Ok(())
            }
        }
    }
}
