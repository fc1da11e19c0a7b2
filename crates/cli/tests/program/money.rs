//! Wallets and root contracts, as a person handles them, on a devnet of the program's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::support::{Up, ask, cocoon, exchange, json_in};

/// A running `cocoon devnet`; killed at the end.
pub(super) struct Devnet {
    child: Child,
    address: String,
    /// Open as long as it may print.
    _stdout: BufReader<ChildStdout>,
}

impl Devnet {
    pub(super) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["devnet", "--listen", "127.0.0.1:0", "--instant"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let (_before, address) = line.split_once("http://").unwrap();
        let address = address.split('/').next().unwrap().to_owned();
        Self { child, address, _stdout: stdout }
    }

    pub(super) fn give(&self, to: &str, nanotons: u64) {
        let head = format!("POST /faucet?address={to}&nanotons={nanotons}");
        assert_eq!(exchange(&self.address, &head, "").0, 200);
    }

    /// Runs a command that talks to this chain. What it printed, or its error.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let chain = format!("http://{}", self.address);
        said(&cocoon(&[arguments, &["--chain", &chain]].concat()))
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

pub(crate) fn said(output: &std::process::Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stdout) + &text(&output.stderr)),
    }
}

pub(super) fn new_wallet(folder: &Path, name: &str, version: &str) -> (String, String) {
    let file = folder.join(name).to_str().unwrap().to_owned();
    said(&cocoon(&["wallet", "new", &file, "--contract", version])).unwrap();
    let address = said(&cocoon(&["wallet", "address", &file])).unwrap().trim().to_owned();
    (file, address)
}

/// The word after a title in what a command printed.
pub(super) fn after<'a>(printed: &'a str, title: &str) -> &'a str {
    let line = printed.lines().find(|line| line.starts_with(title)).unwrap();
    line[title.len()..].split_whitespace().next().unwrap()
}

#[test]
fn wallets_are_kept_from_others_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (file, address) = new_wallet(folder.path(), "owner", "v5r1");
    assert!(address.starts_with("UQ"), "{address}");
    let testnet = said(&cocoon(&["wallet", "address", &file, "--testnet"])).unwrap();
    assert!(testnet.starts_with("0Q") && testnet.trim() != address, "{testnet}");

    let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let again = said(&cocoon(&["wallet", "new", &file])).unwrap_err();
    assert!(again.contains("never written over"), "{again}");

    // The same words, brought in from elsewhere.
    let text = std::fs::read_to_string(&file).unwrap();
    let words = text.lines().find(|line| line.starts_with("words")).unwrap().split('"').nth(1).unwrap();
    let copy = folder.path().join("copy").to_str().unwrap().to_owned();
    let import = |words: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["wallet", "import", &copy])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        said(&child.wait_with_output().unwrap())
    };
    let wrong = import(&words.replacen(' ', " abandon ", 1)).unwrap_err();
    assert!(wrong.contains("24 words") && !Path::new(&copy).exists(), "{wrong}");
    assert_eq!(after(&import(words).unwrap(), "address"), address);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = said(&cocoon(&["wallet", "address", &file])).unwrap_err();
    assert!(open.contains("read by others"), "{open}");
    std::fs::write(&copy, "words = \"secret words\"\n").unwrap();
    let damaged = said(&cocoon(&["wallet", "address", &copy])).unwrap_err();
    assert!(damaged.contains("holds no wallet") && !damaged.contains("secret"), "{damaged}");
}

#[test]
fn payments_say_what_they_cost_and_arrive_to_the_nanoton() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), Devnet::start());
    for version in ["v5r1", "v4r2"] {
        let (file, from) = new_wallet(folder.path(), &format!("from-{version}"), version);
        let (_file, to) = new_wallet(folder.path(), &format!("to-{version}"), version);
        let balance = |of: &str| chain.run(&["wallet", "balance", of]).unwrap().trim().to_owned();
        let send = |amount: &str, more: &[&str]| {
            chain.run(&[&["wallet", "send", &file, "--to", &to, "--amount", amount], more].concat())
        };
        let poor = send("1 TON", &[]).unwrap_err();
        assert!(poor.contains("has 0 TON and is to send 1 TON"), "{poor}");
        chain.give(&from, 3_000_000_000);

        let dry = send("1.25 TON", &["--dry-run"]).unwrap();
        assert!(dry.contains("fees     about 0.00") && dry.contains("nothing was signed"), "{dry}");
        assert_eq!((balance(&from), balance(&to)), ("3 TON".to_owned(), "0 TON".to_owned()));

        let sent = send("1.25 TON", &["--comment", &"for tea ".repeat(30)]).unwrap();
        assert!(sent.contains("done     pay, with a comment: arrived"), "{sent}");
        assert_eq!(balance(&to), "1.25 TON");
        // The wallet exists by now, and another payment has another number. An account that is there pays for storage.
        let (_file, second) = new_wallet(folder.path(), &format!("second-{version}"), version);
        let paid = chain.run(&["wallet", "send", &file, "--to", &second, "--amount", "0.000000001"]);
        assert!(paid.unwrap().contains("done"));
        assert_eq!(balance(&second), "0.000000001 TON");
        let too_much = send("1.8", &[]).unwrap_err();
        assert!(too_much.contains("is to send 1.8 TON") && !too_much.contains("sent"), "{too_much}");
    }
    let (file, address) = new_wallet(folder.path(), "other", "v5r1");
    let test = said(&cocoon(&["wallet", "address", &file, "--testnet"])).unwrap();
    for (arguments, reason) in [
        (["--to", test.trim(), "--amount", "1"], "an address of TON testnet"),
        (["--to", "UQ", "--amount", "1"], "found 2 characters"),
        (["--to", "0:00", "--amount", "1"], "has 64 hexadecimal digits"),
        (["--to", &address, "--amount", "1.0000000001"], "at most 9 after the point"),
    ] {
        let refused = chain.run(&[&["wallet", "send", &file], &arguments[..]].concat()).unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    let mainnet = chain.run(&["wallet", "balance", &file, "--mainnet"]).unwrap_err();
    assert!(mainnet.contains("a private network, and --mainnet was said"), "{mainnet}");
}

#[test]
fn a_network_is_begun_and_changed_by_its_owner_alone() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), Devnet::start());
    let (owner, address) = new_wallet(folder.path(), "owner", "v5r1");
    let (other, other_address) = new_wallet(folder.path(), "other", "v4r2");
    chain.give(&address, 10_000_000_000);
    chain.give(&other_address, 10_000_000_000);
    let init = |fee: &str| {
        let prices = ["--price-per-million", "0.02 TON", "--worker-fee-per-million", fee];
        chain.run(&[&["root", "init", "--wallet", &owner, "--completion", "2.5"], &prices[..]].concat())
    };
    assert!(init("0.03 TON").unwrap_err().contains("workers cannot get more"));
    assert!(init("0.0150001 TON").unwrap_err().contains("0.015 TON or 0.016 TON per million"));
    let printed = init("0.015 TON").unwrap();
    let root = after(&printed, "root").to_owned();
    let order = |arguments: &[&str]| chain.run(&[&["root", "--root", &root], arguments].concat());
    let by_owner = |arguments: &[&str]| order(&[arguments, &["--wallet", &owner]].concat());
    let shown = || json_in(&order(&["show", "--json"]).unwrap());
    let at = |value: &Value, field: &str| value.get(field).unwrap().clone();
    let begun = shown();
    assert_eq!((at(&begun, "price_per_token"), at(&begun, "version")), (20.into(), 0.into()));
    assert_eq!(begun.pointer("/multipliers/completion"), Some(&25_000.into()));

    let image = "ab".repeat(32);
    by_owner(&["add-image", "workers", &image]).unwrap();
    assert!(by_owner(&["add-image", "workers", &image]).unwrap_err().contains("on the list already"));
    by_owner(&["add-image", "proxies", &image]).unwrap();
    by_owner(&["delete-image", "proxies", &image]).unwrap();
    by_owner(&["add-model", "demo@c0ffee:00"]).unwrap();
    assert!(by_owner(&["delete-model", "demo"]).unwrap_err().contains("not on the list"));
    by_owner(&["add-proxy", "10.0.0.1:11001 10.0.0.1:11002"]).unwrap();
    by_owner(&["replace-proxy", "1", "10.0.0.2:11001"]).unwrap();
    assert!(by_owner(&["delete-proxy", "2"]).unwrap_err().contains("no proxy 2"));
    by_owner(&["set-prices", "--price-per-million", "0.03", "--worker-fee-per-million", "0.02"]).unwrap();
    let now = shown();
    assert_eq!(at(&now, "worker_hashes"), json!([image]));
    assert_eq!(at(&now, "proxy_hashes"), json!([]));
    assert_eq!(now.pointer("/proxies/0/clients"), Some(&"10.0.0.2:11001".into()));
    assert_eq!((at(&now, "price_per_token"), at(&now, "params_version")), (30.into(), 1.into()));
    assert_eq!(at(&now, "version"), Value::from(7));

    // Nobody else's order is signed. What the contract cannot read comes back.
    let stolen = order(&["reset", "--wallet", &other]).unwrap_err();
    assert!(stolen.contains("the network belongs to") && stolen.contains("--print"), "{stolen}");
    let comment = ["wallet", "send", &other, "--to", &root, "--amount", "0.1", "--comment", "reset"];
    let refused = chain.run(&comment).unwrap_err();
    assert!(refused.contains("exit code") && refused.contains("comes back"), "{refused}");
    assert_eq!(shown(), now);
    assert!(by_owner(&["set-codes"]).unwrap_err().contains("have these codes already"));
    let dry = by_owner(&["reset", "--dry-run"]).unwrap();
    assert!(dry.contains("nothing was signed") && shown() == now, "{dry}");

    // For a key that is elsewhere.
    let message = order(&["reset", "--print"]).unwrap();
    assert!(message.contains(&format!("ton://transfer/{root}?amount=100000000&bin=")), "{message}");
    assert!(order(&["reset"]).unwrap_err().contains("--print"));

    by_owner(&["change-owner", &other_address]).unwrap();
    assert!(by_owner(&["reset"]).is_err());
    order(&["reset", "--wallet", &other]).unwrap();
    assert_eq!(at(&shown(), "proxies"), json!([]));
    let nobody = chain.run(&["root", "--root", &address, "show"]).unwrap_err();
    assert!(nobody.contains("is no root contract"), "{nobody}");
}

#[test]
fn every_nanoton_of_a_private_network_is_accounted_for_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let audit = || said(&cocoon(&["audit", "--state", state]));
    assert!(audit().unwrap_err().contains("has `cocoon up` run with a chain?"));
    let mut before = String::new();
    for flags in [&["--no-detect"][..], &["--no-detect", "--processes"]] {
        let mut up = Up::start(folder.path(), flags);
        let question =
            json!({"model": "cocoon-demo", "messages": [{"role": "user", "content": "What is Cocoon?"}]});
        assert_eq!(ask(&up, &question).0, 200);
        let books = audit().unwrap();
        for account in ["the client's node wallet", "the worker's node wallet", "a client contract (open)"] {
            assert!(books.contains(account), "no {account} in\n{books}");
        }
        for party in ["client's wallet", "worker owner's wallet", "proxy's fee", "gas"] {
            assert!(books.lines().any(|line| line.starts_with(party)), "no {party} in\n{books}");
        }
        let sum = books.lines().last().unwrap();
        assert!(sum.ends_with("to the nanoton"), "{books}");
        // The same chain goes on, and nobody needs another gift.
        let given = sum.split(" given").next().unwrap().to_owned();
        assert!(before.is_empty() || before == given, "{before}, then {given}");
        before = given;
        assert!(up.interrupt().success());
    }
    assert!(audit().unwrap_err().contains("is it running"));
}

#[test]
fn the_chain_is_shown_in_words() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), Devnet::start());
    for version in ["v5r1", "v4r2"] {
        let (file, from) = new_wallet(folder.path(), version, version);
        let nobody = chain.run(&["chain", "show", &from]).unwrap();
        assert_eq!((after(&nobody, "balance"), after(&nobody, "contract")), ("0", "none"), "{nobody}");
        let nothing = chain.run(&["chain", "transactions", &from]).unwrap_err();
        assert!(nothing.contains("no transactions yet"), "{nothing}");

        chain.give(&from, 3_000_000_000);
        let to = format!("0:{}", "07".repeat(32));
        let send = ["wallet", "send", &file, "--to", &to, "--amount", "1.25 TON", "--comment", "thanks"];
        chain.run(&send).unwrap();
        let account = chain.run(&["chain", "show", &from]).unwrap();
        assert!(account.contains(&format!("wallet {version}, code ")), "{account}");
        let transactions = chain.run(&["chain", "transactions", &from]).unwrap();
        let (newest, given) = transactions.split_once("  <- from outside").unwrap();
        assert!(
            newest.contains("Z  done  fees 0.0") && given.contains(" 1.25 TON: a comment"),
            "{transactions}"
        );
        assert!(given.contains(" 3 TON: nothing"), "{transactions}");
        let one = chain.run(&["chain", "transactions", &from, "--limit", "1"]).unwrap();
        assert!(transactions.starts_with(&one) && one.len() < transactions.len(), "{one}");
    }
}

#[test]
fn a_worker_that_does_not_run_is_named() {
    let nobody = said(&cocoon(&["worker", "earnings", "--instance", "4999"])).unwrap_err();
    assert!(nobody.contains("no worker answers"), "{nobody}");
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let strange = said(&cocoon(&["worker", "cash-out", "--state", state])).unwrap_err();
    assert!(strange.contains("admin.token"), "{strange}");
}
