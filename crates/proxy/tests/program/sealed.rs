//! A proxy whose machine key a sealer keeps.

use std::path::Path;

use attest::PlatformId;
use cocoon_proxy::{Config, MachineKeyError, StartError, start};
use evidence::{SealerAddress, serve_simulated};
use node::{EvidenceConfig, SealedKeyConfig, SimulatedConfig};
use sim::{Enclave, Firmware, Publication, Vendor};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use transport::clock::unix_now;

use crate::peers::config;

/// A simulated platform with a sealer, and what a proxy on it has to know.
fn platform(folder: &Path) -> JoinHandle<()> {
    let vendor = Vendor::from_seed(&[3; 32]).unwrap();
    let platform = vendor.platform(PlatformId::new([1; 16]), Firmware::Current).unwrap();
    std::fs::write(folder.join("root.der"), vendor.root_der()).unwrap();
    std::fs::write(folder.join("platform.json"), platform.to_json().as_bytes()).unwrap();
    let collateral = vendor.enclave_collateral(&Publication::at(unix_now())).unwrap();
    std::fs::write(folder.join(format!("{}.json", Vendor::ENCLAVE_COLLATERAL_KIND)), collateral).unwrap();
    let listener = UnixListener::bind(folder.join("sealer")).unwrap();
    tokio::spawn(serve_simulated(listener, sim::Sealer::new(platform, Enclave::of_name("sealer"))))
}

fn of_image(folder: &TempDir, image: &str) -> Config {
    let at = |name: &str| folder.path().join(name);
    let platform = Some(at("platform.json"));
    let simulated = SimulatedConfig { root: at("root.der"), platform, image: image.to_owned() };
    let evidence = EvidenceConfig {
        simulated: Some(simulated),
        collateral: folder.path().to_owned(),
        ..EvidenceConfig::default()
    };
    let sealed_key = SealedKeyConfig {
        sealer: SealerAddress::Unix(at("sealer")),
        name: "app".to_owned(),
        mrenclaves: vec![Enclave::of_name("sealer").mrenclave()],
    };
    Config { evidence: Some(evidence), sealed_key: Some(sealed_key), ..config(folder) }
}

/// The folders of its contracts' books, which are named by their addresses.
fn contracts(folder: &TempDir) -> Vec<String> {
    let books = std::fs::read_dir(folder.path().join("state/books")).unwrap();
    books.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_goes_on_under_its_contract_with_the_key_of_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let sealer = platform(folder.path());
    start(of_image(&folder, "proxy")).await.unwrap().shutdown().await;
    let contract = contracts(&folder);
    assert_eq!(contract.len(), 1);
    start(of_image(&folder, "proxy")).await.unwrap().shutdown().await;
    assert_eq!(contracts(&folder), contract);
    assert!(!folder.path().join("state/machine.key").exists());

    let refused = start(of_image(&folder, "another proxy")).await;
    assert!(matches!(refused, Err(StartError::MachineKey(MachineKeyError::Other { .. }))), "{refused:?}");
    sealer.abort();
    std::fs::remove_file(folder.path().join("sealer")).unwrap();
    let refused = start(of_image(&folder, "proxy")).await;
    assert!(matches!(refused, Err(StartError::MachineKey(MachineKeyError::Sealed(_)))), "{refused:?}");
    assert_eq!(contracts(&folder), contract);
}
