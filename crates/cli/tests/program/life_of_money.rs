//! A nanoton's whole way on `cocoon up`: from a client's wallet into its contract, for hundreds of prompts, to the worker's
//! owner and the proxy, and what was not used back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use units::NanoTon;

use crate::money::said;
use crate::support::{
    SCRIPTED_TOKENS, Up, ask, cocoon, exchange, exchange_with, json_in, serve_scripted_engine,
};

const PROMPTS: u64 = 300;
const CALLERS: u64 = 8;
/// What `up` sets.
const PRICE: u64 = 20;
const WORKER_FEE: u64 = 18;
const TON: u64 = 1_000_000_000;

/// A running network in front of a scripted engine, and the commands of its owners.
struct Network {
    up: Up,
    state: tempfile::TempDir,
}

impl Network {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = format!("http://{}", listener.local_addr().unwrap());
        serve_scripted_engine(listener);
        let state = tempfile::tempdir().unwrap();
        let up = Up::start(state.path(), &["--backend", &engine]);
        Self { up, state }
    }

    /// A command to a running role.
    fn tell(&self, role: &str, arguments: &[&str]) -> Result<String, String> {
        let folder = self.state.path().join(role);
        let where_it_is = ["--state", folder.to_str().unwrap(), "--http", self.up.address(role)];
        said(&cocoon(&[&[role], arguments, &where_it_is].concat()))
    }

    fn stats(&self, role: &str) -> Value {
        json_in(&exchange(self.up.address(role), "GET /jsonstats", "").1)
    }

    fn audit(&self) -> Books {
        Books(said(&cocoon(&["audit", "--state", self.state.path().to_str().unwrap()])).unwrap())
    }

    fn prompt(&self) {
        let question = json!({"model": "scripted", "messages": [{"role": "user", "content": "hello"}]});
        let (status, answer) = ask(&self.up, &question);
        assert_eq!(status, 200, "{answer}");
    }

    /// What the chain answers.
    fn chain(&self, question: &str) -> Value {
        let (status, body) = exchange(self.up.address("chain"), &format!("GET /api/v2/{question}"), "");
        assert_eq!(status, 200, "{body}");
        json_in(&body)["result"].take()
    }

    /// The block that a logical time is in.
    fn block_of(&self, lt: &Value) -> u64 {
        let lt = lt.as_str().unwrap();
        let block = self.chain(&format!("lookupBlock?workchain=0&shard=-9223372036854775808&lt={lt}"));
        block["seqno"].as_u64().unwrap()
    }

    fn transactions(&self, account: &Value) -> Vec<Value> {
        let account = account.as_str().unwrap();
        let Value::Array(mut list) = self.chain(&format!("getTransactions?address={account}&limit=50"))
        else {
            panic!("no list")
        };
        list.reverse();
        list
    }
}

/// What `cocoon audit` printed.
struct Books(String);

impl Books {
    /// The amount in the line that begins with a name, in nanotons.
    fn amount(&self, name: &str) -> u64 {
        let line = self
            .0
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {}", self.0));
        nanotons(line[name.len()..].trim())
    }
}

fn nanotons(text: &str) -> u64 {
    let end = text.find(" TON").unwrap();
    text[..end].parse::<NanoTon>().unwrap().get()
}

#[test]
fn the_first_prompt_of_a_new_user_waits_for_no_block() {
    let network = Network::start();
    let stats = network.stats("client");
    let (wallet, contract) = (&stats["wallet"]["address"], &stats["contracts"][0]["sc_address"]);
    let orders = || network.transactions(wallet).into_iter().filter(|one| one["in_msg"]["source"] == "");
    // Before `up` says that it is ready, one message of the wallet has brought a stake to the proxy: its contract has told
    // the client contract so, the only other one that speaks to that.
    assert_eq!(orders().count(), 1);
    let heard = network.transactions(contract);
    let of_wallet = &heard[0]["in_msg"]["source"];
    let word =
        heard.iter().find(|one| one["in_msg"]["source"] != *of_wallet).expect("the deposit has arrived");
    network.prompt();
    assert_eq!(orders().count(), 1, "nothing had to be sent for the prompt");

    // What the start waited for, in blocks: from that message to that word.
    let order = orders().next().unwrap();
    let [began, arrived] = [&order, word].map(|one| network.block_of(&one["transaction_id"]["lt"]));
    assert!(arrived - began <= 2, "from block {began} to block {arrived}");
    println!("a deposit takes {} blocks", arrived - began);
}

#[test]
fn hundreds_of_prompts_and_a_close_add_up_to_the_first_balance() {
    let mut network = Network::start();
    let asked = AtomicU64::new(0);
    std::thread::scope(|callers| {
        for _caller in 0..CALLERS {
            callers.spawn(|| {
                while asked.fetch_add(1, Ordering::Relaxed) < PROMPTS {
                    network.prompt();
                }
            });
        }
    });
    let tokens = PROMPTS * SCRIPTED_TOKENS;
    // The proxy tells a client what it used once that is durable.
    let balance = loop {
        let balance = network.tell("client", &["balance"]).unwrap();
        if balance.contains(&format!("tokens   {tokens} used, 0 of them charged")) {
            break balance;
        }
    };
    assert!(balance.contains("1 TON on the chain"), "{balance}");

    // The owner pays in more, and takes it out again. What cannot be is refused before anything is signed.
    let seqno = || network.stats("client")["wallet"]["seqno"].as_u64().unwrap();
    let before = seqno();
    let dry = network.tell("client", &["deposit", "2 TON", "--dry-run"]).unwrap();
    assert!(dry.contains("2 TON go into") && dry.contains("nothing was signed"), "{dry}");
    for (arguments, reason) in [
        (&["deposit", "0.000000001"][..], "buys none"),
        (&["deposit", "200 TON"], "balance_max_nanotons allows 100 TON"),
        (&["deposit", "99 TON"], "send it the difference"),
        (&["deposit", "1 TON", "--mainnet"], "a private network, and --mainnet was said"),
        (&["deposit", "1 TON", "--proxy", "0:00"], "64 hexadecimal digits"),
        (&["withdraw"], "only what is above the stake"),
        (&["withdraw", "--proxy", "a b"], "no address"),
    ] {
        let refused = network.tell("client", arguments).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    assert_eq!(seqno(), before);
    let deposited = network.tell("client", &["deposit", "2 TON"]).unwrap();
    assert!(deposited.contains("done     top up of 2 TON: done, transaction "), "{deposited}");
    assert!(deposited.contains("3 TON on the chain"), "{deposited}");
    let see = deposited.lines().find_map(|line| line.strip_prefix("see      cocoon ")).unwrap();
    let seen = said(&cocoon(&see.split(' ').collect::<Vec<_>>())).unwrap();
    assert!(seen.contains("2 TON"), "{seen}");
    let withdrawn = network.tell("client", &["withdraw"]).unwrap();
    assert!(withdrawn.contains("done     withdraw: done"), "{withdrawn}");
    assert!(withdrawn.contains("1 TON on the chain"), "{withdrawn}");
    assert_eq!(seqno(), before + 2);

    let closed = network.tell("client", &["close"]).unwrap();
    assert!(closed.contains("is closed: everything is paid back"), "{closed}");
    let again = network.tell("client", &["close"]).unwrap_err();
    assert!(again.contains("is closed: everything has been paid back"), "{again}");
    assert!(network.tell("proxy", &["payout"]).unwrap().contains("the proxy does it"));

    // Who used it paid for it, who answered it earned it, and the rest is back.
    let (earned, fee) = (tokens * WORKER_FEE, tokens * (PRICE - WORKER_FEE));
    let books = loop {
        let books = network.audit();
        if books.amount("worker owner's wallet") > 0 {
            break books;
        }
    };
    assert_eq!(
        (books.amount("worker owner's wallet"), books.amount("proxy's fee")),
        (earned, fee),
        "{}",
        books.0
    );
    let client = books.amount("client's wallet");
    // What the client paid for beside tokens is gas of its own messages, and what its contract keeps to exist.
    assert!(client < 100 * TON - tokens * PRICE && client > 99 * TON + TON / 2, "{}", books.0);
    let names = [
        "client's wallet",
        "worker owner's wallet",
        "proxy's fee",
        "gas",
        "the operator's, the nodes' and in contracts",
    ];
    let sum = names.map(|name| books.amount(name)).iter().sum::<u64>();
    let last = books.0.lines().last().unwrap();
    assert!(last.ends_with("to the nanoton"), "{last}");
    assert_eq!(sum, nanotons(last), "{}", books.0);

    // Statistics say which message of its wallet is next, and not the number that roles without a chain show.
    for role in ["client", "proxy", "worker"] {
        let wallet = network.stats(role)["wallet"].take();
        let transactions = network.transactions(&wallet["address"]);
        let ordered = transactions.iter().filter(|one| one["in_msg"]["source"] == "").count();
        assert_eq!(wallet["seqno"], ordered, "{role}");
    }
    // Who has left is not served, and hears why; under other terms there are other contracts.
    let ready = || exchange(network.up.address("client"), "GET /readyz", "");
    let (status, missing) = ready();
    assert!(status == 503 && missing.contains("those that there were are closed"), "{missing}");
    let folder = network.state.path().join("chain");
    let root = std::fs::read_to_string(folder.join("root")).unwrap();
    let (chain, wallet) = (format!("http://{}", network.up.address("chain")), folder.join("operator.wallet"));
    let by_operator =
        ["root", "--root", root.trim(), "--chain", &chain, "--wallet", wallet.to_str().unwrap()];
    let prices = ["set-prices", "--price-per-million", "0.021 TON", "--worker-fee-per-million", "0.018 TON"];
    said(&cocoon(&[&by_operator[..], &prices].concat())).unwrap();
    while ready().0 != 200 {
        std::thread::yield_now();
    }
    network.prompt();
    assert!(network.audit().0.lines().last().unwrap().ends_with("to the nanoton"));
    assert!(network.up.interrupt().success());
}

#[test]
fn nobody_moves_money_without_the_token() {
    let network = Network::start();
    let client = network.up.address("client").to_owned();
    for action in ["deposit?nanotons=1000000000", "withdraw", "close"] {
        let path = format!("/request/{action}");
        assert_eq!(exchange(&client, &format!("GET {path}"), "").0, 405, "a look must not change anything");
        assert_eq!(exchange(&client, &format!("POST {path}"), "").0, 401, "a web page has no token");
    }
    let other = network.state.path().join("proxy");
    let arguments = ["--state", other.to_str().unwrap(), "--http", &client];
    let refused = said(&cocoon(&[&["client", "close"], &arguments[..]].concat())).unwrap_err();
    assert!(refused.contains("has another token"), "{refused}");
    let token = std::fs::read_to_string(network.state.path().join("client/admin.token")).unwrap();
    let with_token = |path: &str| {
        exchange_with(
            &client,
            &format!("POST /request/{path}"),
            &format!("Authorization: Bearer {}\r\n", token.trim()),
            "",
        )
    };
    for nonsense in
        ["deposit", "deposit?nanotons=-1", "deposit?nanotons=1&more=2", "close?nanotons=5", "close?proxy=x"]
    {
        let (status, body) = with_token(nonsense);
        assert_eq!(status, 400, "{nonsense}: {body}");
        assert!(json_in(&body)["error"].is_string(), "{body}");
    }
    assert_eq!(network.stats("client")["contracts"][0]["stage"], "open");
}
