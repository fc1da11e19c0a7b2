//! The chain of a private network: a devnet in this program, the network's root contract on it, and money in the wallets of
//! everybody who needs some.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chain::{Endpoint, Limits, Network, Provider, RootWatch};
use devnet::Pace;
use node::{ChainConfig, StateFolder, wallet_state};
use ton::contracts::StateInit;
use ton::message::InternalMessage;
use ton::messages::{ListedProxy, RootMessage};
use ton::{Address, Contract, ContractCode, RegisteredProxy, RootConfig, human};
use tycho_types::cell::Cell;
use units::{ImageHash, ModelHash, NanoTon, PublicKey};

use super::network::{Ground, Owners};
use crate::audit::{ACCOUNTS_FILE, Accounts, Named, Party};
use crate::devnet::RunningDevnet;
use crate::on_chain::{self, Transfer, carry_out_silently};
use crate::wallet::{Version, WalletFile};

/// Time between two blocks.
const PACE: Duration = Duration::from_millis(200);
/// What deploying the root contract, and changing what it says, carries.
const ROOT_VALUE: NanoTon = NanoTon::new(500_000_000);

/// People of a private network, and what the faucet gives to their wallets or their nodes at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Person {
    /// Owns the network and its proxy.
    Operator,
    /// Owns the machine that works.
    WorkerOwner,
    /// Pays for answers.
    User,
}

impl Person {
    pub(super) const ALL: [Self; 3] = [Self::Operator, Self::WorkerOwner, Self::User];

    /// Name of the wallet's file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::WorkerOwner => "worker-owner",
            Self::User => "user",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::WorkerOwner => "worker's owner",
            Self::User => "user",
        }
    }

    /// Whose money is in the wallet, and in the node wallet.
    const fn parties(self) -> [Party; 2] {
        match self {
            Self::Operator => [Party::Others, Party::Others],
            // The worker's node pays for messages with money that nobody earned.
            Self::WorkerOwner => [Party::WorkerOwner, Party::Others],
            Self::User => [Party::Client, Party::Client],
        }
    }

    /// The role whose node wallet acts for this person.
    const fn role(self) -> &'static str {
        match self {
            Self::Operator => "proxy",
            Self::WorkerOwner => "worker",
            Self::User => "client",
        }
    }

    /// What the node wallet gets.
    const fn allowance(self) -> NanoTon {
        match self {
            // Its stake, and deposits that it hands on.
            Self::Operator => NanoTon::new(50_000_000_000),
            Self::WorkerOwner => NanoTon::new(10_000_000_000),
            Self::User => NanoTon::new(100_000_000_000),
        }
    }
}

/// With less, a node wallet gets its allowance again: it refuses to act below 2 TON.
const POOR: NanoTon = NanoTon::new(5_000_000_000);

/// File with the root contract's address.
const ROOT_FILE: &str = "root";

/// A running chain with a network on it.
pub(super) struct UpChain {
    devnet: RunningDevnet,
    folder: StateFolder,
    wallets: [WalletFile; 3],
    root: Address,
}

impl UpChain {
    /// Starts the chain that is kept below `state`, or a new one, and sees to it that the root contract there says `terms`.
    ///
    /// # Errors
    /// If the chain cannot run, or the network not be laid out on it.
    pub(super) async fn start(state: &Path, port: u16, terms: &RootConfig) -> Result<Self> {
        let folder = StateFolder::open(&state.join("chain"))?;
        let listen = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        let devnet =
            RunningDevnet::start(listen, Some(folder.path()), "cocoon up", Pace::Every(PACE)).await?;
        let [first, second, third] = Person::ALL.map(|person| wallet(folder.path(), person));
        let wallets = [first?, second?, third?];
        let mut chain = Self { devnet, folder, wallets, root: Address::new(0, [0; 32]) };
        let terms = with_codes(terms);
        chain.lay_out(state, &terms).await.context("the network cannot be laid out on its chain")?;
        Ok(chain)
    }

    /// What the roles stand on.
    pub(super) fn ground(&self) -> Ground {
        let text = |person| self.address(person).to_wire_text(false);
        Ground {
            root_address: self.root.to_wire_text(false),
            chain: Some(ChainConfig { endpoint: self.endpoint(), ..ChainConfig::default() }),
            owners: Owners {
                of_client: text(Person::User),
                of_proxy: text(Person::Operator),
                of_worker: text(Person::WorkerOwner),
            },
            ..Ground::default()
        }
    }

    /// Where the chain answers.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.devnet.address())
    }

    fn wallet(&self, person: Person) -> &WalletFile {
        &self.wallets[person as usize]
    }

    fn address(&self, person: Person) -> Address {
        self.wallet(person).wallet(human::Network::Mainnet).address()
    }

    /// Stops making blocks.
    pub(super) async fn stop(self) {
        self.devnet.stop().await;
    }

    async fn lay_out(&mut self, state: &Path, terms: &RootConfig) -> Result<()> {
        let endpoint: Endpoint = self.endpoint().parse()?;
        let provider = Provider::new(endpoint, Limits::default());
        let chain = on_chain::Chain { provider, network: Network::Other };
        let named = |what: String, of| Named { what, of };
        let mut accounts = BTreeMap::new();
        for person in Person::ALL {
            let wallet = self.node_wallet(state, person)?;
            self.see_to(&chain, &wallet, person.allowance()).await?;
            let [own, of_node] = person.parties();
            let (node, name) = (wallet.to_string(), format!("the {}'s node wallet", person.role()));
            accounts.insert(node, named(name, of_node));
            let name = format!("the {}'s wallet", person.words());
            accounts.insert(self.address(person).to_string(), named(name, own));
        }
        let operator = self.address(Person::Operator);
        self.see_to(&chain, &operator, Person::Operator.allowance()).await?;
        self.root = self.see_to_root(&chain, RootConfig { owner: operator, ..terms.clone() }).await?;
        accounts.insert(self.root.to_string(), named("the root contract".to_owned(), Party::Others));
        // Word of who is who, for commands that look at the chain.
        let text = toml::to_string(&Accounts { chain: self.endpoint(), accounts })?;
        let file = state.join(ACCOUNTS_FILE);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The node wallet of a person's role, whose key is in the role's state folder.
    fn node_wallet(&self, state: &Path, person: Person) -> Result<Address> {
        let folder = StateFolder::open(&state.join(person.role()))?;
        let key = PublicKey::new(folder.key("wallet.key")?.verifying_key().to_bytes());
        Ok(wallet_state(&key, &self.address(person)).address())
    }

    /// Has the faucet give to who has little, and waits until it is there.
    async fn see_to(&self, chain: &on_chain::Chain, account: &Address, allowance: NanoTon) -> Result<()> {
        if chain.provider.account(account).await?.balance >= POOR {
            return Ok(());
        }
        self.devnet.node().give(account, allowance)?;
        while chain.provider.account(account).await?.balance < POOR {
            tokio::time::sleep(PACE / 2).await;
        }
        Ok(())
    }

    /// The root contract, deployed if there is none, and with our proxy where it is this time.
    async fn see_to_root(&self, chain: &on_chain::Chain, terms: RootConfig) -> Result<Address> {
        if let Some(text) = self.folder.text(ROOT_FILE)? {
            let (root, _flags) =
                Address::parse(text.trim()).context("the file of the root contract's address")?;
            if chain.provider.account(&root).await?.code().is_some() {
                self.see_to_lists(chain, root, &terms).await?;
                return Ok(root);
            }
        }
        let init = terms.init(ContractCode::built(Contract::Root));
        let root = init.address();
        // Kept first: a contract that nobody remembers would be lost, an address without one is deployed the next time.
        self.folder.replace(ROOT_FILE, root.to_string().as_bytes())?;
        self.order(chain, root, Some(init), None).await?;
        Ok(root)
    }

    /// Has the root contract say where the network's proxy is, and which images and models are allowed.
    async fn see_to_lists(&self, chain: &on_chain::Chain, root: Address, terms: &RootConfig) -> Result<()> {
        let mut watch = RootWatch::new(root);
        watch.look(&chain.provider).await?;
        let known = watch.known().context("the root contract says nothing")?;
        let places = |config: &RootConfig| {
            config.registered_proxies.iter().map(RegisteredProxy::to_text).collect::<BTreeSet<_>>()
        };
        let mut changes = Vec::new();
        if places(known) != places(terms) {
            let proxy = terms.registered_proxies.first().context("a network without a proxy")?;
            ensure!(
                known.registered_proxies.len() == 1,
                "the network's root contract lists other proxies, too"
            );
            changes.push(RootMessage::ReplaceProxy { query_id: 0, seqno: 1, place: ListedProxy::new(proxy) });
        }
        let new = |hash: &ImageHash| RootMessage::AddProxyImage { query_id: 0, hash: *hash };
        changes.extend(terms.proxy_hashes.difference(&known.proxy_hashes).map(new));
        let new = |hash: &ImageHash| RootMessage::AddWorkerImage { query_id: 0, hash: *hash };
        changes.extend(terms.worker_hashes.difference(&known.worker_hashes).map(new));
        let new = |hash: &ModelHash| RootMessage::AddModel { query_id: 0, hash: *hash };
        changes.extend(terms.model_hashes.difference(&known.model_hashes).map(new));
        for change in changes {
            self.order(chain, root, None, Some(change.to_cell())).await?;
        }
        Ok(())
    }

    /// An order of the operator to the root contract.
    async fn order(
        &self,
        chain: &on_chain::Chain,
        root: Address,
        state_init: Option<StateInit>,
        body: Option<Cell>,
    ) -> Result<()> {
        let bounce = state_init.is_none();
        let message = InternalMessage { to: root, value: ROOT_VALUE, bounce, state_init, body };
        let transfer = Transfer { message, what: "lay out the network".to_owned() };
        carry_out_silently(chain, self.wallet(Person::Operator), &[transfer]).await
    }
}

/// The wallet of a person, made when it is first asked for.
fn wallet(folder: &Path, person: Person) -> Result<WalletFile> {
    let file = folder.join(format!("{}.wallet", person.name()));
    if file.exists() {
        return WalletFile::read(&file);
    }
    let wallet = WalletFile::draw(Version::V5r1);
    wallet.keep(&file)?;
    Ok(wallet)
}

/// The terms, with the codes that this program carries, in the layout that these codes read.
fn with_codes(terms: &RootConfig) -> RootConfig {
    let mut terms = terms.clone();
    terms.params.use_built_codes();
    terms
}
