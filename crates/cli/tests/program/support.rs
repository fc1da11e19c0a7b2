//! Running the program and talking to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::{Value, json};

pub(crate) fn cocoon(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cocoon")).args(arguments).output().unwrap()
}

/// A running `cocoon up`; killed when a test fails before it is stopped.
pub(crate) struct Up {
    child: Child,
    table: String,
}

impl Up {
    /// On free ports, with its state in `state`. Waits until it says that it is ready.
    pub(crate) fn start(state: &Path, flags: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_cocoon"))
            .args(["up", "--free-ports", "--state"])
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

    pub(crate) fn address(&self, role: &str) -> &str {
        let line = self.table.lines().find(|line| line.trim_start().starts_with(role)).unwrap();
        let (_before, after) = line.split_once("http://").unwrap();
        after.split(['/', ' ']).next().unwrap()
    }

    pub(crate) fn interrupt(&mut self) -> ExitStatus {
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
pub(crate) fn exchange(address: &str, head: &str, body: &str) -> (u16, String) {
    exchange_with(address, head, "", body)
}

/// The same with more header lines, each with its end.
pub(crate) fn exchange_with(address: &str, head: &str, more: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {more}Content-Length: {}\r\n\r\n{body}",
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
pub(crate) fn json_in(body: &str) -> Value {
    let (start, end) = (body.find('{').unwrap(), body.rfind('}').unwrap());
    serde_json::from_str(&body[start..=end]).unwrap()
}

pub(crate) fn ask(up: &Up, request: &Value) -> (u16, Value) {
    let (status, body) = exchange(up.address("client"), "POST /v1/chat/completions", &request.to_string());
    (status, json_in(&body))
}

/// Asks `model` what Cocoon is. The client is charged, and the worker earns, what the engine counted. Returns the answer.
pub(crate) fn answer_is_metered(up: &Up, model: &str) -> String {
    let question = json!({
        "model": model, "max_tokens": 40, "temperature": 0,
        "messages": [{"role": "user", "content": "What is Cocoon?"}],
    });
    let (status, answer) = ask(up, &question);
    assert_eq!(status, 200, "{answer}");
    // Coefficient and multipliers are 1 in a private network.
    let counted = answer.pointer("/usage/total_tokens").and_then(Value::as_u64).unwrap();
    assert!(counted > 0);
    let (_status, stats) = exchange(up.address("proxy"), "GET /jsonstats", "");
    // Of the image that the worker's quote attests.
    let image = sim::Guest::of_image("worker").image_hash().to_string();
    assert!(stats.contains(&format!("\"worker_hash\":\"{image}\"")), "{stats}");
    let stats = json_in(&stats);
    assert_eq!(stats.pointer("/clients/0/used_tokens").and_then(Value::as_u64), Some(counted));
    assert_eq!(stats.pointer("/workers/0/earned_tokens").and_then(Value::as_u64), Some(counted));
    answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap().to_owned()
}

/// Tokens that the scripted engine counts for an answer.
pub(crate) const SCRIPTED_TOKENS: u64 = 8;

/// An engine with the model `scripted` that always says the same, for as long as the tests run.
pub(crate) fn serve_scripted_engine(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A caller that leaves in the middle is no reason to stop.
            std::thread::spawn(|| stream.and_then(|stream| serve(&stream)));
        }
    });
}

/// One exchange of that engine.
fn serve(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body)?;
    let answer = match head.starts_with("get /v1/models ") {
        true => json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]}),
        false => json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "scripted",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": "from the engine"}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": SCRIPTED_TOKENS},
        }),
    };
    let answer = answer.to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(&*stream, "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
}
