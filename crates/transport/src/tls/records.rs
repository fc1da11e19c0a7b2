//! The records of a session whose handshake is done (RFC 8446, section 5), and the few messages that may still come.
//!
//! The TLS library does the handshake and verifies the peer; then its session would keep the peer's certificate and all that
//! a handshake needs, for as long as the connection lives. What a session needs from there on is a key and a counter for each
//! direction, which is what stands here. The cryptography is aws-lc's.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use rustls::{AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved};

use super::sealed::Sealed;
use super::secrets::{RecordKey, Secret};

/// Plain bytes of a full record (section 5.1).
pub(super) const PLAIN_LEN_MAX: usize = 1 << 14;
/// Bytes after a record's header, padding included (section 5.2).
const BODY_LEN_MAX: usize = PLAIN_LEN_MAX + 256;
pub(super) const HEADER_LEN: usize = 5;
const TAG_LEN: usize = 16;
/// What sealing adds to plain bytes: header, type and tag.
pub(super) const OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

/// Records that are sealed with one key, below the bound of section 5.5 for AES-GCM.
const SEALED_PER_KEY_MAX: u64 = 1 << 24;
/// Messages of the peer, and records without content, that may follow each other with no byte in between.
const FRUITLESS_MAX: u8 = 32;
/// Bytes of the longest message that may follow a handshake: a session ticket, which connecting peers get and ignore.
const MESSAGE_LEN_MAX: usize = 1 << 16;

/// Levels of alerts (section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Which side of the session we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// One direction: its key, and how many records the key has protected.
struct Direction {
    secret: Secret,
    key: RecordKey,
    count: u64,
}

impl Direction {
    fn new(secret: Secret) -> Self {
        Self { key: secret.record_key(), secret, count: 0 }
    }

    fn change_key(&mut self) {
        *self = Self::new(self.secret.next());
    }

    /// The nonce of the next record (section 5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce: [u8; NONCE_LEN] = self.key.iv;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.count.to_be_bytes()) {
            *byte ^= count;
        }
        self.count += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals what we say and opens what the peer says.
pub(super) struct Records {
    end: End,
    sending: Direction,
    receiving: Direction,
    /// The peer has asked for new keys: ours change before the next record.
    is_asked_for_new_key: bool,
    /// The begin of a message that the peer sends in several records.
    message: Vec<u8>,
    fruitless: u8,
    sealed_per_key_max: u64,
}

/// What a record came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    /// Bytes for the application.
    Plain(&'a [u8]),
    /// A message between the sessions, which is dealt with.
    Message,
    /// The peer will send nothing more.
    Goodbye,
}

/// Why a session cannot go on.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// What the peer is told.
    pub(super) alert: Option<AlertDescription>,
}

impl Failure {
    fn new(alert: AlertDescription, error: impl Into<Error>) -> Self {
        Self { error: error.into(), alert: Some(alert) }
    }
}

impl Records {
    /// The records of a session whose first ones with these keys are still to come.
    pub(super) fn new(end: End, of_client: Secret, of_server: Secret) -> Self {
        let (sending, receiving) = match end {
            End::Client => (of_client, of_server),
            End::Server => (of_server, of_client),
        };
        Self {
            end,
            sending: Direction::new(sending),
            receiving: Direction::new(receiving),
            is_asked_for_new_key: false,
            message: Vec::new(),
            fruitless: 0,
            sealed_per_key_max: SEALED_PER_KEY_MAX,
        }
    }

    /// Opens the first record of `sealed`, and says how many bytes it has. `None` if it is not there as a whole.
    pub(super) fn open<'a>(&mut self, sealed: &'a mut [u8]) -> Result<Option<(usize, Opened<'a>)>, Failure> {
        let Some((header, rest)) = sealed.split_first_chunk_mut::<HEADER_LEN>() else { return Ok(None) };
        let body_len = body_len(*header)?;
        let Some(body) = rest.get_mut(..body_len) else { return Ok(None) };
        let nonce = self.receiving.nonce();
        let inner = self.receiving.key.aead.open_in_place(nonce, Aad::from(*header), body);
        let inner = inner.or(Err(Failure::new(AlertDescription::BadRecordMac, Error::DecryptError)))?;
        let opened = self.take(unpadded(inner)?)?;
        Ok(Some((HEADER_LEN + body_len, opened)))
    }

    fn take<'a>(&mut self, (kind, content): (ContentType, &'a [u8])) -> Result<Opened<'a>, Failure> {
        use AlertDescription::UnexpectedMessage;
        if !self.message.is_empty() && kind != ContentType::Handshake {
            let interleaved = PeerMisbehaved::MessageInterleavedWithHandshakeMessage;
            return Err(Failure::new(UnexpectedMessage, interleaved));
        }
        match kind {
            ContentType::ApplicationData if content.is_empty() => {
                self.fruitless(PeerMisbehaved::TooManyEmptyFragments)?;
                Ok(Opened::Message)
            }
            ContentType::ApplicationData => {
                self.fruitless = 0;
                Ok(Opened::Plain(content))
            }
            ContentType::Alert => self.take_alert(content),
            ContentType::Handshake => self.take_messages(content).map(|()| Opened::Message),
            got_type => {
                let expect_types =
                    vec![ContentType::ApplicationData, ContentType::Handshake, ContentType::Alert];
                Err(Failure::new(UnexpectedMessage, Error::InappropriateMessage { expect_types, got_type }))
            }
        }
    }

    /// Section 6. The level says nothing in this version.
    fn take_alert(&mut self, alert: &[u8]) -> Result<Opened<'static>, Failure> {
        let [_level, description] = *alert else {
            let invalid = InvalidMessage::MessageTooShort;
            return Err(Failure::new(AlertDescription::DecodeError, invalid));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(Opened::Goodbye),
            // A goodbye follows it.
            AlertDescription::UserCanceled => {
                self.fruitless(PeerMisbehaved::TooManyWarningAlertsReceived)?;
                Ok(Opened::Message)
            }
            description => Err(Failure { error: Error::AlertReceived(description), alert: None }),
        }
    }

    /// Section 4.6: keys that change, and tickets, which accepting sides do not get and we do not use.
    fn take_messages(&mut self, part: &[u8]) -> Result<(), Failure> {
        use AlertDescription::{DecodeError, IllegalParameter, UnexpectedMessage};
        if part.is_empty() {
            return Err(Failure::new(UnexpectedMessage, InvalidMessage::InvalidEmptyPayload));
        }
        self.message.extend_from_slice(part);
        let mut all = std::mem::take(&mut self.message);
        let mut messages = &all[..];
        while let Some((&[kind, len @ ..], rest)) = messages.split_first_chunk::<4>() {
            let [b0, b1, b2] = len;
            let len = u32::from_be_bytes([0, b0, b1, b2]) as usize;
            let got_type = HandshakeType::from(kind);
            let len_max = match (got_type, self.end) {
                (HandshakeType::KeyUpdate, _) => 1,
                (HandshakeType::NewSessionTicket, End::Client) => MESSAGE_LEN_MAX,
                _ => {
                    let expect_types = vec![HandshakeType::KeyUpdate];
                    let error = Error::InappropriateHandshakeMessage { expect_types, got_type };
                    return Err(Failure::new(UnexpectedMessage, error));
                }
            };
            if len > len_max {
                return Err(Failure::new(DecodeError, InvalidMessage::HandshakePayloadTooLarge));
            }
            let Some((body, rest)) = rest.split_at_checked(len) else { break };
            self.fruitless(PeerMisbehaved::TooManyKeyUpdateRequests)?;
            if got_type == HandshakeType::KeyUpdate {
                // What follows is protected by other keys (section 5.1).
                if !rest.is_empty() {
                    return Err(Failure::new(UnexpectedMessage, PeerMisbehaved::KeyEpochWithPendingFragment));
                }
                match *body {
                    [0] => {}
                    [1] => self.is_asked_for_new_key = true,
                    _ => return Err(Failure::new(IllegalParameter, InvalidMessage::InvalidKeyUpdate)),
                }
                self.receiving.change_key();
            }
            messages = rest;
        }
        let used = all.len() - messages.len();
        if used > 0 {
            all.drain(..used);
            all.shrink_to_fit();
        }
        self.message = all;
        Ok(())
    }

    /// One thing more that gives the application nothing.
    fn fruitless(&mut self, too_many: PeerMisbehaved) -> Result<(), Failure> {
        if self.fruitless == FRUITLESS_MAX {
            return Err(Failure::new(AlertDescription::UnexpectedMessage, too_many));
        }
        self.fruitless += 1;
        Ok(())
    }

    /// Seals `len` bytes for the peer's application, [`PLAIN_LEN_MAX`] at most, that `fill` writes. Keys change before, where
    /// it is time.
    pub(super) fn seal_plain(&mut self, len: usize, fill: impl FnOnce(&mut [u8]), sealed: &mut Sealed) {
        if self.is_asked_for_new_key || self.sending.count + 1 >= self.sealed_per_key_max {
            // Asking for nothing back (section 4.6.3).
            self.seal_message(ContentType::Handshake, &[HandshakeType::KeyUpdate.into(), 0, 0, 1, 0], sealed);
            self.sending.change_key();
            self.is_asked_for_new_key = false;
        }
        self.seal(ContentType::ApplicationData, len, fill, sealed);
    }

    /// Seals the word that we will send nothing more.
    pub(super) fn seal_goodbye(&mut self, sealed: &mut Sealed) {
        self.seal_message(ContentType::Alert, &[WARNING, AlertDescription::CloseNotify.into()], sealed);
    }

    /// Seals the reason why the session cannot go on.
    pub(super) fn seal_alert(&mut self, alert: AlertDescription, sealed: &mut Sealed) {
        self.seal_message(ContentType::Alert, &[FATAL, alert.into()], sealed);
    }

    fn seal_message(&mut self, kind: ContentType, message: &[u8], sealed: &mut Sealed) {
        self.seal(kind, message.len(), |room| room.copy_from_slice(message), sealed);
    }

    fn seal(&mut self, kind: ContentType, len: usize, fill: impl FnOnce(&mut [u8]), sealed: &mut Sealed) {
        let body_len = u16::try_from(len + 1 + TAG_LEN).expect("a record holds 2^14 bytes");
        let [l0, l1] = body_len.to_be_bytes();
        let header = [ContentType::ApplicationData.into(), 3, 3, l0, l1];
        let room = sealed.grow(len + OVERHEAD);
        let (inner, tag) = room[HEADER_LEN..].split_at_mut(len + 1);
        fill(&mut inner[..len]);
        inner[len] = kind.into();
        let nonce = self.sending.nonce();
        let sealed_tag = self.sending.key.aead.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        tag.copy_from_slice(sealed_tag.expect("a record is shorter than the algorithm's bound").as_ref());
        room[..HEADER_LEN].copy_from_slice(&header);
    }
}

fn body_len(header: [u8; HEADER_LEN]) -> Result<usize, Failure> {
    let [kind, major, _minor, l0, l1] = header;
    let got_type = ContentType::from(kind);
    if got_type != ContentType::ApplicationData || major != 3 {
        let expect_types = vec![ContentType::ApplicationData];
        let error = Error::InappropriateMessage { expect_types, got_type };
        return Err(Failure::new(AlertDescription::UnexpectedMessage, error));
    }
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if len > BODY_LEN_MAX {
        return Err(Failure::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord));
    }
    Ok(len)
}

/// Type and content of an opened record, which ends in zeros as many as the peer likes (section 5.4).
fn unpadded(inner: &[u8]) -> Result<(ContentType, &[u8]), Failure> {
    if inner.len() > PLAIN_LEN_MAX + 1 {
        return Err(Failure::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord));
    }
    let Some(at) = inner.iter().rposition(|byte| *byte != 0) else {
        let error = PeerMisbehaved::IllegalTlsInnerPlaintext;
        return Err(Failure::new(AlertDescription::UnexpectedMessage, error));
    };
    Ok((ContentType::from(inner[at]), &inner[..at]))
}

#[cfg(any(test, fuzzing, feature = "testing"))]
mod pair;
#[cfg(any(test, feature = "testing"))]
pub use pair::RecordPair;
#[cfg(any(test, fuzzing))]
pub(crate) use pair::read_records;

#[cfg(test)]
mod tests;
