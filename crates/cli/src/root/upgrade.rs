//! Another code for the root contract itself: what is in the files, and whether it may be sent.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ton::getters::GetRoot;
use ton::messages::RootMessage;
use ton::{Address, Contract, ContractCode, RootConfig, decode_boc};
use tycho_types::cell::Cell;

use crate::on_chain::Chain;

/// Bytes of a file with data: more than a message from outside can bring in.
const DATA_LEN_MAX: usize = 64 * 1024;

/// Code for a root contract, out of a file with a bag of cells.
#[derive(Clone)]
struct CodeFile(ContractCode);

/// Data for a root contract, out of a file with a bag of cells.
#[derive(Clone)]
struct DataFile {
    cell: Cell,
    says: Box<RootConfig>,
}

impl FromStr for CodeFile {
    type Err = anyhow::Error;

    fn from_str(path: &str) -> Result<Self> {
        let bytes = read(path, ContractCode::BOC_LEN_MAX)?;
        let code = ContractCode::from_boc(&bytes).with_context(|| format!("{path} holds no code"))?;
        let other = Contract::of_code(&code.cell()).filter(|contract| *contract != Contract::Root);
        if let Some(other) = other {
            bail!(
                "{path} holds the code of another contract ({}): the root contract would answer nobody, for ever",
                other.name()
            );
        }
        ensure!(
            !code.is_empty(),
            "{path} holds an empty cell: the root contract would answer nobody, for ever"
        );
        Ok(Self(code))
    }
}

impl FromStr for DataFile {
    type Err = anyhow::Error;

    fn from_str(path: &str) -> Result<Self> {
        let cell = decode_boc(&read(path, DATA_LEN_MAX)?, DATA_LEN_MAX)
            .with_context(|| format!("{path} holds no data"))?;
        // Roles and contracts read this layout and no other.
        let says =
            RootConfig::from_data(&cell).with_context(|| format!("{path} is no root contract's data"))?;
        Ok(Self { cell, says: Box::new(says) })
    }
}

/// A file of at most `len_max` bytes.
fn read(path: &str, len_max: usize) -> Result<Vec<u8>> {
    let len = std::fs::metadata(path).with_context(|| format!("cannot read {path}"))?.len();
    ensure!(len <= len_max as u64, "{path} has {len} bytes, at most {len_max} can be sent");
    std::fs::read(path).with_context(|| format!("cannot read {path}"))
}

/// An order that gives the root contract another code, and perhaps other data.
#[derive(Args)]
pub(super) struct Upgrade {
    /// File with the code: a bag of cells.
    code: CodeFile,

    /// File with data to go with it: a bag of cells. Without it, the contract says what it said.
    #[arg(long, value_name = "FILE")]
    data: Option<DataFile>,
}

impl Upgrade {
    /// Refuses what would change nothing, and data that roles would not take for newer.
    ///
    /// # Errors
    /// What is wrong with the order, given the contract as it is.
    pub(super) async fn check(&self, chain: &Chain, root: &Address, known: &RootConfig) -> Result<()> {
        let account = chain.provider.account(root).await?;
        let is_same_code = account.code() == Some(&self.code.0.cell());
        match &self.data {
            None => ensure!(!is_same_code, "the root contract has the code {} already", self.hash()),
            Some(data) if is_same_code && account.data() == Some(&data.cell) => {
                bail!("the root contract has this code and this data already")
            }
            Some(data) => ensure!(
                data.says.version > known.version,
                "the data say version {}, and the root contract is at {}: roles follow growing versions only",
                data.says.version,
                known.version
            ),
        }
        Ok(())
    }

    /// Looks whether the contract has what it was sent, and answers as a root contract does.
    ///
    /// # Errors
    /// If not.
    pub(super) async fn confirm(&self, chain: &Chain, root: &Address, known: &RootConfig) -> Result<()> {
        let code = chain.provider.account(root).await?.code().map(|code| *code.repr_hash());
        ensure!(
            code.is_some_and(|code| code.0 == self.code.0.hash()),
            "the root contract took the order, and its code is {}",
            code.map_or_else(|| "gone".to_owned(), |code| code.to_string())
        );
        let told = chain.provider.getter(root, &GetRoot).await;
        let told = told.context("the root contract has the new code, and does not answer with it")?;
        let expected = self.data.as_ref().map_or(known, |data| &data.says);
        ensure!(
            (told.version, told.owner) == (expected.version, expected.owner),
            "the root contract has the new code, and says version {} of owner {} with it, not version {} of owner {}",
            told.version,
            told.owner,
            expected.version,
            expected.owner
        );
        Ok(())
    }

    /// The order in words.
    pub(super) fn what(&self) -> String {
        let hash = self.hash();
        match &self.data {
            None => format!("give the root contract the code {hash}"),
            Some(DataFile { cell, says }) => format!(
                "give the root contract the code {hash} and the data {}, which say version {} and owner {}",
                cell.repr_hash(),
                says.version,
                says.owner
            ),
        }
    }

    /// The order as the contract reads it.
    pub(super) fn message(&self, query_id: u64) -> RootMessage {
        let code = self.code.0.cell();
        match &self.data {
            None => RootMessage::UpgradeCode { query_id, code },
            Some(data) => RootMessage::UpgradeFull { query_id, data: data.cell.clone(), code },
        }
    }

    fn hash(&self) -> String {
        self.code.0.cell().repr_hash().to_string()
    }
}
