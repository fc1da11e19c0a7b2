//! The program as a person uses it: started, asked over HTTP, stopped with Ctrl-C.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::{Value, json};

fn cocoon(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cocoon")).args(arguments).output().unwrap()
}

/// A running `cocoon up`; killed when a test fails before it is stopped.
struct Up {
    child: Child,
    table: String,
}

impl Up {
    fn start(state: &Path, flags: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["up", "--free-ports", "--no-detect", "--state"])
            .arg(state)
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = Self { child, table: String::new() };
        let lines = BufReader::new(up.child.stdout.take().unwrap()).lines();
        for line in lines.map(Result::unwrap) {
            up.table.push_str(&line);
            up.table.push('\n');
            if line.starts_with("Ctrl-C") {
                return up;
            }
        }
        panic!("cocoon up ended before it was ready:\n{}", up.table);
    }

    fn address(&self, role: &str) -> &str {
        let line = self.table.lines().find(|line| line.trim_start().starts_with(role)).unwrap();
        let (_before, after) = line.split_once("http://").unwrap();
        after.split(['/', ' ']).next().unwrap()
    }

    fn interrupt(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

/// One HTTP exchange; the answer's status and body.
fn exchange(address: &str, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// The JSON value in a body that may be chunked.
fn json_in(body: &str) -> Value {
    let (start, end) = (body.find('{').unwrap(), body.rfind('}').unwrap());
    serde_json::from_str(&body[start..=end]).unwrap()
}

fn ask(up: &Up, request: &Value) -> (u16, Value) {
    let (status, body) = exchange(up.address("client"), "POST /v1/chat/completions", &request.to_string());
    (status, json_in(&body))
}

fn answers_meters_and_stops(flags: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), flags);
    let question =
        json!({"model": "cocoon-demo", "messages": [{"role": "user", "content": "What is Cocoon?"}]});
    let (status, answer) = ask(&up, &question);
    assert_eq!(status, 200, "{answer}");
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap();
    assert!(text.contains("Cocoon"), "the demo model explains what it runs in: {text:?}");

    // Coefficient and multipliers are 1 in a private network: what the engine counted is what is charged.
    let counted = answer.pointer("/usage/total_tokens").and_then(Value::as_u64).unwrap();
    assert!(counted > 0);
    let (_status, stats) = exchange(up.address("proxy"), "GET /jsonstats", "");
    let stats = json_in(&stats);
    assert_eq!(stats.pointer("/clients/0/used_tokens").and_then(Value::as_u64), Some(counted));
    assert_eq!(stats.pointer("/workers/0/earned_tokens").and_then(Value::as_u64), Some(counted));

    let (status, refusal) = ask(&up, &json!({"model": "no-such-model", "messages": []}));
    assert_eq!((status, refusal.pointer("/error/code")), (404, Some(&json!("model_not_found"))));

    assert!(up.interrupt().success());
}

#[test]
fn up_answers_meters_and_stops_in_one_process() {
    answers_meters_and_stops(&[]);
}

#[test]
fn up_answers_meters_and_stops_in_a_process_for_each_role() {
    answers_meters_and_stops(&["--processes"]);
}

#[test]
fn every_role_says_that_it_is_well_and_guards_its_actions() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    for role in ["client", "proxy", "worker"] {
        let address = up.address(role).to_owned();
        assert_eq!(exchange(&address, "GET /healthz", "").0, 200, "{role}");
        assert_eq!(exchange(&address, "GET /readyz", "").0, 200, "{role}");
        let (status, metrics) = exchange(&address, "GET /metrics", "");
        assert!(status == 200 && metrics.contains("# TYPE cocoon_"), "{role}: {metrics}");
    }
    let worker = up.address("worker").to_owned();
    assert_eq!(exchange(&worker, "POST /request/disable", "").0, 401, "no token");
    assert_eq!(exchange(&worker, "GET /request/disable", "").0, 405, "a look must not change anything");
    assert!(up.interrupt().success());
}

#[test]
fn a_state_folder_serves_one_network() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Up::start(folder.path(), &[]);
    let second = cocoon(&["up", "--free-ports", "--no-detect", "--state", folder.path().to_str().unwrap()]);
    assert!(!second.status.success());
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("in use by another cocoon process"), "{message}");
    assert!(first.interrupt().success());
}

#[test]
fn an_engine_that_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    // Port 1 on loopback: nothing listens there.
    let refused = cocoon(&["up", "--free-ports", "--state", state, "--backend", "http://127.0.0.1:1"]);
    assert!(!refused.status.success());
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("http://127.0.0.1:1/v1/models"), "{message}");
}

/// An address in the raw form; any will do where nothing is deployed.
const ROOT: &str = "root_address=0:0000000000000000000000000000000000000000000000000000000000000001";

#[test]
fn configurations_are_printed_checked_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    for role in ["client", "proxy", "worker"] {
        let complete = ["--set", ROOT, "--set", "models=[{ name = \"m\" }]"];
        let complete = if role == "worker" { &complete[..] } else { &complete[..2] };
        let printed = cocoon(&[&["config", "print", role][..], complete].concat());
        assert!(printed.status.success(), "{printed:?}");
        let file = folder.path().join(format!("{role}.toml"));
        std::fs::write(&file, &printed.stdout).unwrap();
        let check = ["config", "check", role, "--config", file.to_str().unwrap()];
        let checked = cocoon(&check);
        assert!(checked.status.success(), "what is printed is accepted: {checked:?}");

        let refusals = [("htpp=127.0.0.1:1", "did you mean \"http\"?"), ("root_address=x", "root_address")];
        for (wrong, hint) in refusals {
            let refused = cocoon(&[&check[..], &["--set", wrong]].concat());
            assert!(!refused.status.success(), "{role} {wrong}");
            let message = String::from_utf8(refused.stderr).unwrap();
            assert!(message.contains(hint), "{role}: {message}");
        }
    }
}

#[test]
fn status_of_a_stopped_network_says_down() {
    let status = cocoon(&["status", "--json", "--instance", "4999"]);
    assert!(status.status.success());
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let roles = status.get("roles").and_then(Value::as_array).unwrap();
    assert_eq!(roles.len(), 3);
    assert!(roles.iter().all(|role| role.get("state") == Some(&json!("down"))), "{status}");
}
