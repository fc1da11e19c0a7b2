//! Where collateral comes from.

use std::time::Duration;

use attest::{Collateral, Root, Verifier};
use cocoon_evidence::{CollateralStore, Pccs, ServiceError, StoreError};
use tempfile::tempdir;

use crate::stub::Stub;
use crate::{SGX, TDX, written_at};

fn intel() -> Verifier {
    Verifier::new(Root::Intel)
}

#[tokio::test]
async fn what_is_fetched_verifies_the_quote_and_is_kept_for_the_next_process() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(&TDX, |_unchanged| {}).await;
    let store = CollateralStore::new(folder.path().into(), Some(stub.pccs.clone()));
    let fetched = store.get(&intel(), TDX.kind(), TDX.at).await.unwrap();
    assert!(Verifier::new(Root::Intel).verify(&TDX.parsed(), &fetched, TDX.at).is_ok());
    assert_eq!(stub.asked(), 4);
    store.get(&intel(), TDX.kind(), TDX.at + Duration::from_secs(3600)).await.unwrap();
    assert_eq!(stub.asked(), 4, "nobody is asked for what is known");

    let next = CollateralStore::new(folder.path().into(), Some(stub.pccs.clone()));
    assert_eq!(next.get(&intel(), TDX.kind(), TDX.at).await.unwrap(), fetched);
    assert_eq!(stub.asked(), 4, "and not by the next process");
}

#[tokio::test]
async fn a_file_is_as_old_as_the_time_given_says() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(&TDX, |_unchanged| {}).await;
    let half_a_day = Duration::from_secs(12 * 3600);
    for (written, asked) in [
        (TDX.at, 0),
        (TDX.at - half_a_day + Duration::from_secs(1), 0),
        (TDX.at - half_a_day, 4),
        // By a clock that was ahead, or is behind now.
        (TDX.at + Duration::from_secs(1), 8),
    ] {
        TDX.put(folder.path());
        written_at(&TDX.file(folder.path()), written);
        let store = CollateralStore::new(folder.path().into(), Some(stub.pccs.clone()));
        store.get(&intel(), TDX.kind(), TDX.at).await.unwrap();
        assert_eq!(stub.asked(), asked, "{written:?}");
    }
}

#[tokio::test]
async fn many_links_that_need_the_same_collateral_fetch_it_once() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(&TDX, |_unchanged| {}).await;
    let store = CollateralStore::new(folder.path().into(), Some(stub.pccs.clone()));
    let mut links = tokio::task::JoinSet::new();
    for _link in 0..50 {
        let store = store.clone();
        links.spawn(async move { store.get(&intel(), TDX.kind(), TDX.at).await.is_ok() });
    }
    assert!(links.join_all().await.into_iter().all(|is_there| is_there));
    assert_eq!(stub.asked(), 4);
}

#[tokio::test]
async fn what_is_due_is_renewed_while_the_old_one_serves() {
    let folder = tempdir().unwrap();
    let stub = Stub::serve(&TDX, |_unchanged| {}).await;
    let store = CollateralStore::new(folder.path().into(), Some(stub.pccs.clone()));
    store.get(&intel(), TDX.kind(), TDX.at).await.unwrap();
    // Else the folder would do.
    std::fs::remove_file(TDX.file(folder.path())).unwrap();
    store.get(&intel(), TDX.kind(), TDX.at + Duration::from_secs(13 * 3600)).await.unwrap();
    while stub.asked() < 8 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_folder_will_do_without_a_service_until_what_it_holds_lapses() {
    let folder = tempdir().unwrap();
    let store = CollateralStore::new(folder.path().into(), None);
    let missing = store.get(&intel(), TDX.kind(), TDX.at).await.unwrap_err();
    assert!(missing.to_string().contains("tdx-b0c06f000000-platform.json"), "{missing}");

    std::fs::write(TDX.file(folder.path()), TDX.collateral).unwrap();
    assert!(matches!(store.get(&intel(), TDX.kind(), TDX.at).await, Err(StoreError::Paused { .. })));
    let later = TDX.at + Duration::from_secs(30);
    let found = store.get(&intel(), TDX.kind(), later).await.unwrap();
    assert_eq!(*found, Collateral::from_json(TDX.collateral).unwrap());
    let lapsed = store.get(&intel(), TDX.kind(), found.next_update().unwrap()).await;
    assert!(matches!(lapsed, Err(StoreError::Missing { .. })), "{lapsed:?}");
}

#[tokio::test]
async fn a_service_that_fails_is_named_and_the_folder_used_while_it_is_valid() {
    let folder = tempdir().unwrap();
    let nobody = Pccs::new("http://127.0.0.1:9").unwrap();
    let store = CollateralStore::new(folder.path().into(), Some(nobody.clone()));
    let failed = store.get(&intel(), TDX.kind(), TDX.at).await.unwrap_err();
    assert!(
        matches!(failed, StoreError::Fetch { source: ServiceError::Unreachable { .. }, .. }),
        "{failed:?}"
    );
    let again = store.get(&intel(), TDX.kind(), TDX.at + Duration::from_secs(29)).await;
    assert!(matches!(again, Err(StoreError::Paused { .. })), "{again:?}");

    std::fs::write(TDX.file(folder.path()), TDX.collateral).unwrap();
    assert!(store.get(&intel(), TDX.kind(), TDX.at + Duration::from_secs(30)).await.is_ok());
}

#[tokio::test]
async fn answers_that_are_no_collateral_are_refused() {
    let fetch = async |change: fn(&mut serde_json::Value)| {
        Stub::serve(&SGX, change).await.pccs.fetch(SGX.kind()).await.unwrap_err().to_string()
    };
    assert!(fetch(|all| all["tcb_info"] = "[".into()).await.contains("tcbInfo and its signature"));
    assert!(fetch(|all| all["qe_identity"] = "[".into()).await.contains("enclaveIdentity and its signature"));
    assert!(fetch(|all| all["qe_identity"] = "{}".into()).await.contains("date of the next update"));
    assert!(fetch(|all| all["pck_crl"] = "00".repeat(600_000).into()).await.contains("cannot be asked"));

    let stub = Stub::serve(&SGX, |_unchanged| {}).await;
    assert!(stub.pccs.fetch(SGX.kind()).await.is_ok());
    let other = stub.pccs.fetch(TDX.kind()).await.unwrap_err();
    assert!(matches!(other, ServiceError::Status { status: 404, .. }), "{other:?}");
    assert!(other.to_string().contains("404: it does not know this platform"), "{other}");
    for refused in ["", "pccs", "ftp://pccs", "https://pccs/?a=b"] {
        assert!(matches!(Pccs::new(refused), Err(ServiceError::Address { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn made_up_kinds_of_platforms_do_not_push_out_real_ones() {
    let folder = tempdir().unwrap();
    std::fs::write(TDX.file(folder.path()), TDX.collateral).unwrap();
    let store = CollateralStore::new(folder.path().into(), None);
    store.get(&intel(), TDX.kind(), TDX.at).await.unwrap();
    std::fs::remove_file(TDX.file(folder.path())).unwrap();
    for number in 0..1000_u16 {
        let mut fmspc = [0; 6];
        fmspc[..2].copy_from_slice(&number.to_be_bytes());
        let made_up = attest::CollateralKind { fmspc: attest::Hex::new(fmspc), ..TDX.kind() };
        assert!(matches!(store.get(&intel(), made_up, TDX.at).await, Err(StoreError::Missing { .. })));
    }
    assert!(store.get(&intel(), TDX.kind(), TDX.at).await.is_ok());
}

#[tokio::test]
async fn what_is_not_the_vendors_takes_the_place_of_nothing() {
    let folder = tempdir().unwrap();
    TDX.put(folder.path());
    let good = Collateral::from_json(TDX.collateral).unwrap();
    let stub = Stub::serve(&TDX, |all| all["tcb_info_signature"] = "00".repeat(64).into()).await;
    let store = CollateralStore::new(folder.path().into(), Some(stub.pccs.clone()));
    let get = async |now| store.get(&intel(), TDX.kind(), now).await.unwrap();
    assert_eq!(*get(TDX.at).await, good);
    let due = TDX.at + Duration::from_secs(12 * 3600);
    for (now, asked) in [(due, 4), (due + Duration::from_secs(29), 4), (due + Duration::from_secs(30), 8)] {
        assert_eq!(*get(now).await, good);
        while stub.asked() < asked {
            assert_eq!(*get(now).await, good);
            tokio::task::yield_now().await;
        }
        assert_eq!(stub.asked(), asked, "it is asked again soon");
    }
    assert_eq!(std::fs::read_to_string(TDX.file(folder.path())).unwrap(), TDX.collateral);

    let empty = tempdir().unwrap();
    let store = CollateralStore::new(empty.path().into(), Some(stub.pccs.clone()));
    let refused = store.get(&intel(), TDX.kind(), TDX.at).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    assert!(!TDX.file(empty.path()).exists());
}
