//! Data of a root contract (`RootData` in `spec/messages.tlb`).

use std::collections::BTreeSet;

use tycho_types::cell::{Cell, CellBuilder, CellSlice, HashBytes};
use tycho_types::dict::{Dict, DictKey};
use tycho_types::error::Error as CellError;
use units::{ConfigVersion, ImageHash, ModelHash};

use super::{RegisteredProxy, RootConfig};
use crate::cells::{Field, FieldError, LayoutError, Reader, build};
use crate::contracts::StateInit;
use crate::messages::ListedProxy;
use crate::{CodeMask, ContractCode, Params};

/// More entries than the state of an account can hold. Cells that are used often could stand for any number of them.
const ENTRIES_MAX: usize = 65_536;

const LAYOUT: &str = "data of a root contract";

impl RootConfig {
    /// Reads the data of a root contract. Listed proxies whose text is no address are left out, as everywhere.
    ///
    /// # Errors
    /// [`LayoutError`] if the cell is anything else, or lacks a code.
    pub fn from_data(data: &Cell) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(LAYOUT, data)?;
        let owner = reader.field("owner")?;
        let version: u32 = reader.field("version")?;
        let lists: Cell = reader.field("lists")?;
        let params: Cell = reader.field("params")?;
        reader.end()?;

        let mut lists = Reader::new(LAYOUT, &lists)?;
        let proxy_hashes: BTreeSet<HashBytes> = lists.load("proxy_hashes", load_set)?;
        let registered_proxies = lists.load("registered_proxies", load_proxies)?;
        let last_proxy_seqno = lists.field("last_proxy_seqno")?;
        let worker_hashes = lists.load("worker_hashes", load_set)?;
        let model_hashes = lists.load("model_hashes", load_set)?;
        lists.end()?;
        let images = |set: BTreeSet<HashBytes>| set.into_iter().map(|hash| ImageHash::new(hash.0)).collect();
        Ok(Self {
            owner,
            version: ConfigVersion::new(version),
            proxy_hashes: images(proxy_hashes),
            worker_hashes: images(worker_hashes),
            model_hashes: model_hashes.into_iter().map(|hash| ModelHash::new(hash.0)).collect(),
            registered_proxies,
            last_proxy_seqno,
            params: Params::from_cell(&params, CodeMask::All)?,
        })
    }

    /// The data of a root contract that says this.
    #[must_use]
    pub fn to_data(&self) -> Cell {
        let lists = build(|builder| {
            store_set(builder, self.proxy_hashes.iter().map(ImageHash::as_bytes))?;
            self.store_proxies(builder)?;
            self.last_proxy_seqno.store(builder)?;
            store_set(builder, self.worker_hashes.iter().map(ImageHash::as_bytes))?;
            store_set(builder, self.model_hashes.iter().map(ModelHash::as_bytes))
        });
        build(|builder| {
            self.owner.store(builder)?;
            self.version.get().store(builder)?;
            builder.store_reference(lists)?;
            builder.store_reference(self.params.cell(CodeMask::All))
        })
    }

    /// What a root contract with the code `code` is deployed with, so that it says this from the beginning.
    #[must_use]
    pub fn init(&self, code: ContractCode) -> StateInit {
        StateInit { code, data: self.to_data() }
    }

    fn store_proxies(&self, builder: &mut CellBuilder) -> Result<(), CellError> {
        let entry = |proxy| build(|builder| ListedProxy::new(proxy).store(builder));
        let entries: Vec<Cell> = self.registered_proxies.iter().map(entry).collect();
        let mut proxies = Dict::<u32, CellSlice<'_>>::new();
        for (proxy, entry) in self.registered_proxies.iter().zip(&entries) {
            proxies.set(proxy.seqno, entry.as_slice()?)?;
        }
        store_dictionary(builder, proxies)
    }
}

/// `HashmapE n X`: one bit, and the root of the tree if there is any entry.
fn store_dictionary<K, V>(builder: &mut CellBuilder, dictionary: Dict<K, V>) -> Result<(), CellError> {
    dictionary.into_root().store(builder)
}

fn load_dictionary<K: DictKey, V>(slice: &mut CellSlice<'_>) -> Result<Dict<K, V>, FieldError> {
    Ok(Dict::from(Option::<Cell>::load(slice)?))
}

fn store_set<'a>(
    builder: &mut CellBuilder,
    hashes: impl Iterator<Item = &'a [u8; 32]>,
) -> Result<(), CellError> {
    let mut set = Dict::<HashBytes, ()>::new();
    for hash in hashes {
        set.set(HashBytes(*hash), ())?;
    }
    store_dictionary(builder, set)
}

fn load_set(slice: &mut CellSlice<'_>) -> Result<BTreeSet<HashBytes>, FieldError> {
    let dictionary = load_dictionary::<HashBytes, CellSlice<'_>>(slice)?;
    let mut set = BTreeSet::new();
    for entry in dictionary.iter() {
        let (hash, value) = entry?;
        if !value.is_empty() || set.len() == ENTRIES_MAX {
            return Err(FieldError::TooLong);
        }
        set.insert(hash);
    }
    Ok(set)
}

fn load_proxies(slice: &mut CellSlice<'_>) -> Result<Vec<RegisteredProxy>, FieldError> {
    let dictionary = load_dictionary::<u32, CellSlice<'_>>(slice)?;
    let mut proxies = Vec::new();
    for (entry, read) in dictionary.iter().zip(0..) {
        let (seqno, mut value) = entry?;
        if read == ENTRIES_MAX {
            return Err(FieldError::TooLong);
        }
        // A first bit of 1 is reserved for kinds of entries that nobody knows yet.
        let Ok(listed) = ListedProxy::load(&mut value) else { continue };
        if value.is_empty()
            && let Ok(proxy) = listed.read(seqno)
        {
            proxies.push(proxy);
        }
    }
    Ok(proxies)
}

#[cfg(test)]
mod tests {
    use tycho_types::boc::Boc;
    use units::NanoTon;

    use super::*;
    use crate::{Address, StructVersion};

    fn config() -> RootConfig {
        let mut config = RootConfig::pseudo(Address::new(0, [1; 32]));
        config.version = ConfigVersion::new(9);
        config.proxy_hashes.insert(ImageHash::new([1; 32]));
        config.worker_hashes.extend([ImageHash::new([2; 32]), ImageHash::new([3; 32])]);
        config.model_hashes.extend((0..40).map(|byte| ModelHash::new([byte; 32])));
        for seqno in [2, 5] {
            let text = format!("10.0.0.{seqno}:1 10.0.0.{seqno}:2");
            config.registered_proxies.push(RegisteredProxy::from_text(seqno, &text).unwrap());
        }
        config.last_proxy_seqno = 6;
        config.params.struct_version = StructVersion::V3;
        config.params.min_proxy_stake = NanoTon::new(5);
        config
    }

    #[test]
    fn root_data_is_read_as_it_was_written() {
        for config in [config(), RootConfig::pseudo(Address::new(-1, [8; 32]))] {
            assert_eq!(RootConfig::from_data(&config.to_data()).unwrap(), config);
        }
    }

    /// The data of [`config`] with another tree of proxies.
    fn with_proxies(proxies: Option<Cell>) -> Cell {
        let data = config().to_data();
        let mut slice = data.as_slice().unwrap();
        let lists = slice.load_reference_cloned().unwrap();
        let mut old = lists.as_slice().unwrap();
        let mut builder = CellBuilder::new();
        Option::<Cell>::load(&mut old).unwrap().store(&mut builder).unwrap();
        Option::<Cell>::load(&mut old).unwrap();
        proxies.store(&mut builder).unwrap();
        builder.store_slice(old).unwrap();
        let lists = builder.build().unwrap();
        let mut builder = CellBuilder::new();
        let references = slice.load_reference_cloned().unwrap();
        builder.store_slice(slice).unwrap();
        builder.store_reference(lists).unwrap();
        builder.store_reference(references).unwrap();
        builder.build().unwrap()
    }

    fn tree(entries: &[(u32, Cell)]) -> Cell {
        let mut proxies = Dict::<u32, CellSlice<'_>>::new();
        for (seqno, entry) in entries {
            proxies.set(*seqno, entry.as_slice().unwrap()).unwrap();
        }
        proxies.into_root().unwrap()
    }

    #[test]
    fn proxies_without_an_address_are_left_out() {
        let entry = |head: u8, text: &[u8]| {
            build(|builder| {
                builder.store_u8(head)?;
                builder.store_raw(text, u16::try_from(text.len() * 8).unwrap())
            })
        };
        let good = b"10.0.0.1:1";
        let proxies = tree(&[
            (1, entry(10, good)),
            (2, entry(10, b"nonsense!!")),
            (3, entry(0x8a, good)),
            (4, entry(9, good)),
            (5, entry(11, good)),
        ]);
        let read = RootConfig::from_data(&with_proxies(Some(proxies))).unwrap();
        assert_eq!(read.registered_proxies, [RegisteredProxy::from_text(1, "10.0.0.1:1").unwrap()]);
    }

    #[test]
    fn a_tree_of_one_cell_used_without_end_is_refused() {
        // Forks whose two branches are the same cell: 2^32 entries in 33 cells. An empty label is two zero bits.
        let mut node = build(|builder| builder.store_zeros(2 + 8));
        for _ in 0..32 {
            let branch = node;
            node = build(|builder| {
                builder.store_zeros(2)?;
                builder.store_reference(branch.clone())?;
                builder.store_reference(branch)
            });
        }
        let error = RootConfig::from_data(&with_proxies(Some(node))).unwrap_err();
        assert_eq!(error.to_string(), "registered_proxies of the data of a root contract is too long");
    }

    #[test]
    fn malformed_trees_are_refused() {
        let no_tree = with_proxies(Some(Cell::default()));
        let error = RootConfig::from_data(&no_tree).unwrap_err();
        assert_eq!(error.to_string(), "registered_proxies of the data of a root contract is cut off");
        assert!(RootConfig::from_data(&Cell::default()).is_err());
        assert!(RootConfig::from_data(&with_proxies(None)).unwrap().registered_proxies.is_empty());
    }

    #[test]
    fn a_root_contract_has_the_address_of_its_first_data() {
        let code = ContractCode::from_boc(&Boc::encode(Cell::default())).unwrap();
        let init = config().init(code.clone());
        let mut other = config();
        other.last_proxy_seqno += 1;
        assert_ne!(init.address(), other.init(code).address());
        assert_eq!(RootConfig::from_data(&init.data).unwrap(), config());
    }
}
