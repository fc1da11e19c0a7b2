//! One connection through a router, from its first byte to its last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use attest::{Claims, Measurements, Policy, TdxMeasurements, Tee, report_data_of_key};
use evidence::{AppraiseError, Appraiser};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use transport::peer_header::PeerHeader;
use transport::{ConnectError, Phase, SecureConnectConfig, SecureStream, Vouched};

use crate::config::{Limits, PortConfig};
use crate::error::{AtPort, TunnelError};
use crate::options::Destination;
use crate::relay::relay;
use crate::socks5::{Conversation, Request, Step, encode_success};

/// What judges peers.
#[derive(Debug)]
pub(crate) enum Judge {
    /// Nobody.
    Any,
    /// Our appraisal.
    Tdx(Appraiser),
    /// A comparison: nobody signed anything.
    FakeTdx(Box<Policy>),
}

/// What a peer showed, as far as somebody looked.
#[derive(Debug)]
struct Shown {
    measurements: Option<Measurements>,
    root_key: [u8; 48],
    /// What was accepted, if somebody signed it.
    vouched: Option<Vouched>,
}

impl Judge {
    async fn judge(&self, peer: &SecureStream) -> Result<Shown, TunnelError> {
        match self {
            Self::Any => Ok(Shown { measurements: None, root_key: [0; 48], vouched: None }),
            Self::Tdx(appraiser) => {
                let vouched = peer.appraise(appraiser).await?;
                Ok(Shown {
                    measurements: Some(vouched.claims().measurements.clone()),
                    root_key: *vouched.platform().root_key.as_bytes(),
                    vouched: Some(vouched),
                })
            }
            Self::FakeTdx(policy) => {
                let shown = peer.evidence().ok_or(ConnectError::Evidence(AppraiseError::NoEvidence))?;
                let measurements = fake(policy, &shown, &report_data_of_key(&peer.public_key()))?;
                Ok(Shown { measurements: Some(measurements), root_key: [0; 48], vouched: None })
            }
        }
    }
}

/// What the deployed software's tests have in the place of a quote: the report data alone. The measurements are zero.
fn fake(policy: &Policy, shown: &[u8], expected: &[u8; 64]) -> Result<Measurements, TunnelError> {
    let report_data = shown.try_into().map_err(|_length| TunnelError::NotFake { found: shown.len() })?;
    let measurements = Measurements::Tdx(Box::new(TdxMeasurements { registers: [[0; 48]; 8], report_data }));
    let claims = Claims { tee: Tee::Tdx, measurements, attributes: 0, is_debug: false };
    policy.screen(&claims, expected).map_err(AppraiseError::Refused).map_err(ConnectError::Evidence)?;
    Ok(claims.measurements)
}

/// What all connections of a port have in common.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) config: PortConfig,
    pub(crate) limits: Limits,
    /// How peers are connected to.
    pub(crate) connect: SecureConnectConfig,
    /// By the names of policies.
    pub(crate) judges: Arc<BTreeMap<String, Judge>>,
}

impl Port {
    /// An error under the port's own policy.
    pub(crate) fn at(&self, source: TunnelError) -> AtPort {
        let PortConfig { port, mode, policy, .. } = &self.config;
        AtPort { port: *port, mode: mode.name(), policy: policy.clone(), source }
    }

    /// Connects a local program to where it asks by SOCKS5. It learns how that went once the peer is judged.
    pub(crate) async fn socks5(&self, mut local: TcpStream, from: SocketAddr) -> Result<(), AtPort> {
        let limit = self.limits.socks5;
        let asked = timeout(limit, self.converse(&mut local)).await;
        let asked = asked.unwrap_or(Err(TunnelError::Socks5Late { limit }));
        let Request { target, policy } = asked.map_err(|error| self.at(error))?;
        let policy = policy.as_deref().unwrap_or(&self.config.policy);
        let ended = self.answer(local, from, &target.to_string(), policy).await;
        ended.map_err(|source| AtPort { policy: policy.to_owned(), ..self.at(source) })
    }

    /// Connects a program that has said where to, and answers it.
    async fn answer(
        &self,
        mut local: TcpStream,
        from: SocketAddr,
        target: &str,
        policy: &str,
    ) -> Result<(), TunnelError> {
        let opened = tokio::select! {
            opened = self.open(target, policy) => opened,
            left = left(&local) => return Err(left),
        };
        match opened {
            Ok((peer, shown)) => {
                let bound = peer.local_addr().map_err(TunnelError::Local)?;
                local.write_all(&encode_success(bound)).await.map_err(TunnelError::Local)?;
                let destination = peer.peer_addr();
                self.carry(local, peer, shown, from, destination).await
            }
            Err(error) => {
                // It may have left meanwhile; then nobody needs the answer.
                let _lost = local.write_all(&error.reply().encode()).await;
                let _lost = local.shutdown().await;
                Err(error)
            }
        }
    }

    /// Asks until the program has said what it wants.
    async fn converse(&self, local: &mut TcpStream) -> Result<Request, TunnelError> {
        let mut conversation = Conversation::new(self.config.takes_user_names);
        let mut buffer = [0; Conversation::WANTS_MAX];
        loop {
            let part = &mut buffer[..conversation.wants()];
            local.read_exact(part).await.map_err(TunnelError::Local)?;
            match conversation.take(part, |name| self.judges.contains_key(name)) {
                Step::Send(answer) => local.write_all(&answer).await.map_err(TunnelError::Local)?,
                Step::Done(request) => return Ok(request),
                Step::Fail(answer, error) => {
                    let _lost = local.write_all(&answer).await;
                    let _lost = local.shutdown().await;
                    return Err(error.into());
                }
            }
        }
    }

    /// Connects a local program to the port's one destination.
    pub(crate) async fn forward(
        &self,
        local: TcpStream,
        from: SocketAddr,
        to: &Destination,
    ) -> Result<(), TunnelError> {
        let (peer, shown) = self.open(&to.to_string(), &self.config.policy).await?;
        let destination = peer.peer_addr();
        self.carry(local, peer, shown, from, destination).await
    }

    /// Takes a peer's connection to the local program.
    pub(crate) async fn reverse(&self, mut peer: SecureStream, to: &Destination) -> Result<(), TunnelError> {
        let shown = self.judge(&peer, &self.config.policy).await?;
        // Whoever shows nothing that was signed works for each connection: nothing tells such peers from a flood.
        peer.admit(shown.vouched.is_some());
        let limit = self.limits.destination;
        let connect = TcpStream::connect(to.to_string());
        let local =
            timeout(limit, connect).await.map_err(|_elapsed| TunnelError::DestinationLate { limit })?;
        let local = local.map_err(TunnelError::Destination)?;
        local.set_nodelay(true).map_err(TunnelError::Destination)?;
        let destination = local.peer_addr().map_err(TunnelError::Destination)?;
        let source = peer.peer_addr();
        self.carry(local, peer, shown, source, destination).await
    }

    /// Connects to a peer and judges it.
    async fn open(&self, target: &str, policy: &str) -> Result<(SecureStream, Shown), TunnelError> {
        let peer = SecureStream::connect(target, &self.connect).await?;
        let shown = self.judge(&peer, policy).await?;
        Ok((peer, shown))
    }

    async fn judge(&self, peer: &SecureStream, policy: &str) -> Result<Shown, TunnelError> {
        let judge = self.judges.get(policy).expect("names of policies are checked where they are read");
        let limit = self.limits.evidence;
        let late = ConnectError::Deadline { phase: Phase::Evidence, limit };
        timeout(limit, judge.judge(peer)).await.unwrap_or(Err(late.into()))
    }

    /// Tells the local side about the peer, if it is to know, and carries the bytes for as long as its evidence is accepted.
    async fn carry(
        &self,
        mut local: TcpStream,
        peer: SecureStream,
        shown: Shown,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<(), TunnelError> {
        if self.config.serialize_info {
            let header = PeerHeader {
                attestation: shown.measurements,
                collateral_root_hash: shown.root_key,
                public_key: peer.public_key(),
                source: canonical(source),
                destination: canonical(destination),
            };
            // It fits what the system holds for a connection without a reader.
            local.write_all(&header.encode()).await.map_err(TunnelError::Local)?;
        }
        let refused = async {
            match shown.vouched {
                Some(vouched) => vouched.until_refused().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = relay(local, peer, self.limits.idle) => Ok(ended?),
            refused = refused => Err(ConnectError::from(refused).into()),
        }
    }
}

/// An address of IPv4 as such, also where the system writes it as one of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Ends when the program closes its connection. One that speaks before it is answered is not watched any longer.
async fn left(local: &TcpStream) -> TunnelError {
    match local.peek(&mut [0]).await {
        Ok(0) => TunnelError::Left,
        Ok(_) => std::future::pending().await,
        Err(error) => TunnelError::Local(error),
    }
}

#[cfg(test)]
mod tests {
    use attest::{Allowed, Refusal};

    use super::*;

    #[test]
    fn a_fake_is_the_report_data_alone_and_always_of_the_same_image() {
        let any = Policy::for_images(Allowed::default());
        let measurements = fake(&any, &[7; 64], &[7; 64]).unwrap();
        let image = measurements.image_hash();
        assert_eq!(image.to_string(), "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61");
        let of_image = Policy::for_images(Allowed::only([image]));
        assert!(fake(&of_image, &[7; 64], &[7; 64]).is_ok());

        let refused = |policy: &Policy, shown: &[u8]| fake(policy, shown, &[7; 64]).unwrap_err();
        assert!(matches!(refused(&any, &[7; 63]), TunnelError::NotFake { found: 63 }));
        let other = Policy::for_images(Allowed::only([units::ImageHash::new([0; 32])]));
        for (policy, shown) in [(&any, [8; 64]), (&other, [7; 64])] {
            let error = refused(policy, &shown);
            let TunnelError::Peer(ConnectError::Evidence(AppraiseError::Refused(refusal))) = error else {
                panic!("{error:?}")
            };
            assert!(matches!(refusal, Refusal::ReportData { .. } | Refusal::Image { .. }), "{refusal:?}");
        }
    }
}
