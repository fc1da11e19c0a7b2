//! Prices, delays, stakes and contract codes: the params cell of the root contract.

use std::time::Duration;

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::{Multiplier, NanoTon};

use crate::cells::{Field, FieldError, LayoutError, Reader, build};
use crate::{Contract, ContractCode};

/// What the root contract fixes for every contract derived from it (`Params` in `spec/messages.tlb`).
///
/// A copy of this cell is part of each derived contract's initial data, so that any change here, even of a
/// delay, gives other contract addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Which of the four layouts the root contract stores.
    pub struct_version: StructVersion,
    /// Grows with every change of prices, delays or codes.
    pub params_version: u32,
    /// The network's own number.
    pub unique_id: u32,
    /// Whether the network plays with test money.
    pub is_test: bool,
    /// What a client pays per adjusted token.
    pub price_per_token: NanoTon,
    /// What a worker earns per adjusted token; the proxy keeps the difference.
    pub worker_fee_per_token: NanoTon,
    /// Prices of the kinds of tokens relative to each other.
    pub multipliers: Multipliers,
    /// How long a closing proxy contract stays open.
    pub proxy_delay_before_close: Seconds,
    /// How long a closing client contract stays open.
    pub client_delay_before_close: Seconds,
    /// What a proxy contract must have at stake before clients can pay in.
    pub min_proxy_stake: NanoTon,
    /// What every client contract starts with as its stake.
    pub min_client_stake: NanoTon,
    /// Code of proxy contracts.
    pub proxy_code: ContractCode,
    /// Code of worker contracts.
    pub worker_code: ContractCode,
    /// Code of client contracts.
    pub client_code: ContractCode,
}

/// Layout of a params cell. Older ones lack fields, for which readers assume the values in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StructVersion {
    /// No stakes (1 TON each) and no multipliers.
    V0,
    /// No multipliers (10000 each).
    V1,
    /// No prompt and completion multipliers.
    V2,
    /// Everything.
    V3,
}

impl StructVersion {
    /// The number in the cell.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// A delay in whole seconds, as contracts count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u32);

impl Seconds {
    /// Wraps the number in the cell.
    #[must_use]
    pub const fn new(seconds: u32) -> Self {
        Self(seconds)
    }

    /// The number in the cell.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The delay as time.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

/// The price of each kind of token. Kinds are disjoint: prompt excludes cached, completion excludes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multipliers {
    /// Prompt tokens that no cache answered.
    pub prompt: Multiplier,
    /// Prompt tokens from a prefix cache.
    pub cached: Multiplier,
    /// Tokens of the visible answer.
    pub completion: Multiplier,
    /// Tokens generated before it.
    pub reasoning: Multiplier,
}

/// Which codes a copy of the params cell carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeMask {
    /// All three: the root contract's own cell.
    All,
    /// Worker and client: the copy in a proxy contract.
    WorkerAndClient,
    /// None: the copy in a worker or client contract.
    None,
}

impl CodeMask {
    /// Whether the proxy's code is there, and whether the other two are.
    const fn kept(self) -> (bool, bool) {
        match self {
            Self::All => (true, true),
            Self::WorkerAndClient => (false, true),
            Self::None => (false, false),
        }
    }
}

/// What readers assume for both stakes where the layout has none.
const ASSUMED_STAKE: NanoTon = NanoTon::new(1_000_000_000);

impl Params {
    /// Puts the codes that this project builds in, in the layout that they read.
    pub fn use_built_codes(&mut self) {
        self.struct_version = StructVersion::V3;
        self.proxy_code = ContractCode::built(Contract::Proxy);
        self.worker_code = ContractCode::built(Contract::Worker);
        self.client_code = ContractCode::built(Contract::Client);
    }

    /// The cell with those codes that `codes` names.
    #[must_use]
    pub fn cell(&self, codes: CodeMask) -> Cell {
        build(|builder| self.store(builder, codes))
    }

    /// Reads a copy of the cell that carries exactly the codes of `codes`; the others become empty.
    ///
    /// # Errors
    /// [`LayoutError`] for another set of codes, a newer layout, or anything else.
    pub fn from_cell(cell: &Cell, codes: CodeMask) -> Result<Self, LayoutError> {
        let mut reader = Reader::new("params", cell)?;
        let struct_version = match reader.field("struct_version")? {
            0_u8 => StructVersion::V0,
            1 => StructVersion::V1,
            2 => StructVersion::V2,
            3 => StructVersion::V3,
            _newer => return Err(reader.refuse("struct_version", FieldError::Value)),
        };
        let params_version = reader.field("params_version")?;
        let unique_id = reader.field("unique_id")?;
        let is_test = reader.field("is_test")?;
        let price_per_token = reader.field("price_per_token")?;
        let worker_fee_per_token = reader.field("worker_fee_per_token")?;
        let mut multiplier = |field, since| {
            if struct_version < since { Ok(Multiplier::default()) } else { reader.field(field) }
        };
        let multipliers = Multipliers {
            prompt: multiplier("prompt_multiplier", StructVersion::V3)?,
            cached: multiplier("cached_multiplier", StructVersion::V2)?,
            completion: multiplier("completion_multiplier", StructVersion::V3)?,
            reasoning: multiplier("reasoning_multiplier", StructVersion::V2)?,
        };
        let proxy_delay_before_close = reader.field("proxy_delay_before_close")?;
        let client_delay_before_close = reader.field("client_delay_before_close")?;
        let mut stake = |field| {
            if struct_version < StructVersion::V1 { Ok(ASSUMED_STAKE) } else { reader.field(field) }
        };
        let min_proxy_stake = stake("min_proxy_stake")?;
        let min_client_stake = stake("min_client_stake")?;
        let (with_proxy, with_others) = codes.kept();
        let mut code = |field, is_kept| match (reader.field::<Option<ContractCode>>(field)?, is_kept) {
            (Some(code), true) => Ok(code),
            (None, false) => Ok(ContractCode::empty()),
            _ => Err(reader.refuse(field, FieldError::Value)),
        };
        let proxy_code = code("proxy_code", with_proxy)?;
        let worker_code = code("worker_code", with_others)?;
        let client_code = code("client_code", with_others)?;
        reader.end()?;
        Ok(Self {
            struct_version,
            params_version,
            unique_id,
            is_test,
            price_per_token,
            worker_fee_per_token,
            multipliers,
            proxy_delay_before_close,
            client_delay_before_close,
            min_proxy_stake,
            min_client_stake,
            proxy_code,
            worker_code,
            client_code,
        })
    }

    fn store(&self, builder: &mut CellBuilder, codes: CodeMask) -> Result<(), CellError> {
        builder.store_u8(self.struct_version.number())?;
        builder.store_u32(self.params_version)?;
        builder.store_u32(self.unique_id)?;
        builder.store_bit(self.is_test)?;
        self.price_per_token.store(builder)?;
        self.worker_fee_per_token.store(builder)?;
        let Multipliers { prompt, cached, completion, reasoning } = self.multipliers;
        let multipliers: &[Multiplier] = match self.struct_version {
            StructVersion::V0 | StructVersion::V1 => &[],
            StructVersion::V2 => &[cached, reasoning],
            StructVersion::V3 => &[prompt, cached, completion, reasoning],
        };
        for multiplier in multipliers {
            builder.store_u32(multiplier.get())?;
        }
        builder.store_u32(self.proxy_delay_before_close.0)?;
        builder.store_u32(self.client_delay_before_close.0)?;
        if self.struct_version >= StructVersion::V1 {
            self.min_proxy_stake.store(builder)?;
            self.min_client_stake.store(builder)?;
        }
        let (with_proxy, with_others) = codes.kept();
        store_code(builder, &self.proxy_code, with_proxy)?;
        store_code(builder, &self.worker_code, with_others)?;
        store_code(builder, &self.client_code, with_others)
    }
}

fn store_code(builder: &mut CellBuilder, code: &ContractCode, is_kept: bool) -> Result<(), CellError> {
    builder.store_bit(is_kept)?;
    if is_kept { builder.store_reference(code.cell()) } else { Ok(()) }
}

impl Field for Multiplier {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u32(self.get())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(Self::new(slice.load_u32()?))
    }
}

#[cfg(test)]
mod tests {
    use tycho_types::boc::Boc;
    use tycho_types::cell::{CellSlice, Load};
    use tycho_types::num::Tokens;

    use super::*;

    fn params(struct_version: StructVersion) -> Params {
        let code = |number: u8| {
            let cell = CellBuilder::build_from(number).unwrap();
            ContractCode::from_boc(&Boc::encode(cell)).unwrap()
        };
        Params {
            struct_version,
            params_version: 5,
            unique_id: 13,
            is_test: true,
            price_per_token: NanoTon::new(20),
            worker_fee_per_token: NanoTon::ZERO,
            multipliers: Multipliers {
                prompt: Multiplier::new(1),
                cached: Multiplier::new(2),
                completion: Multiplier::new(3),
                reasoning: Multiplier::new(4),
            },
            proxy_delay_before_close: Seconds::new(600),
            client_delay_before_close: Seconds::new(300),
            min_proxy_stake: NanoTon::new(1_000_000_000),
            min_client_stake: NanoTon::new(u64::MAX),
            proxy_code: code(1),
            worker_code: code(2),
            client_code: code(3),
        }
    }

    fn coins(slice: &mut CellSlice<'_>) -> u128 {
        Tokens::load_from(slice).unwrap().into_inner()
    }

    /// Reads the common first fields and leaves the slice behind them.
    fn skip_head<'a>(cell: &'a Cell, number: u8) -> CellSlice<'a> {
        let mut slice = cell.as_slice().unwrap();
        assert_eq!(slice.load_u8().unwrap(), number);
        assert_eq!(slice.load_u32().unwrap(), 5);
        assert_eq!(slice.load_u32().unwrap(), 13);
        assert!(slice.load_bit().unwrap());
        assert_eq!((coins(&mut slice), coins(&mut slice)), (20, 0));
        slice
    }

    #[test]
    fn each_layout_has_its_fields_in_order() {
        let layouts: [(StructVersion, &[u32], bool); 4] = [
            (StructVersion::V0, &[], false),
            (StructVersion::V1, &[], true),
            (StructVersion::V2, &[2, 4], true),
            (StructVersion::V3, &[1, 2, 3, 4], true),
        ];
        for (version, multipliers, has_stakes) in layouts {
            let cell = params(version).cell(CodeMask::All);
            let mut slice = skip_head(&cell, version.number());
            for expected in multipliers.iter().chain(&[600, 300]) {
                assert_eq!(slice.load_u32().unwrap(), *expected, "{version:?}");
            }
            if has_stakes {
                assert_eq!(coins(&mut slice), 1_000_000_000);
                assert_eq!(coins(&mut slice), u128::from(u64::MAX));
            }
            for code in 1..=3 {
                assert!(slice.load_bit().unwrap());
                assert_eq!(slice.load_reference_as_slice().unwrap().load_u8().unwrap(), code);
            }
            assert!(slice.is_empty());
        }
    }

    #[test]
    fn masked_codes_leave_a_zero_bit() {
        let params = params(StructVersion::V3);
        for (mask, bits, references) in [
            (CodeMask::All, [true, true, true], 3),
            (CodeMask::WorkerAndClient, [false, true, true], 2),
            (CodeMask::None, [false, false, false], 0),
        ] {
            let cell = params.cell(mask);
            assert_eq!(cell.reference_count(), references);
            let mut tail = cell.as_slice().unwrap();
            tail.only_last(3, 0).unwrap();
            assert_eq!([(); 3].map(|()| tail.load_bit().unwrap()), bits, "{mask:?}");
        }
    }
}
