//! The yardsticks: nginx once, and three times with mutual TLS between.
//!
//! `ngx1` is one plain hop. `ngx2m` has the shape of client, proxy and worker: three processes and two hops of mutual
//! TLS 1.3 with Ed25519 certificates, and no work but forwarding. Bodies are passed on as they arrive and socket
//! buffers are large: with nginx's own settings a prompt of 100 KB waits 40 ms for a delayed acknowledgement, and the
//! yardstick would be too easy.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rand::RngExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::Target;
use crate::process::{Process, free_ports};

/// An nginx that was found, and a folder with what it needs.
pub(crate) struct Nginx {
    program: PathBuf,
    folder: tempfile::TempDir,
}

/// One process of nginx.
struct Hop {
    name: &'static str,
    listen: u16,
    is_tls_in: bool,
    upstream: u16,
    is_tls_out: bool,
}

impl Nginx {
    /// Looks where distributions put it, and in the search path. `None` when it is not installed.
    ///
    /// # Errors
    /// If certificates cannot be written.
    pub(crate) fn find() -> Result<Option<Self>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let Some(program) = folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
        else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        write_certificates(folder.path()).context("certificates for nginx")?;
        Ok(Some(Self { program, folder }))
    }

    /// Its version as it says it.
    pub(crate) fn version(&self) -> String {
        let output = std::process::Command::new(&self.program).arg("-v").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
        text.unwrap_or_default().replace("nginx version: ", "")
    }

    /// One plain hop.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn one(&self, mock_port: u16) -> Result<Target> {
        let [listen] = free_ports()?;
        let hop = Hop { name: "n1", listen, is_tls_in: false, upstream: mock_port, is_tls_out: false };
        self.start("ngx1", [hop]).await
    }

    /// Three processes, two hops of mutual TLS.
    ///
    /// # Errors
    /// If one does not start.
    pub(crate) async fn three(&self, mock_port: u16) -> Result<Target> {
        let [a, b, c] = free_ports()?;
        self.start(
            "ngx2m",
            [
                Hop { name: "c", listen: c, is_tls_in: true, upstream: mock_port, is_tls_out: false },
                Hop { name: "b", listen: b, is_tls_in: true, upstream: c, is_tls_out: true },
                Hop { name: "a", listen: a, is_tls_in: false, upstream: b, is_tls_out: true },
            ],
        )
        .await
    }

    /// Starts processes; the last one takes requests.
    async fn start<const N: usize>(&self, name: &'static str, hops: [Hop; N]) -> Result<Target> {
        let folder = self.folder.path();
        let mut processes = Vec::new();
        let mut port = 0;
        for hop in hops {
            port = hop.listen;
            let file = folder.join(format!("{}.conf", hop.name));
            std::fs::create_dir_all(folder.join(hop.name))?;
            std::fs::write(&file, hop.configuration(folder))?;
            let log = folder.join(format!("{}.log", hop.name));
            let arguments =
                [Path::new("-p"), folder, Path::new("-e"), &log, Path::new("-c"), &file].map(Path::as_os_str);
            processes.push(Process::start(&self.program, arguments, &log)?);
        }
        let mut target = Target::new(name, port, processes);
        if let Err(error) = target.wait_until_ready("/v1/models").await {
            let log = std::fs::read_to_string(folder.join("a.log")).unwrap_or_default();
            bail!("{error:#}: {}", log.lines().next().unwrap_or("its log is empty"));
        }
        Ok(target)
    }
}

impl Hop {
    fn configuration(&self, folder: &Path) -> String {
        let (folder, name) = (folder.display(), self.name);
        let (listen, upstream) = (self.listen, self.upstream);
        let mut server = String::new();
        if self.is_tls_in {
            let _infallible = write!(
                server,
                "ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; \
                 ssl_session_tickets off; ssl_session_cache off; ssl_certificate {folder}/peer.pem; \
                 ssl_certificate_key {folder}/peer.key; ssl_verify_client on; \
                 ssl_client_certificate {folder}/ca.pem; ssl_buffer_size 16k;"
            );
        }
        let mut location = String::new();
        if self.is_tls_out {
            let _infallible = write!(
                location,
                "proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate {folder}/peer.pem; \
                 proxy_ssl_certificate_key {folder}/peer.key; proxy_ssl_verify on; \
                 proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_name localhost; \
                 proxy_ssl_server_name on; proxy_ssl_session_reuse off;"
            );
        }
        let tls = if self.is_tls_in { " ssl" } else { "" };
        let scheme = if self.is_tls_out { "https" } else { "http" };
        format!(
            r#"daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid;
error_log {folder}/{name}.log warn;
events {{ worker_connections 8000; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_buffer_size 2m; client_max_body_size 64m;
  client_body_temp_path {folder}/{name}/b; proxy_temp_path {folder}/{name}/p;
  fastcgi_temp_path {folder}/{name}/f; uwsgi_temp_path {folder}/{name}/u; scgi_temp_path {folder}/{name}/s;
  upstream up {{
    server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{listen}{tls} backlog=4096 rcvbuf=1m sndbuf=1m; {server}
    location / {{
      proxy_pass {scheme}://up; {location}
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"#
        )
    }
}

/// An authority, and one certificate for both ends of every hop.
fn write_certificates(folder: &Path) -> Result<()> {
    let authority_key = ed25519_key()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    // Another name than its subject has, or the subject passes for self-signed.
    authority.distinguished_name.push(DnType::CommonName, "cocoon bench");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key)?;
    let peer_key = ed25519_key()?;
    let peer = CertificateParams::new(vec!["localhost".to_owned()])?;
    let peer = peer.signed_by(&peer_key, &Issuer::new(authority, authority_key))?;
    std::fs::write(folder.join("ca.pem"), authority_certificate.pem())?;
    std::fs::write(folder.join("peer.pem"), peer.pem())?;
    std::fs::write(folder.join("peer.key"), peer_key.serialize_pem())?;
    Ok(())
}

/// A key in the first version of PKCS #8 (RFC 8410, section 7): what OpenSSL of nginx reads. The second version, which
/// the provider of our own TLS writes, holds the public key too, and older OpenSSL refuses it.
fn ed25519_key() -> Result<KeyPair> {
    const PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let seed: [u8; 32] = rand::rng().random();
    Ok(KeyPair::try_from([&PREFIX[..], &seed].concat())?)
}
