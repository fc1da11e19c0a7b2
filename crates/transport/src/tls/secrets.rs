//! The secrets of a session and what is derived from them (RFC 8446, section 7).

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{self, LessSafeKey, NONCE_LEN, UnboundKey};
use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::hkdf;
use rustls::{CipherSuite, KeyLog, SupportedCipherSuite};
use zeroize::Zeroizing;

use crate::peer::TlsExporter;

/// Bytes of the longest secret, which is as long as the suite's hash.
const SECRET_LEN_MAX: usize = digest::SHA384_OUTPUT_LEN;

/// What a session's cipher suite computes with.
#[derive(Clone, Copy)]
pub(super) struct Suite {
    aead: &'static aead::Algorithm,
    hkdf: hkdf::Algorithm,
    hash: &'static digest::Algorithm,
}

impl Suite {
    /// `None` for a suite that is not offered.
    pub(super) fn of(suite: SupportedCipherSuite) -> Option<Self> {
        match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => {
                Some(Self { aead: &aead::AES_128_GCM, hkdf: hkdf::HKDF_SHA256, hash: &digest::SHA256 })
            }
            CipherSuite::TLS13_AES_256_GCM_SHA384 => {
                Some(Self { aead: &aead::AES_256_GCM, hkdf: hkdf::HKDF_SHA384, hash: &digest::SHA384 })
            }
            _ => None,
        }
    }
}

/// What records of one direction are protected with.
pub(super) struct RecordKey {
    pub(super) aead: LessSafeKey,
    pub(super) iv: [u8; NONCE_LEN],
}

/// One secret of a session. Cleared when it is dropped.
pub(super) struct Secret {
    suite: Suite,
    bytes: Zeroizing<[u8; SECRET_LEN_MAX]>,
}

impl Secret {
    /// `None` if it is not as long as the suite's hash.
    fn new(suite: Suite, secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_LEN_MAX]);
        let place = bytes.get_mut(..suite.hash.output_len())?;
        (place.len() == secret.len()).then(|| place.copy_from_slice(secret))?;
        Some(Self { suite, bytes })
    }

    /// One that is known.
    #[cfg(any(test, fuzzing, feature = "testing"))]
    pub(super) fn of_nobody(byte: u8) -> Self {
        let suite = Suite::of(rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
        suite.and_then(|suite| Self::new(suite, &[byte; 32])).expect("the suite is known")
    }

    /// The key and the initialisation vector of a traffic secret (section 7.3).
    pub(super) fn record_key(&self) -> RecordKey {
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..self.suite.aead.key_len()];
        let mut iv = [0; NONCE_LEN];
        self.expand(b"key", &[], key);
        self.expand(b"iv", &[], &mut iv);
        let key = UnboundKey::new(self.suite.aead, key).expect("the key has the algorithm's length");
        RecordKey { aead: LessSafeKey::new(key), iv }
    }

    /// The traffic secret that follows this one (section 7.2).
    pub(super) fn next(&self) -> Self {
        self.derived(b"traffic upd", &[])
    }

    /// The channel binding of RFC 9266: a value of the exporter (section 7.5), of which this is the secret.
    pub(super) fn tls_exporter(&self) -> TlsExporter {
        let hash_of_nothing = digest(self.suite.hash, &[]);
        let derived = self.derived(b"EXPORTER-Channel-Binding", hash_of_nothing.as_ref());
        let mut value = [0; 32];
        derived.expand(b"exporter", hash_of_nothing.as_ref(), &mut value);
        TlsExporter::new(value)
    }

    fn derived(&self, label: &[u8], context: &[u8]) -> Self {
        let mut bytes = Zeroizing::new([0; SECRET_LEN_MAX]);
        self.expand(label, context, &mut bytes[..self.suite.hash.output_len()]);
        Self { suite: self.suite, bytes }
    }

    /// HKDF-Expand-Label (section 7.1).
    fn expand(&self, label: &[u8], context: &[u8], output: &mut [u8]) {
        struct OutputLen(usize);
        impl hkdf::KeyType for OutputLen {
            fn len(&self) -> usize {
                self.0
            }
        }
        const PREFIX: &[u8] = b"tls13 ";
        let len = |bytes: usize| u8::try_from(bytes).expect("labels, hashes and outputs are short");
        let info = [
            &[0, len(output.len()), len(PREFIX.len() + label.len())],
            PREFIX,
            label,
            &[len(context.len())],
            context,
        ];
        let prk = hkdf::Prk::new_less_safe(self.suite.hkdf, &self.bytes[..self.suite.hash.output_len()]);
        prk.expand(&info, OutputLen(output.len()))
            .and_then(|okm| okm.fill(output))
            .expect("the output is shorter than 255 hashes");
    }
}

/// The secrets that outlive a handshake.
pub(super) struct SessionSecrets {
    pub(super) of_client: Secret,
    pub(super) of_server: Secret,
    pub(super) exporter: Secret,
}

/// Where the library leaves a session's secrets during its handshake: the one way to them that it has. One for each
/// session; nothing is written anywhere.
#[derive(Default)]
pub(super) struct SecretsOfHandshake([Mutex<Option<Zeroizing<Vec<u8>>>>; 3]);

/// As rustls names them.
const LABELS: [&str; 3] = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"];

impl SecretsOfHandshake {
    /// Takes them, once the handshake is done. `None` if one is missing or has another length than the suite's.
    pub(super) fn take(&self, suite: Suite) -> Option<SessionSecrets> {
        let take = |place: usize| {
            let secret = self.0[place].lock().unwrap_or_else(PoisonError::into_inner).take()?;
            Secret::new(suite, &secret)
        };
        Some(SessionSecrets { of_client: take(0)?, of_server: take(1)?, exporter: take(2)? })
    }
}

impl fmt::Debug for SecretsOfHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsOfHandshake")
    }
}

impl KeyLog for SecretsOfHandshake {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let Some(place) = LABELS.iter().position(|known| *known == label) {
            let secret = Zeroizing::new(secret.to_vec());
            *self.0[place].lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        LABELS.contains(&label)
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::cipher_suite;

    use super::*;

    fn suite() -> Suite {
        Suite::of(cipher_suite::TLS13_AES_128_GCM_SHA256).unwrap()
    }

    /// RFC 8448, section 3: the client's application traffic secret, and the record that it sends first.
    #[test]
    fn a_recorded_secret_opens_a_recorded_record() {
        let secret = hex::decode("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5").unwrap();
        let record = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b\
                      62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
        let mut record = hex::decode(record).unwrap();
        let RecordKey { aead, iv } = Secret::new(suite(), &secret).unwrap().record_key();
        let (header, body) = record.split_at_mut(5);
        let nonce = aead::Nonce::assume_unique_for_key(iv);
        let plain = aead.open_in_place(nonce, aead::Aad::from(&*header), body).unwrap();
        assert_eq!(plain, [&(0..50).collect::<Vec<u8>>()[..], &[23]].concat());
    }

    #[test]
    fn secrets_of_another_length_or_missing_ones_are_none() {
        let handshake = SecretsOfHandshake::default();
        for label in LABELS {
            assert!(handshake.will_log(label));
            handshake.log(label, &[], &[1; 32]);
        }
        assert!(handshake.take(suite()).is_some());
        assert!(handshake.take(suite()).is_none(), "taken once");
        for label in LABELS {
            handshake.log(label, &[], &[1; 48]);
        }
        assert!(handshake.take(suite()).is_none());
        assert!(!handshake.will_log("CLIENT_HANDSHAKE_TRAFFIC_SECRET"));
    }
}
