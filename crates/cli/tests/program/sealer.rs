//! `cocoon sealer`: guests on its platform get keys, and it ends when it is asked to.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use attest::{PlatformId, Root, Verifier};
use evidence::{CollateralStore, Sealer, Simulated};
use sim::{Firmware, Guest, Publication, Vendor};
use transport::clock::unix_now;

use crate::support::cocoon;

#[test]
fn a_simulated_sealer_gives_guests_of_its_platform_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let vendor = Vendor::from_seed(&[3; 32]).unwrap();
    let platform = || vendor.platform(PlatformId::new([1; 16]), Firmware::Current).unwrap();
    std::fs::write(at("platform.json"), platform().to_json().as_bytes()).unwrap();
    let collateral = vendor.enclave_collateral(&Publication::at(unix_now())).unwrap();
    std::fs::write(at(&format!("{}.json", Vendor::ENCLAVE_COLLATERAL_KIND)), collateral).unwrap();
    let (file, socket) = (at("platform.json"), at("sealer"));
    let flags = ["--platform", file.to_str().unwrap(), "--socket", socket.to_str().unwrap()];
    let mut child = Command::new(env!("CARGO_BIN_EXE_cocoon"))
        .arg("sealer")
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said =
        |what: &str| said.find_map(|line| Some(line.strip_prefix(what)?.trim().to_owned())).unwrap();
    let (address, mrenclave) = (said("sealer "), said("MRENCLAVE"));

    let key = |image: &str| {
        let sealer = Sealer::new(
            address.parse().unwrap(),
            Arc::new(Simulated::new(platform(), Guest::of_image(image))),
            Verifier::new(Root::Other(vendor.root_der().to_vec())),
            CollateralStore::new(folder.path().to_owned(), None),
            [mrenclave.parse().unwrap()],
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let key = runtime.block_on(sealer.key(&"app".parse().unwrap(), unix_now())).unwrap();
        **key.expose()
    };
    assert_eq!(key("proxy"), key("proxy"));
    assert_ne!(key("proxy"), key("another proxy"));

    // A second one would take its guests away.
    let second = cocoon(&[&["sealer"][..], &flags].concat());
    assert!(
        !second.status.success() && String::from_utf8(second.stderr).unwrap().contains("cannot listen at")
    );
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(child.wait().unwrap().success() && !socket.exists());
}
