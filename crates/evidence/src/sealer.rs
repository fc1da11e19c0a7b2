//! Keys from a sealer: an enclave on this guest's host that gives an image the secrets that belong to it.
//!
//! What is said and checked is [`attest::sealed_key`]; here are the sockets. Who carries the bytes does not matter: the answer is enciphered
//! for a key of the moment, and its quote says which enclave made it.

mod address;
mod simulated;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use attest::sealed_key::{
    self, GuestKey, KeyAnswer, KeyMessageError, KeyName, KeyRequest, MESSAGE_LEN_MAX, MrEnclave, SealedKey,
    SealedKeyError,
};
use attest::{TdReport, Verifier};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::appraiser::{AppraiseError, Appraiser, Standing};
use crate::collateral::CollateralStore;
use crate::enclave::ProduceError;

pub use address::{SealerAddress, SealerAddressError};
pub use simulated::serve_simulated;

/// How long one exchange of messages may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What makes reports of this guest for enclaves beside it. Making one may take a while, so that callers do it on a thread that may wait.
pub trait LocalReports: fmt::Debug + Send + Sync {
    /// A report that vouches for `report_data`.
    ///
    /// # Errors
    /// [`ProduceError`], which says what is missing.
    fn report(&self, report_data: &[u8; 64]) -> Result<TdReport, ProduceError>;
}

/// A sealer, as its guest sees it.
#[derive(Debug)]
pub struct Sealer {
    address: SealerAddress,
    reports: Arc<dyn LocalReports>,
    appraiser: Appraiser,
}

/// A key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SealerError {
    /// This machine makes no report.
    #[error("the sealer asks for a report of this guest")]
    Report(#[source] ProduceError),
    /// Nobody is there.
    #[error("cannot connect to the sealer at {address}: it runs on the host, which has to have SGX")]
    Connect {
        /// Where.
        address: SealerAddress,
        /// Why.
        source: io::Error,
    },
    /// The connection broke. A sealer that refuses says no more than that.
    #[error("the sealer at {address} gave no answer: its own log says why, if it refused")]
    Answer {
        /// Where.
        address: SealerAddress,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error("the sealer at {address} gave no answer within {} s", EXCHANGE_TIMEOUT.as_secs())]
    Slow {
        /// Where.
        address: SealerAddress,
    },
    /// The answer is none.
    #[error("the sealer's answer cannot be read")]
    Message(#[from] KeyMessageError),
    /// The answer comes from something that is not believed.
    #[error("the sealer's quote is not accepted: its MRENCLAVE has to be listed, its machine up to date")]
    Refused(#[from] AppraiseError),
    /// The answer holds no key.
    #[error("the sealer's answer gives no key")]
    Key(#[from] SealedKeyError),
}

impl Sealer {
    /// The one at an address. Of the `enclaves`, none is believed if there are none.
    #[must_use]
    pub fn new(
        address: SealerAddress,
        reports: Arc<dyn LocalReports>,
        verifier: Verifier,
        collateral: CollateralStore,
        enclaves: impl IntoIterator<Item = MrEnclave>,
    ) -> Self {
        let policy = sealed_key::policy(enclaves);
        let appraiser = Appraiser::new(verifier, policy, collateral, NonZeroUsize::MIN);
        Self { address, reports, appraiser }
    }

    /// The secret that this guest's image has for a name, at `now` since 1970: the same each time, as long as image, sealer and the
    /// module that runs the guest are the same.
    ///
    /// # Errors
    /// [`SealerError`].
    pub async fn key(&self, name: &KeyName, now: Duration) -> Result<SealedKey, SealerError> {
        let guest = GuestKey::generate()?;
        let (reports, report_data) = (Arc::clone(&self.reports), guest.report_data());
        let report = tokio::task::spawn_blocking(move || reports.report(&report_data)).await;
        let report = report.unwrap_or_else(|panicked| Err(ProduceError(panicked.into())));
        let report = report.map_err(SealerError::Report)?;
        let request = KeyRequest { report, public: *guest.public(), name: name.clone() };
        let answer = KeyAnswer::parse(&self.exchange(&request.to_bytes()).await?)?;
        let report_data = guest.report_data_of(&answer);
        let appraised = self.appraiser.appraise(&answer.quote, &report_data, Standing::Known, now).await?;
        Ok(guest.open(&answer, &appraised)?)
    }

    async fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, SealerError> {
        let address = || self.address.clone();
        let exchange = async {
            let connected = self.address.connect().await;
            let mut stream =
                connected.map_err(|source| SealerError::Connect { address: address(), source })?;
            ask(&mut stream, request)
                .await
                .map_err(|source| SealerError::Answer { address: address(), source })
        };
        timeout(EXCHANGE_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_slow| Err(SealerError::Slow { address: address() }))
    }
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> io::Result<Vec<u8>> {
    write_message(stream, request).await?;
    read_message(stream).await
}

/// A message behind its length in four bytes.
async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let len = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_le_bytes(), message].concat()).await?;
    stream.flush().await
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let len = stream.read_u32_le().await?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MESSAGE_LEN_MAX {
        let error = KeyMessageError::TooLong { found: len };
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests;
