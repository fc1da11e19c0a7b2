//! The phases between a TCP connection and a link, each under its own deadline. They work on any stream, so that
//! tests can run them in memory.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use evidence::{AppraiseError, Appraiser, Standing};
use rand::Rng as _;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::clock;
use crate::driver::{Driver, Side, Tenure};
use crate::error::{CloseReason, ConnectError, Phase};
use crate::link::{Link, LinkEvents, LinkLimits, Shared};
use crate::peer::VerifiedPeer;
use crate::peer_header::PeerHeader;
use crate::pow::{Challenge, PowError, Solution};
use crate::tls::{self, Peer, TlsStream};
use crate::turns;
use crate::vouched::Vouched;

/// Runs one phase, or names it when it takes too long.
pub(crate) async fn within<T>(
    phase: Phase,
    limit: Duration,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    timeout(limit, work).await.unwrap_or(Err(ConnectError::Deadline { phase, limit }))
}

/// An I/O error of `phase`.
pub(crate) fn failed(phase: Phase) -> impl Fn(io::Error) -> ConnectError {
    move |source| ConnectError::Io { phase, source }
}

/// Accepting side: sends a challenge and waits for its solution.
pub(crate) async fn demand_work<S>(stream: &mut S, difficulty: u8) -> Result<(), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    let challenge = Challenge { difficulty: difficulty.into(), salt };
    stream.write_all(&challenge.encode()).await.map_err(failed(Phase::ProofOfWork))?;
    let mut solution = [0; Solution::LEN];
    stream.read_exact(&mut solution).await.map_err(failed(Phase::ProofOfWork))?;
    challenge.check(Solution::decode(&solution)?)?;
    Ok(())
}

/// Connecting side: waits for a challenge.
pub(crate) async fn read_challenge<S>(stream: &mut S, difficulty_max: u8) -> Result<Challenge, ConnectError>
where
    S: AsyncRead + Unpin,
{
    let mut challenge = [0; Challenge::LEN];
    stream.read_exact(&mut challenge).await.map_err(failed(Phase::ProofOfWork))?;
    Ok(Challenge::decode(&challenge, difficulty_max)?)
}

/// Connecting side: solves a challenge, on threads that may take their time.
pub(crate) async fn do_work<S>(stream: &mut S, challenge: Challenge) -> Result<(), ConnectError>
where
    S: AsyncWrite + Unpin,
{
    let solution = solve(challenge).await?;
    stream.write_all(&solution.encode()).await.map_err(failed(Phase::ProofOfWork))
}

/// Nonces that a search tries before the next one gets its turn: about a hundredth of a second.
const NONCES_PER_TURN: i64 = 1 << 16;

/// Searches turn by turn, so that little work is soon done beside much. Ends with its turn when this future is dropped.
async fn solve(challenge: Challenge) -> Result<Solution, PowError> {
    let mut nonces = 0..NONCES_PER_TURN;
    while !nonces.is_empty() {
        let tried = nonces.clone();
        match turns::of_searches(move || challenge.search(tried)).await {
            Ok(Some(solution)) => return Ok(solution),
            Ok(None) => nonces = nonces.end..nonces.end.saturating_add(NONCES_PER_TURN),
            Err(_stopping) => break,
        }
    }
    Err(PowError::GaveUp)
}

/// Accepting side: the TLS handshake, and what it has shown of the peer.
pub(crate) async fn accept_tls<S>(
    stream: S,
    config: &ServerConfig,
) -> Result<(TlsStream<S>, Peer), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tls::accept(stream, config).await.map_err(tls_failed)
}

/// Connecting side: the TLS handshake, and what it has shown of the peer.
pub(crate) async fn connect_tls<S>(
    stream: S,
    config: &ClientConfig,
) -> Result<(TlsStream<S>, Peer), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tls::connect(stream, config).await.map_err(tls_failed)
}

/// What the peer's evidence comes to, where a link asks for it.
pub(crate) async fn appraise(
    peer: &Peer,
    appraiser: Option<&Appraiser>,
    standing: Standing,
) -> Result<Option<Vouched>, ConnectError> {
    let Some(appraiser) = appraiser else { return Ok(None) };
    let quote = peer.quote().ok_or(AppraiseError::NoEvidence)?;
    Ok(Some(Vouched::by(quote, &peer.key, appraiser, standing, clock::certificate_now()).await?))
}

fn tls_failed(error: io::Error) -> ConnectError {
    let Some(tls_error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return ConnectError::Io { phase: Phase::Tls, source: error };
    };
    match tls::certificate_refused(tls_error) {
        Some(reason) => ConnectError::Certificate(reason),
        None => ConnectError::Tls(tls_error.clone()),
    }
}

/// Reads what the local router says about the peer, and no byte more.
pub(crate) async fn read_peer_header<S>(stream: &mut S) -> Result<PeerHeader, ConnectError>
where
    S: AsyncRead + Unpin,
{
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.map_err(failed(Phase::PeerHeader))?;
    let mut body = vec![0; PeerHeader::decode_len(len)?];
    stream.read_exact(&mut body).await.map_err(failed(Phase::PeerHeader))?;
    Ok(PeerHeader::decode(&body)?)
}

/// Exchanges the hello and leaves the link to its task, which ends it when the peer is `vouched` for no longer. `tenure` is
/// dropped when the link has ended.
pub(crate) async fn start<S, T>(
    stream: S,
    side: Side,
    peer: VerifiedPeer,
    vouched: Option<Vouched>,
    limits: LinkLimits,
    hello_deadline: Duration,
    tenure: T,
) -> Result<(Link, LinkEvents), ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T: Tenure + Send + 'static,
{
    let shared = Arc::new(Shared::new(peer, limits));
    let mut driver = Box::new(Driver::new(stream, side, shared.clone(), tenure));
    let hello = async { driver.ready().await.map_err(ConnectError::Hello) };
    within(Phase::Hello, hello_deadline, hello).await?;
    let watching = vouched.map(|vouched| tokio::spawn(watch(shared.clone(), vouched)));
    tokio::spawn(async move {
        driver.run().await;
        if let Some(watching) = watching {
            watching.abort();
        }
    });
    Ok((Link::new(shared.clone()), LinkEvents::new(shared)))
}

async fn watch(link: Arc<Shared>, vouched: Vouched) {
    let refused = vouched.until_refused().await;
    link.close(CloseReason::Evidence(refused.into()));
}

#[cfg(test)]
mod tests;
