//! Which version is spoken on a link. Version 3 is chosen by number and stands only between peers that can do the
//! same: each says what it can do in its first packet after the answer that chose it.

use units::{Capabilities, ProtocolVersion};
use wire::peer;

use super::client_link::{Breach, ClientStage};
use super::{Core, LinkId, Refusal};

/// How far two peers are with their choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// The number is all there is to say.
    Settled,
    /// Version 3 was chosen: the peer has to say what it can do before anything else.
    ExpectCapabilities,
}

impl Agreement {
    pub(super) fn on(chosen: ProtocolVersion) -> Self {
        if chosen == ProtocolVersion::V3 { Self::ExpectCapabilities } else { Self::Settled }
    }

    /// The handshake goes on.
    ///
    /// # Errors
    /// A refusal if the peer has not said yet what it can do.
    pub(super) fn check(self) -> Result<(), Refusal> {
        match self {
            Self::Settled => Ok(()),
            Self::ExpectCapabilities => {
                let message = "protocol 3 begins with peer.capabilities";
                Err(Refusal::closing(wire::StatusCode::PROTOCOL_VIOLATION, message))
            }
        }
    }

    /// The peer says what it can do. Returns the version that both speak from now on.
    fn settle(&mut self, said: peer::Capabilities) -> Result<ProtocolVersion, Breach> {
        match self {
            Self::Settled => Err("capabilities out of order"),
            Self::ExpectCapabilities => {
                *self = Self::Settled;
                Ok(Capabilities::from_wire(said.capabilities).settle())
            }
        }
    }
}

impl Core {
    /// The links that completed their handshake in version 3.
    pub(super) fn streaming_links(&self) -> Vec<LinkId> {
        let clients = self.clients.iter().filter(|(_, client)| {
            matches!(client.stage, ClientStage::Ready(party) if party.protocol == ProtocolVersion::V3)
        });
        let workers = self.workers.iter().filter(|(_, worker)| {
            let protocol = worker.party.as_ref().map(|party| party.protocol);
            worker.is_ready() && protocol == Some(ProtocolVersion::V3)
        });
        clients.map(|(link, _)| *link).chain(workers.map(|(link, _)| *link)).collect()
    }

    pub(super) fn client_capabilities(
        &mut self,
        link: LinkId,
        said: peer::Capabilities,
    ) -> Result<(), Breach> {
        let Some(client) = self.clients.get_mut(&link) else { return Ok(()) };
        let version = client.agreement.settle(said)?;
        if let ClientStage::Authorizing(party) | ClientStage::Ready(party) = &mut client.stage {
            party.protocol = version;
        }
        Ok(())
    }

    pub(super) fn worker_capabilities(
        &mut self,
        link: LinkId,
        said: peer::Capabilities,
    ) -> Result<(), Breach> {
        let Some(worker) = self.workers.get_mut(&link) else { return Ok(()) };
        let version = worker.agreement.settle(said)?;
        if let Some(party) = &mut worker.party {
            party.protocol = version;
        }
        Ok(())
    }
}
