//! Which processor's certificate a report needs.

use std::fmt;

use super::{ChipId, SnpProduct, SnpRefusal, SnpReport, SnpTcb};
use crate::measurements::PlatformId;

/// The key of one processor under one version of its firmware, as a report names it. Its text form can be part of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VcekId {
    pub(super) chip_id: ChipId,
    tcb: [u8; 8],
    /// Which products it can be of: reports before version 3 do not say it, and are of the first two only.
    products: [Option<SnpProduct>; 2],
}

impl SnpReport {
    /// Which key signed it, by its own word. Nobody is to be asked for the key of a report that no processor makes, and none has two names.
    ///
    /// # Errors
    /// [`SnpRefusal`] if it is of a product that nobody here knows, names no processor, or sets what none of the product's does.
    pub fn vcek_id(&self) -> Result<VcekId, SnpRefusal> {
        use SnpProduct::{Genoa, Milan, Turin};
        let found = self.signing_key();
        if found != 0 {
            return Err(SnpRefusal::SigningKey { found });
        }
        let chip_id = self.chip_id();
        if chip_id.as_bytes() == &[0; 64] {
            return Err(SnpRefusal::ChipMasked);
        }
        let products = if self.version() < 3 {
            [Some(Milan), Some(Genoa)]
        } else {
            let known = [Milan, Genoa, Turin].into_iter().find(|product| self.can_be_of(*product));
            let [family, model] = self.family_and_model();
            [Some(known.ok_or(SnpRefusal::UnknownProduct { family, model })?), None]
        };
        let tcb = self.reported_tcb();
        let (chip_rest, tcb_rest) = match products[0] {
            Some(Turin) => (&chip_id.as_bytes()[8..], &tcb[4..7]),
            _ => (&[][..], &tcb[2..6]),
        };
        for (field, rest) in [("CHIP_ID", chip_rest), ("REPORTED_TCB", tcb_rest)] {
            if rest.iter().any(|byte| *byte != 0) {
                return Err(SnpRefusal::Reserved { field, found: hex::encode(rest) });
            }
        }
        Ok(VcekId { chip_id, tcb, products })
    }
}

impl VcekId {
    /// The products whose key it can be.
    pub fn products(&self) -> impl Iterator<Item = SnpProduct> {
        self.products.into_iter().flatten()
    }

    /// The processor, as AMD's key service wants it named: that of Turin has 8 bytes.
    #[must_use]
    pub fn chip_id(&self, product: SnpProduct) -> String {
        let digits = if product == SnpProduct::Turin { 16 } else { 128 };
        self.chip_id.to_string()[..digits].to_owned()
    }

    /// The processor, by its number in policies.
    #[must_use]
    pub fn platform(&self) -> PlatformId {
        PlatformId::of_chip(&self.chip_id)
    }

    /// The firmware, as `product` orders its parts.
    #[must_use]
    pub const fn tcb(&self, product: SnpProduct) -> SnpTcb {
        SnpTcb::from_bytes(product, self.tcb)
    }
}

impl fmt::Display for VcekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snp-{}-{}", self.platform(), hex::encode(self.tcb))
    }
}
