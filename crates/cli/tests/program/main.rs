//! The program as a person uses it: started, asked over HTTP, stopped with Ctrl-C.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod attest;
mod engines;
#[cfg(feature = "devnet")]
mod life_of_money;
#[cfg(feature = "devnet")]
mod money;
mod sealer;
mod support;
#[cfg(feature = "devnet")]
mod upgrade;

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use support::{Up, answer_is_metered, ask, cocoon, exchange};

fn answers_meters_and_stops(flags: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[&["--no-detect"], flags].concat());
    let text = answer_is_metered(&up, "cocoon-demo");
    assert!(text.contains("Cocoon"), "the demo model explains what it runs in: {text:?}");

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
    let mut up = Up::start(folder.path(), &["--no-detect"]);
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
    let mut first = Up::start(folder.path(), &["--no-detect"]);
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
    let (instance, _held) = unused_instance();
    let status = cocoon(&["status", "--json", "--instance", &instance.to_string()]);
    assert!(status.status.success());
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let roles = status.get("roles").and_then(Value::as_array).unwrap();
    assert_eq!(roles.len(), 3);
    assert!(roles.iter().all(|role| role.get("state") == Some(&json!("down"))), "{status}");
}

/// An instance whose three HTTP ports are held, so that nothing listens there and nothing begins to. They lie below the
/// ports that systems choose by themselves.
fn unused_instance() -> (u16, Vec<TcpSocket>) {
    let hold = |port: u16| {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map(|()| socket)
    };
    let held = |instance: u16| {
        let ports = [10_000, 11_000, 12_000].map(|first| first + instance * 10);
        ports.into_iter().map(hold).collect::<Result<Vec<_>, _>>().ok().map(|held| (instance, held))
    };
    (1000..2000).find_map(held).unwrap()
}
