//! A role that runs on this machine, as its operator's commands reach it: over its HTTP face, with the token of its state folder.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hyper::StatusCode;
use serde_json::Value;

use crate::http;
use crate::instance::{Ports, loopback, state_folder};
use crate::role::Role;

/// How long a running role may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The file of a state folder that has the token.
const TOKEN_FILE: &str = "admin.token";

/// Which one.
#[derive(Args)]
pub(crate) struct RunningArguments {
    /// Which instance on this machine.
    #[arg(long, default_value_t = 0, value_name = "N")]
    instance: u16,

    /// Its state folder, if it is neither where this user's are nor in that of `cocoon up`.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Where its HTTP face is on this machine, if not on the instance's port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
}

/// A role that may run.
pub(crate) struct Running {
    role: Role,
    authority: String,
    /// Where its state may be.
    folders: Vec<PathBuf>,
}

impl RunningArguments {
    /// The role that is meant; nobody was asked yet.
    ///
    /// # Errors
    /// If there is no such instance or folder, or the address is of another machine.
    pub(crate) fn find(&self, role: Role) -> Result<Running> {
        let ports = Ports::of_instance(self.instance)?;
        let port = match role {
            Role::Client => ports.client_http,
            Role::Proxy => ports.proxy_http,
            Role::Worker => ports.worker_http,
        };
        let address = self.http.unwrap_or_else(|| loopback(port));
        // Nothing hides the token on its way.
        ensure!(
            address.ip().is_loopback(),
            "--http {address} is not on this machine: the token is not sent there"
        );
        let mut folders = vec![state_folder(self.state.as_deref(), role.name(), self.instance)?];
        if self.state.is_none() {
            folders.push(state_folder(None, "up", self.instance)?.join(role.name()));
        }
        Ok(Running { role, authority: address.to_string(), folders })
    }
}

impl Running {
    /// How to see what becomes of an order.
    pub(crate) fn how_to_see(&self) -> String {
        format!("`curl http://{}/jsonstats` shows how far it is", self.authority)
    }

    /// What the role says of itself.
    ///
    /// # Errors
    /// If nobody answers.
    pub(crate) async fn stats(&self) -> Result<Value> {
        let stats = http::get_json(&self.authority, "/jsonstats", ANSWER_DEADLINE).await;
        stats.with_context(|| self.nobody())
    }

    /// Has the role do something. Returns what it says.
    ///
    /// # Errors
    /// If nobody answers, knows the token, or does it; with the role's reason.
    pub(crate) async fn act(&self, action: &str, query: &[(&str, &str)]) -> Result<Value> {
        let path = format!("/request/{action}{}", query_text(query)?);
        for token in self.tokens()? {
            let answer = http::act(&self.authority, &path, token.trim(), ANSWER_DEADLINE).await;
            let (status, body) = answer.with_context(|| self.nobody())?;
            if status != StatusCode::UNAUTHORIZED {
                return self.read(status, &body);
            }
        }
        bail!(
            "the {} on {} has another token than its state folder here: name the folder with --state",
            self.role.name(),
            self.authority
        )
    }

    fn nobody(&self) -> String {
        format!("no {} answers on {}: is it running?", self.role.name(), self.authority)
    }

    fn read(&self, status: StatusCode, body: &[u8]) -> Result<Value> {
        let said: Option<Value> = serde_json::from_slice(body).ok();
        match said {
            Some(said) if status.is_success() => Ok(said),
            Some(said) if said["error"].is_string() => {
                bail!("the {} refuses: {}", self.role.name(), said["error"].as_str().unwrap_or_default())
            }
            _ if status == StatusCode::NOT_FOUND => bail!(
                "the {} on {} does not know that order: it follows no chain, or is of another version",
                self.role.name(),
                self.authority
            ),
            _ => bail!("the {} on {} answered {status}", self.role.name(), self.authority),
        }
    }

    /// The tokens of the folders that there are.
    fn tokens(&self) -> Result<Vec<String>> {
        let (mut tokens, mut failure) = (Vec::new(), None);
        for file in self.folders.iter().map(|folder| folder.join(TOKEN_FILE)) {
            match std::fs::read_to_string(&file) {
                Ok(token) => tokens.push(token),
                Err(error) => {
                    let error = anyhow::Error::new(error).context(format!(
                        "cannot read {}: name the state folder with --state",
                        file.display()
                    ));
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(failure) if tokens.is_empty() => Err(failure),
            _ => Ok(tokens),
        }
    }
}

/// The query part of a path. What a person typed stays one value.
fn query_text(pairs: &[(&str, &str)]) -> Result<String> {
    let mut text = String::new();
    for (name, value) in pairs {
        ensure!(
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()),
            "--{name} is no address or number"
        );
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            // Unreserved characters of RFC 3986, section 2.3, and the colon, which a query may hold.
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b':' => text.push(byte.into()),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_stays_one_value() {
        assert_eq!(query_text(&[]).unwrap(), "");
        assert_eq!(query_text(&[("client", "UQx_-")]).unwrap(), "?client=UQx_-");
        let two = query_text(&[("proxy", "0:ab+/&x=1#"), ("dry_run", "true")]).unwrap();
        assert_eq!(two, "?proxy=0:ab%2B%2F%26x%3D1%23&dry_run=true");
        for strange in ["", "a b", "a\r\nX: y", "ä"] {
            assert!(query_text(&[("proxy", strange)]).is_err(), "{strange:?}");
        }
    }

    fn arguments(http: Option<&str>, state: Option<&std::path::Path>) -> RunningArguments {
        let http = http.map(|http| http.parse().unwrap());
        RunningArguments { instance: 4999, state: state.map(PathBuf::from), http }
    }

    #[test]
    fn the_token_stays_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let find = |http| arguments(Some(http), Some(folder.path())).find(Role::Client);
        assert!(find("127.0.0.1:1").is_ok() && find("[::1]:1").is_ok());
        for elsewhere in ["192.0.2.1:10000", "0.0.0.0:10000"] {
            let refused = find(elsewhere).map(|_found| ()).unwrap_err().to_string();
            assert!(refused.contains("not on this machine"), "{refused}");
        }
    }

    #[test]
    fn a_folder_without_a_token_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let running = arguments(None, Some(folder.path())).find(Role::Proxy).unwrap();
        let refused = format!("{:#}", running.tokens().unwrap_err());
        assert!(refused.contains("admin.token") && refused.contains("--state"), "{refused}");
        std::fs::write(folder.path().join(TOKEN_FILE), "secret\n").unwrap();
        assert_eq!(running.tokens().unwrap(), ["secret\n"]);
    }

    #[test]
    fn a_role_that_refuses_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let running = arguments(None, Some(folder.path())).find(Role::Client).unwrap();
        let read = |status, body: &str| running.read(status, body.as_bytes());
        assert_eq!(read(StatusCode::OK, "{\"payouts\":1}").unwrap()["payouts"], 1);
        for (status, body, said) in [
            (StatusCode::CONFLICT, "{\"error\":\"no chain\"}", "the client refuses: no chain"),
            (StatusCode::NOT_FOUND, "{}", "follows no chain"),
            (StatusCode::OK, "hm", "answered 200"),
        ] {
            let refused = read(status, body).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
