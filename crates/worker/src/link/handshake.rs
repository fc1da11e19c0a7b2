//! The queries of the handshake, on a link.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::{check_image, failpoint};
use tokio::time::timeout;
use transport::{CloseReason, Link, LinkEvent, LinkEvents, QueryError};
use units::ProtocolVersion;

use super::{Common, LinkError};
use crate::model::{Model, ModelState};
use crate::network::Network;
use crate::session::{Compared, ExpectCompleted, ExpectConnected, Offer, Session, SessionError};

/// How long each query may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// The handshake. Also says in which state the model was announced.
pub(super) async fn shake_hands(
    common: &Common,
    model: &Model,
    network: &Network,
    link: &Link,
    events: &mut LinkEvents,
) -> Result<(Session, ModelState), LinkError> {
    let config = &network.config;
    check_image(config, link.peer().attestation(), common.checks_proxy_hashes)?;
    let ModelState { coefficient, .. } = model.state();
    let proxy_cnt = common.proxy_connections.min(config.registered_proxies.len()).max(1);
    let offer = Offer {
        model: model.name.clone(),
        coefficient,
        max_active_requests: model.max_active_requests.into(),
        proxy_cnt: i32::try_from(proxy_cnt).unwrap_or(i32::MAX),
    };
    let mut ask = Asker { link, events };
    let (expected, query) = ExpectConnected::begin(common.party, Arc::clone(config), &offer);
    let answer = ask.query("worker.connectToProxy", query).await?;
    let (expected, query) = expected.handle(&answer, &common.accounts)?;
    if let Some(greeting) = expected.greeting() {
        // A lost link shows in the answer to the query.
        let _lost = ask.link.try_send(greeting);
    }
    let answer = ask.query("worker.compareBalanceWithProxy", query).await?;
    let expected = match expected.handle(&answer, &common.accounts)? {
        Compared::Agreed(expected) => expected,
        Compared::Behind(expected, query) => {
            let answer = ask.query("worker.extendedCompareBalanceWithProxy", query).await?;
            expected.handle(&answer, &common.accounts)?
        }
    };
    // Whatever changes from here on is announced afterwards.
    let announced = ModelState { coefficient, ..model.state() };
    let query = ExpectCompleted::query(announced.is_disabled());
    let answer = ask.query("worker.proxyHandshakeComplete", query).await?;
    let mut session = expected.handle(&answer)?;
    if session.protocol == ProtocolVersion::V3 {
        // It was sent before the comparison was answered, so an honest proxy makes nobody wait.
        match timeout(HANDSHAKE_TIMEOUT, ask.events.next()).await {
            Ok(Some(LinkEvent::Packet(packet))) => session.agree(&packet)?,
            Ok(Some(LinkEvent::Closed(reason))) => return Err(LinkError::Closed(reason)),
            Ok(_) | Err(_) => return Err(SessionError::NoCapabilities.into()),
        }
    }
    Ok((session, announced))
}

struct Asker<'a> {
    link: &'a Link,
    events: &'a mut LinkEvents,
}

impl Asker<'_> {
    async fn query(&mut self, step: &'static str, query: Bytes) -> Result<Bytes, LinkError> {
        failpoint::pass("worker-query");
        match self.link.query(query, HANDSHAKE_TIMEOUT).await {
            Ok(answer) => Ok(answer),
            Err(QueryError::Closed) => Err(LinkError::Closed(close_reason(self.events).await)),
            Err(QueryError::Refused { code, message }) => {
                // The peer's words may be anything, so they are for those who look closely.
                tracing::debug!(step, code = code.code(), message, "the proxy refused");
                Err(LinkError::Refused { step, code })
            }
            Err(source) => Err(LinkError::Unanswered { step, source }),
        }
    }
}

/// Why a closed link closed.
async fn close_reason(events: &mut LinkEvents) -> CloseReason {
    loop {
        match events.next().await {
            Some(LinkEvent::Closed(reason)) => return reason,
            Some(LinkEvent::Packet(_) | LinkEvent::Query(_)) => {}
            None => return CloseReason::Peer,
        }
    }
}
