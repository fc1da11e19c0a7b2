//! Evidence by the kernel of the guest that this process runs in, in whichever way it has.

use crate::enclave::{Enclave, ProduceError};
use crate::tdx_guest::{TdxGuest, TdxGuestError};
use crate::tsm::{Tsm, TsmError};

/// The kernel of a guest under TDX or SEV-SNP: evidence by configfs-tsm, and where that cannot be, quotes by `/dev/tdx_guest`.
#[derive(Debug, Default)]
pub struct GuestKernel {
    tsm: Tsm,
    tdx_guest: TdxGuest,
}

/// No way led to evidence.
#[derive(Debug, thiserror::Error)]
pub enum GuestKernelError {
    /// That of newer kernels failed, and there is no other.
    #[error("configfs-tsm gave no evidence")]
    Tsm(#[source] TsmError),
    /// Both did.
    #[error(
        "neither configfs-tsm nor /dev/tdx_guest gave evidence, and one of them is enough; of configfs-tsm: {tsm}"
    )]
    Neither {
        /// Why that of newer kernels did.
        tsm: TsmError,
        /// Why that of older ones did.
        #[source]
        tdx_guest: TdxGuestError,
    },
}

impl Enclave for GuestKernel {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, ProduceError> {
        first_of(|| self.tsm.evidence(report_data), || self.tdx_guest.quote(report_data))
            .map_err(|error| ProduceError(error.into()))
    }
}

/// What the first way gives, or where that cannot be the second.
fn first_of(
    tsm: impl FnOnce() -> Result<Vec<u8>, TsmError>,
    tdx_guest: impl FnOnce() -> Result<Vec<u8>, TdxGuestError>,
) -> Result<Vec<u8>, GuestKernelError> {
    let tsm = match tsm() {
        Err(error) if error.leaves_other_ways() => error,
        outcome => return outcome.map_err(GuestKernelError::Tsm),
    };
    match (tdx_guest(), tsm) {
        (Ok(quote), tsm) => {
            tracing::info!(error = %tsm, "the quote was made by /dev/tdx_guest");
            Ok(quote)
        }
        // Only a kernel without both needs to hear of both.
        (Err(TdxGuestError::Missing), tsm) if !matches!(tsm, TsmError::Missing { .. }) => {
            Err(GuestKernelError::Tsm(tsm))
        }
        (Err(tdx_guest), tsm) => Err(GuestKernelError::Neither { tsm, tdx_guest }),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn missing() -> TsmError {
        TsmError::Missing { folder: "/reports".into() }
    }

    fn not_made() -> TsmError {
        TsmError::NotMade(io::ErrorKind::TimedOut.into())
    }

    #[test]
    fn the_device_is_asked_where_configfs_tsm_cannot_be() {
        for cannot in [missing(), TsmError::NoProvider, not_made()] {
            assert_eq!(first_of(|| Err(cannot), || Ok(vec![2])).unwrap(), [2]);
        }
        assert_eq!(first_of(|| Ok(vec![1]), || panic!("one way is enough")).unwrap(), [1]);
    }

    #[test]
    fn what_goes_wrong_where_it_can_be_is_told() {
        for wrong in [TsmError::Disturbed, TsmError::Denied { folder: "/reports".into() }] {
            let expected = wrong.to_string();
            let refused = first_of(|| Err(wrong), || panic!("the first way is there"));
            let Err(GuestKernelError::Tsm(told)) = refused else { panic!("{refused:?}") };
            assert_eq!(told.to_string(), expected);
        }
    }

    #[test]
    fn without_either_the_next_step_is_of_what_is_there() {
        let both = first_of(|| Err(missing()), || Err(TdxGuestError::Missing)).unwrap_err();
        let text = format!("{both}: {}", std::error::Error::source(&both).unwrap());
        assert!(text.contains("Linux 6.7") && text.contains("Linux 6.2"), "{text}");
        let host = first_of(|| Err(not_made()), || Err(TdxGuestError::Missing)).unwrap_err();
        assert!(matches!(host, GuestKernelError::Tsm(TsmError::NotMade(_))), "{host:?}");
        let service = first_of(|| Err(not_made()), || Err(TdxGuestError::OtherQuote)).unwrap_err();
        assert!(matches!(service, GuestKernelError::Neither { .. }), "{service:?}");
    }
}
