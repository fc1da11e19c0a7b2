//! A worker between a scripted engine and a scripted proxy.

use cocoon_worker::{Config, ModelConfig, Worker};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::engine::ScriptedEngine;
use super::proxy::{ROOT, ScriptedProxy};

pub struct Setup {
    pub engine: ScriptedEngine,
    pub proxy: ScriptedProxy,
    pub folder: TempDir,
}

impl Setup {
    pub async fn new() -> Self {
        Self {
            engine: ScriptedEngine::start().await,
            proxy: ScriptedProxy::start().await,
            folder: TempDir::new().unwrap(),
        }
    }

    /// A model of the engine at price 1500, two requests at once.
    pub fn model(&self) -> ModelConfig {
        ModelConfig {
            name: "test/model@commit:hash".into(),
            backend: self.engine.url(),
            coefficient: 1500,
            max_active_requests: 2,
        }
    }

    pub fn config(&self) -> Config {
        let root_config = self.folder.path().join("root.json");
        std::fs::write(&root_config, self.proxy.root.to_pseudo_json().unwrap()).unwrap();
        Config {
            http: "127.0.0.1:0".parse().unwrap(),
            root_config,
            root_address: ROOT.to_string(),
            state: self.folder.path().join("state"),
            models: vec![self.model()],
            ..Config::default()
        }
    }

    pub async fn start(&self) -> Worker {
        cocoon_worker::start(self.config()).await.unwrap()
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("state/admin.token")).unwrap().trim().to_owned()
    }

    /// Sends a request to the worker's local port; returns status and body.
    pub async fn http(
        &self,
        worker: &Worker,
        method: &str,
        path: &str,
        token: Option<&str>,
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(worker.http_address()).await.unwrap();
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\nContent-Length: 0\r\n{authorization}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// An action with the right token; it must succeed.
    pub async fn act(&self, worker: &Worker, path: &str) {
        let (status, body) = self.http(worker, "POST", path, Some(&self.token())).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}
