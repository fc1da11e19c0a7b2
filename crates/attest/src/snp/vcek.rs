//! Which processor's certificate a report needs.

use std::fmt;

use super::{ChipId, SnpProduct, SnpReport, SnpTcb};
use crate::measurements::PlatformId;

/// The key of one processor under one version of its firmware, as a report names it. Its text form can be part of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VcekId {
    chip_id: ChipId,
    tcb: [u8; 8],
    /// Which products it can be of: reports before version 3 do not say it, and are of the first two only.
    products: [Option<SnpProduct>; 2],
}

impl SnpReport {
    /// Which key signed it, by its own word. `None` if it is of a product that nobody here knows, or names no processor.
    #[must_use]
    pub fn vcek_id(&self) -> Option<VcekId> {
        use SnpProduct::{Genoa, Milan, Turin};
        let chip_id = self.chip_id();
        if chip_id.as_bytes() == &[0; 64] {
            return None;
        }
        let products = if self.version() < 3 {
            [Some(Milan), Some(Genoa)]
        } else {
            [[Milan, Genoa, Turin].into_iter().find(|product| self.can_be_of(*product)), None]
        };
        products[0]?;
        Some(VcekId { chip_id, tcb: self.reported_tcb(), products })
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

    /// The firmware, as `product` orders its parts.
    #[must_use]
    pub const fn tcb(&self, product: SnpProduct) -> SnpTcb {
        SnpTcb::from_bytes(product, self.tcb)
    }
}

impl fmt::Display for VcekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snp-{}-{}", PlatformId::of_chip(&self.chip_id), hex::encode(self.tcb))
    }
}
