//! An engine that answers every prompt at once, with the same usage.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tokens of every answer, and so its price.
pub(crate) const ANSWER_TOKENS: u64 = 8;

pub(crate) struct Engine {
    pub(crate) address: SocketAddr,
    answers: Arc<AtomicU64>,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || serve(&stream, &counter));
            }
        });
        Self { address, answers }
    }

    /// How many prompts were answered.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }
}

/// Answers until the peer closes.
fn serve(stream: &TcpStream, answers: &AtomicU64) -> io::Result<()> {
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
        io::copy(&mut reader.by_ref().take(len), &mut io::sink())?;
        let body = if request.starts_with("GET") {
            r#"{"object":"list","data":[{"id":"kill/model","object":"model"}]}"#.to_owned()
        } else {
            answers.fetch_add(1, Ordering::SeqCst);
            r#"{"choices":[{"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"#
                .to_owned()
                + r#""usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        (&mut &*stream).write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())?;
    }
}
