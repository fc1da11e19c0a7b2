//! What a root contract accepts: orders of the network's owner.

use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::error::Error as CellError;
use units::{ImageHash, ModelHash, NanoTon};

use super::bodies;
use crate::cells::{Field, FieldError, LayoutError, Reader};
use crate::{Address, ProxyTextError, RegisteredProxy, Seconds};

bodies! {
    /// Messages of its owner to a root contract. What is left of their value comes back to him.
    RootMessage, "message to a root contract" {
        /// Lets workers run an image.
        AddWorkerImage = 0xe34b_1c60 {
            /// The image.
            hash: ImageHash,
        }
        /// Forbids workers an image.
        DeleteWorkerImage = 0x8d94_a79a {
            /// The image.
            hash: ImageHash,
        }
        /// Lets workers serve a model.
        AddModel = 0xc146_134d {
            /// The model.
            hash: ModelHash,
        }
        /// Forbids a model.
        DeleteModel = 0x92b1_1c18 {
            /// The model.
            hash: ModelHash,
        }
        /// Lets proxies run an image.
        AddProxyImage = 0x7186_0e80 {
            /// The image.
            hash: ImageHash,
        }
        /// Forbids proxies an image.
        DeleteProxyImage = 0x3c41_d0b2 {
            /// The image.
            hash: ImageHash,
        }
        /// Lists a proxy under the next number.
        RegisterProxy = 0x927c_7cb5 {
            /// Where it listens.
            place: ListedProxy,
        }
        /// Takes a proxy off the list.
        UnregisterProxy = 0x6d49_eaf2 {
            /// Its number.
            seqno: u32,
        }
        /// Changes where a listed proxy listens.
        ReplaceProxy = 0x9c79_24ba {
            /// Its number.
            seqno: u32,
            /// Where it listens.
            place: ListedProxy,
        }
        /// New prices, and with them new contracts.
        SetPrices = 0xc52e_d8d4 {
            /// What a client pays for an adjusted token.
            price_per_token: NanoTon,
            /// What a worker earns for it.
            worker_fee_per_token: NanoTon,
        }
        /// New prices, delays and stakes, and with them new contracts.
        SetParams = 0x022f_a189 {
            /// What a client pays for an adjusted token.
            price_per_token: NanoTon,
            /// What a worker earns for it.
            worker_fee_per_token: NanoTon,
            /// How long a closing proxy contract stays open.
            proxy_delay_before_close: Seconds,
            /// How long a closing client contract stays open.
            client_delay_before_close: Seconds,
            /// The stake without which a proxy takes no deposits.
            min_proxy_stake: NanoTon,
            /// The stake that client contracts begin with.
            min_client_stake: NanoTon,
        }
        /// New codes, and with them new contracts.
        SetCodes = 0xa237_0f61 {
            /// Code of proxy contracts.
            proxy_code: Cell,
            /// Code of worker contracts.
            worker_code: Cell,
            /// Code of client contracts.
            client_code: Cell,
        }
        /// A new code of the root contract itself. `version` stays.
        UpgradeCode = 0x11ae_fd51 {
            /// The code.
            code: Cell,
        }
        /// New data and code of the root contract itself.
        UpgradeFull = 0x4f7c_5789 {
            /// The data.
            data: Cell,
            /// The code.
            code: Cell,
        }
        /// Empties the lists; the number of the last proxy stays.
        Reset = 0x563c_1d96 {}
        /// Gives the root contract to another owner, at once.
        ChangeOwner = 0xc4a1_ae54 {
            /// He.
            new_owner: Address,
        }
    }
}

/// Where a proxy listens, as the root contract stores it: bit 0, the length in bytes in 7 bits, the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedProxy(Box<[u8]>);

impl ListedProxy {
    /// The entry for `proxy`, whose number the contract gives.
    #[must_use]
    pub fn new(proxy: &RegisteredProxy) -> Self {
        Self(proxy.to_text().into_bytes().into_boxed_slice())
    }

    /// What entry `seqno` says, if it is an address.
    ///
    /// # Errors
    /// [`ProxyTextError`] for any other text.
    pub fn read(&self, seqno: u32) -> Result<RegisteredProxy, ProxyTextError> {
        RegisteredProxy::from_text(seqno, &String::from_utf8_lossy(&self.0))
    }
}

impl Field for ListedProxy {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        // A length byte with its first bit 0: texts have at most 127 bytes.
        let length = u8::try_from(self.0.len()).map_err(|_longer| CellError::IntOverflow)?;
        builder.store_u8(length)?;
        builder.store_raw(&self.0, u16::from(length) * 8)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        let length = slice.load_u8()?;
        if length > 127 {
            return Err(FieldError::Value);
        }
        let mut text = vec![0; length.into()];
        slice.load_raw(&mut text, u16::from(length) * 8)?;
        Ok(Self(text.into_boxed_slice()))
    }
}

impl Field for Seconds {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        builder.store_u32(self.get())
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        Ok(Self::new(slice.load_u32()?))
    }
}

impl Field for ImageHash {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        self.as_bytes().store(builder)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        <[u8; 32]>::load(slice).map(Self::new)
    }
}

impl Field for ModelHash {
    fn store(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        self.as_bytes().store(builder)
    }

    fn load(slice: &mut CellSlice<'_>) -> Result<Self, FieldError> {
        <[u8; 32]>::load(slice).map(Self::new)
    }
}
