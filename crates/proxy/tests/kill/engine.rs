//! An engine that answers every prompt at once, with the same usage: in a few words, at length, or never, as it is asked.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A prompt that holds this is answered at length.
pub(crate) const LONG: &str = "at length";
/// A prompt that holds this is never answered.
pub(crate) const NEVER: &str = "never";
/// Length of a long prompt and of a long answer: more than a window, so that they travel in parts and need credit.
pub(crate) const LONG_LEN: usize = 150_000;

/// Tokens of every answer, and so its price.
pub(crate) const ANSWER_TOKENS: u64 = 8;

pub(crate) struct Engine {
    pub(crate) address: SocketAddr,
    cost_max: Arc<AtomicU64>,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cost_max = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&cost_max);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || serve(&stream, &counter));
            }
        });
        Self { address, cost_max }
    }

    /// What all answers may cost together. A long one that is cut costs by estimate, less than a token for each byte.
    pub(crate) fn cost_max(&self) -> u64 {
        self.cost_max.load(Ordering::SeqCst)
    }
}

/// Answers until the peer closes.
fn serve(stream: &TcpStream, cost_max: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut len = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                len = value.trim().parse().unwrap_or(0);
            }
        }
        let mut prompt = String::new();
        reader.by_ref().take(len).read_to_string(&mut prompt)?;
        if prompt.contains(NEVER) {
            // Until the caller has gone.
            io::copy(&mut reader, &mut io::sink())?;
            return Ok(());
        }
        let body = if request.starts_with("GET") {
            r#"{"object":"list","data":[{"id":"kill/model","object":"model"}]}"#.to_owned()
        } else {
            let len = if prompt.contains(LONG) { LONG_LEN } else { 0 };
            cost_max.fetch_add(ANSWER_TOKENS + len as u64, Ordering::SeqCst);
            let content = "x".repeat(len);
            let usage = r#"{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}"#;
            let message = format!(r#"{{"role":"assistant","content":"{content}"}}"#);
            format!(r#"{{"choices":[{{"message":{message},"finish_reason":"stop"}}],"usage":{usage}}}"#)
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        (&mut &*stream).write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())?;
    }
}
