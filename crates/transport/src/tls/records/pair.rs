//! Both ends of a session whose secrets are known, in memory: for tests, counted steps and fuzzing.

use super::*;

/// Has each end say `said`, kinds and contents of records, to the other, and read `raw` then.
///
/// # Panics
/// If other bytes come out for the application than went in before the first record that is refused, or if `raw` opens.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_records(said: &[(u8, Vec<u8>)], raw: &[u8]) {
    for end in [End::Client, End::Server] {
        let other = if end == End::Client { End::Server } else { End::Client };
        let (mut speaker, mut listener) = (Records::of_nobody(other), Records::of_nobody(end));
        // A kind of zero is padding behind another one.
        let is_fine = said.iter().filter(|(kind, _)| *kind != 0).all(|(kind, content)| {
            let (kind, content) = (ContentType::from(*kind), &content[..content.len().min(PLAIN_LEN_MAX)]);
            let mut sealed = Sealed::default();
            speaker.seal_message(kind, content, &mut sealed);
            let mut sealed = sealed.waiting().to_vec();
            let count_before = listener.receiving.count;
            let opened = listener.open(&mut sealed);
            if let Ok(opened) = &opened {
                let plain = (kind == ContentType::ApplicationData && !content.is_empty()).then_some(content);
                let (len, opened) = opened.as_ref().expect("the record is whole");
                assert_eq!(*len, content.len() + OVERHEAD);
                assert_eq!(plain, if let Opened::Plain(plain) = opened { Some(*plain) } else { None });
            }
            // New keys count from nought.
            if listener.receiving.count <= count_before {
                speaker.sending.change_key();
            }
            assert!(listener.message.len() < 4 + MESSAGE_LEN_MAX + PLAIN_LEN_MAX);
            opened.is_ok_and(|opened| opened.is_some_and(|(_, opened)| opened != Opened::Goodbye))
        });
        if is_fine {
            let mut raw = raw.to_vec();
            assert!(!matches!(listener.open(&mut raw), Ok(Some(_))), "nobody without the key makes a record");
        }
    }
}

#[cfg(any(test, fuzzing, feature = "testing"))]
impl Records {
    /// One end of a session whose secrets are known.
    pub(super) fn of_nobody(end: End) -> Self {
        let [of_client, of_server] = [1, 2].map(Secret::of_nobody);
        Self::new(end, of_client, of_server)
    }
}

/// Both ends of a session whose secrets are known, in memory: what sealing and opening cost by themselves.
#[cfg(any(test, feature = "testing"))]
pub struct RecordPair {
    client: Records,
    server: Records,
    /// The memory of the sealed bytes, used again.
    sealed: Sealed,
}

#[cfg(any(test, feature = "testing"))]
impl Default for RecordPair {
    fn default() -> Self {
        let [client, server] = [End::Client, End::Server].map(Records::of_nobody);
        Self { client, server, sealed: Sealed::default() }
    }
}

#[cfg(any(test, feature = "testing"))]
impl RecordPair {
    /// Seals all of `plain` in full records and opens it at the other end, onto the end of `into`.
    ///
    /// # Panics
    /// Never: what one end seals the other opens.
    pub fn carry(&mut self, plain: &[u8], into: &mut bytes::BytesMut) {
        for part in plain.chunks(PLAIN_LEN_MAX) {
            self.sealed.clear();
            self.client.seal_plain(part.len(), |room| room.copy_from_slice(part), &mut self.sealed);
            let opened = self.server.open(self.sealed.waiting_mut()).expect("it is the other end's");
            let Some((_len, Opened::Plain(plain))) = opened else { panic!("a record is whole") };
            into.extend_from_slice(plain);
        }
    }
}
