//! `cocoon attest connect` and `cert`.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use attest::Hex;
use evidence::Simulated;
use serde_json::Value;
use sim::{Firmware, Guest, Publication, Vendor};
use tokio::runtime::Runtime;
use transport::clock::unix_now;
use transport::identity::{IdentitySource, TlsIdentity};
use transport::{ListenDeadlines, SecureListenConfig, SecureListener};

use crate::support::cocoon;

/// Whether `cocoon attest` succeeded, what it printed, and what it complained of.
fn attest(arguments: &[&str]) -> (bool, String, String) {
    let output = cocoon(&[&["attest"], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// A peer that shows this to everybody, for as long as the runtime lives.
fn peer(runtime: &Runtime, identity: IdentitySource) -> String {
    let config = SecureListenConfig {
        identity,
        pow_difficulty: 4,
        streams_max: 8,
        streams_per_address_max: 8,
        deadlines: ListenDeadlines::default(),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listener = runtime.block_on(SecureListener::bind(address, config)).unwrap();
    let address = listener.local_addr().to_string();
    runtime.spawn(async move {
        let mut peers = Vec::new();
        while let Some(peer) = listener.accept().await {
            peers.push(peer);
        }
    });
    address
}

#[test]
fn a_peer_is_shown_and_its_evidence_verified() {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let vendor = Vendor::from_seed(&[7; 32]).unwrap();
    let file = folder.path().join(format!("{}.json", Vendor::COLLATERAL_KIND));
    std::fs::write(file, vendor.collateral(&Publication::at(unix_now())).unwrap()).unwrap();
    let root = folder.path().join("root.der");
    std::fs::write(&root, vendor.root_der()).unwrap();
    let platform = vendor.platform(Hex::new([1; 16]), Firmware::Current).unwrap();
    let enclave = Simulated::new(platform, Guest::of_image("proxy"));
    let attested = peer(&runtime, IdentitySource::attested(Arc::new(enclave)));
    let bare = peer(&runtime, IdentitySource::generated());

    let (is_done, shown, complaint) = attest(&["connect", &attested, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let image = Guest::of_image("proxy").image_hash().to_string();
    assert!(is_done && shown["image"] == image.as_str(), "{shown} {complaint}");
    assert_eq!(
        (&shown["evidence"], &shown["as_server"]),
        (&"of the certificate's key".into(), &"a link would take it".into())
    );
    assert!(shown["verdict"].as_str().unwrap().starts_with("not verified"));

    let collateral = ["--collateral", folder.path().to_str().unwrap()];
    let believes = [&collateral[..], &["--simulated-root", root.to_str().unwrap()]].concat();
    let connect = |peer: &str, arguments: &[&str]| attest(&[&["connect", peer], arguments].concat());
    let (is_done, shown, complaint) = connect(&attested, &believes);
    assert!(is_done && shown.contains("genuine") && shown.contains("simulated"), "{shown} {complaint}");
    let (is_done, shown, complaint) = connect(&attested, &collateral);
    assert!(
        !is_done && shown.contains("refused: ") && complaint.contains("not genuine"),
        "{shown} {complaint}"
    );
    let policy = folder.path().join("router.json");
    let other =
        r#"{"policies": [{"name": "ours", "type": "tdx", "tdx_config": {"allowed_image_hashes": "HASH"}}]}"#;
    std::fs::write(&policy, other.replace("HASH", &"11".repeat(32))).unwrap();
    let named = format!("{}#ours", policy.display());
    let (is_done, _, complaint) = connect(&attested, &[&believes[..], &["--policy", &named]].concat());
    assert!(!is_done && complaint.contains(&image), "{complaint}");
    let (is_done, _, complaint) = connect(&attested, &[&believes[..], &["--policy", "any"]].concat());
    assert!(!is_done && complaint.contains("no evidence is appraised"), "{complaint}");

    // What nobody would look at is refused before anybody is asked.
    let gpus = folder.path().join("gpus.toml");
    let table = "forms = [\"token\"]\nmodels = \"any\"\ndrivers = \"any\"\nvbioses = \"any\"";
    std::fs::write(&gpus, format!("images = \"any\"\n[nvidia]\n{table}")).unwrap();
    let gpus = ["--policy", gpus.to_str().unwrap()];
    let (is_done, _, complaint) = connect("127.0.0.1:1", &[&believes[..], &gpus].concat());
    assert!(!is_done && complaint.contains("[nvidia]"), "{complaint}");
    // AMD's key service is one of the sources, and says nothing of a platform of TDX.
    let (is_done, _, complaint) = connect("127.0.0.1:1", &["--kds", "kds"]);
    assert!(!is_done && complaint.contains("no address"), "{complaint}");
    let kds = ["--kds", "http://127.0.0.1:1", "--simulated-root", root.to_str().unwrap()];
    let (is_done, shown, complaint) = connect(&attested, &kds);
    assert!(!is_done && shown.contains("refused: "), "{shown} {complaint}");
    let (is_done, shown, complaint) = connect(&attested, &[&believes[..], &kds[..2]].concat());
    assert!(is_done && shown.contains("genuine"), "{shown} {complaint}");

    let (is_done, shown, _) = connect(&bare, &[]);
    assert!(is_done && shown.contains("none: it vouches for its key alone"), "{shown}");
    let (is_done, _, complaint) = connect(&bare, &believes);
    assert!(!is_done && complaint.contains("shows no evidence"), "{complaint}");
    let (is_done, _, complaint) = connect(&bare, &["--max-pow-difficulty", "3"]);
    assert!(!is_done && complaint.contains("4 bits of work"), "{complaint}");
}

/// A running `cocoon router`; it ends when this is dropped.
struct Router(Child);

impl Drop for Router {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _already_reaped = self.0.wait();
    }
}

#[test]
fn a_router_shows_the_evidence_of_its_guest() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::from_seed(&[8; 32]).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let root = put("root.der", vendor.root_der());
    let platform = vendor.platform(Hex::new([1; 16]), Firmware::Current).unwrap();
    let platform = put("platform.json", platform.to_json().as_bytes());
    let section = format!("[simulated]\nroot = {root:?}\nplatform = {platform:?}\nimage = \"router\"");
    let section = put("evidence.toml", section.as_bytes());
    let arguments = ["router", "-R", "0:127.0.0.1:1@any", "-d", "4", "--evidence", &section];
    let refused = cocoon(&arguments);
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && complaint.contains("--insecure-simulated"), "{complaint}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .args(arguments)
        .arg("--insecure-simulated")
        .stderr(Stdio::piped())
        .spawn()
        .map(Router)
        .unwrap();
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.find(|line| line.contains("address=0.0.0.0:")).unwrap();
    let port = listening.split("address=0.0.0.0:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let (is_done, shown, complaint) = attest(&["connect", &format!("127.0.0.1:{port}"), "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let image = Guest::of_image("router").image_hash().to_string();
    assert!(is_done && shown["image"] == image.as_str(), "{shown} {complaint}");
}

fn read(base: &Path, end: &str) -> String {
    std::fs::read_to_string(format!("{}{end}", base.display())).unwrap()
}

#[test]
fn a_certificate_is_made_in_files_that_only_its_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("tdx");
    let name = base.to_str().unwrap();
    let (is_done, printed, complaint) = attest(&["cert", "-t", "none", "-n", name]);
    assert!(is_done && printed.contains("tdx_cert.pem"), "{printed} {complaint}");
    let (certificate, key) = (read(&base, "_cert.pem"), read(&base, "_key.pem"));
    let made = TlsIdentity::from_pem(&certificate, &key).unwrap();
    assert!(printed.contains(&made.public_key().to_string()));
    let mode = std::fs::metadata(folder.path().join("tdx_key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (is_done, printed, _) = attest(&["cert", "-t", "none", "-n", name]);
    assert!(is_done && printed.contains("-f makes them anew"), "{printed}");
    assert_eq!(read(&base, "_key.pem"), key);
    let (is_done, ..) = attest(&["cert", "-t", "none", "-n", name, "-f"]);
    assert!(is_done && read(&base, "_key.pem") != key);

    let fake = ["cert", "-t", "fake_tdx", "-n", name, "-f"];
    let (is_done, _, complaint) = attest(&fake);
    assert!(!is_done && complaint.contains("--insecure-fake-tdx"), "{complaint}");
    let (is_done, ..) = attest(&[&fake[..], &["--insecure-fake-tdx"]].concat());
    // 5c55c8f4…574b61, as the deployed tool writes it.
    assert!(is_done);
    assert_eq!(read(&base, "_image_hash.b64"), "XFXI9NtAELqSA9g1NtBgmFavjIR6wDnjfn3ej71XS2E=");
    let (is_done, shown, _) = attest(&["inspect", &format!("{name}_cert.pem")]);
    assert!(!is_done && shown.contains("nobody signed"), "{shown}");

    let late = (unix_now().as_secs() + 3600).to_string();
    let (is_done, _, complaint) = attest(&["cert", "-t", "none", "-n", name, "-f", "-c", &late]);
    assert!(!is_done && complaint.contains("ahead of the clock"), "{complaint}");
    let ahead = (unix_now().as_secs() + 30).to_string();
    assert!(attest(&["cert", "-t", "none", "-n", name, "-f", "-c", &ahead]).0);
    assert!(!folder.path().join("tdx_image_hash.b64").exists(), "no image is left of the certificate before");
}
