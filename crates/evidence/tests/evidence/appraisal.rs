//! Quotes of peers.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attest::{Allowed, Collateral, PlatformEvidenceError, Policy, Refusal, Root, Tee, Verifier};
use cocoon_evidence::{AppraiseError, Appraiser, CollateralStore, Pccs, Standing};
use sim::{Publication, Vendor};
use tempfile::{TempDir, tempdir};
use units::ImageHash;

use crate::stub::Stub;
use crate::{SGX, TDX};

/// One thread; TDX and SGX.
fn appraiser(images: Allowed<ImageHash>, folder: &Path, pccs: Option<Pccs>) -> Arc<Appraiser> {
    let policy = Policy { tees: [Tee::Tdx, Tee::Sgx].into(), ..Policy::for_images(images) };
    let store = CollateralStore::new(folder.into(), pccs);
    Arc::new(Appraiser::new(Verifier::new(Root::Intel), policy, store, NonZeroUsize::MIN))
}

fn only_tdx() -> Allowed<ImageHash> {
    Allowed::only([TDX.parsed().claims().measurements.image_hash()])
}

fn with_collateral() -> TempDir {
    let folder = tempdir().unwrap();
    TDX.put(folder.path());
    folder
}

#[tokio::test]
async fn a_quote_is_verified_once_and_judged_each_time() {
    let folder = with_collateral();
    let appraiser = appraiser(only_tdx(), folder.path(), None);
    let appraise = async |quote: &[u8], report_data: &[u8; 64], now| {
        appraiser.appraise(quote, report_data, Standing::Stranger, now).await
    };
    let first = appraise(TDX.quote, &TDX.report_data(), TDX.at).await.unwrap();
    std::fs::remove_file(TDX.file(folder.path())).unwrap();
    let again = appraise(TDX.quote, &TDX.report_data(), TDX.at).await.unwrap();
    assert_eq!(first, again);

    let copied = appraise(TDX.quote, &[7; 64], TDX.at).await;
    assert!(matches!(copied, Err(AppraiseError::Refused(Refusal::ReportData { .. }))), "{copied:?}");
    let other_image = appraise(SGX.quote, &SGX.report_data(), SGX.at).await;
    assert!(matches!(other_image, Err(AppraiseError::Refused(Refusal::Image { .. }))), "{other_image:?}");
    let cut = appraise(&TDX.quote[..600], &TDX.report_data(), TDX.at).await;
    assert!(matches!(cut, Err(AppraiseError::Unreadable(PlatformEvidenceError::Quote(_)))), "{cut:?}");
    let mut forged = TDX.quote.to_vec();
    // Of the header's vendor data, which is signed and which nothing else looks at.
    forged[30] ^= 1;
    let forged = appraise(&forged, &TDX.report_data(), TDX.at).await;
    assert!(matches!(forged, Err(AppraiseError::Refused(Refusal::Unverified { .. }))), "{forged:?}");
}

#[tokio::test]
async fn appraisers_with_other_policies_share_what_was_verified() {
    let folder = with_collateral();
    let lenient = appraiser(Allowed::default(), folder.path(), None);
    let strict = lenient.with_policy(Policy::for_images(Allowed::only([])));
    let same = lenient.with_policy(Policy::for_images(only_tdx()));
    let appraise = async |appraiser: &Appraiser| {
        appraiser.appraise(TDX.quote, &TDX.report_data(), Standing::Stranger, TDX.at).await
    };
    let first = appraise(&lenient).await.unwrap();
    std::fs::remove_file(TDX.file(folder.path())).unwrap();
    assert_eq!(appraise(&same).await.unwrap(), first, "nothing is verified again");
    let refused = appraise(&strict).await;
    assert!(matches!(refused, Err(AppraiseError::Refused(Refusal::Image { .. }))), "{refused:?}");
}

#[tokio::test]
async fn nothing_is_fetched_for_platforms_that_somebody_made_up() {
    let stub = Stub::serve(&TDX, |_unchanged| {}).await;
    let folder = tempdir().unwrap();
    let appraiser = appraiser(Allowed::default(), folder.path(), Some(stub.pccs.clone()));
    // One of a vendor's that nobody knows, and one whose certificate was changed.
    let vendor = Vendor::from_seed(&[1; 32]).unwrap();
    let platform = vendor.platform(attest::PlatformId::new([1; 16]), sim::Firmware::Current).unwrap();
    let made_up = platform.quote(&sim::Guest::of_image("any"), &TDX.report_data()).unwrap();
    let mut changed = TDX.quote.to_vec();
    let pem = changed.windows(10).position(|bytes| bytes == b"-----BEGIN").unwrap();
    changed[pem + 1500] ^= 1;
    for quote in [&made_up, &changed] {
        let refused = appraiser.appraise(quote, &TDX.report_data(), Standing::Stranger, TDX.at).await;
        assert!(matches!(refused, Err(AppraiseError::Refused(Refusal::Unverified { .. }))), "{refused:?}");
    }
    assert_eq!(stub.asked(), 0);
    appraiser.appraise(TDX.quote, &TDX.report_data(), Standing::Stranger, TDX.at).await.unwrap();
    assert!(stub.asked() > 0);
}

#[tokio::test]
async fn a_verdict_ends_with_what_it_rests_on() {
    let folder = with_collateral();
    let appraiser = appraiser(only_tdx(), folder.path(), None);
    let data = TDX.report_data();
    let appraise = |now| appraiser.appraise(TDX.quote, &data, Standing::Stranger, now);
    let until = appraise(TDX.at).await.unwrap().valid_until();
    assert!(appraise(until - Duration::from_secs(1)).await.is_ok());
    let lapsed = appraise(until).await;
    assert!(matches!(lapsed, Err(AppraiseError::Collateral(_) | AppraiseError::Refused(_))), "{lapsed:?}");
}

#[tokio::test]
async fn a_verdict_does_not_outlast_what_the_vendor_may_say_anew() {
    let folder = tempdir().unwrap();
    let vendor = Vendor::from_seed(&[1; 32]).unwrap();
    let id = attest::PlatformId::new([1; 16]);
    let platform = vendor.platform(id, sim::Firmware::Current).unwrap();
    let data = TDX.report_data();
    let quote = platform.quote(&sim::Guest::of_image("any"), &data).unwrap();
    let publish = |publication: &Publication| {
        let path = folder.path().join(format!("{}.json", Vendor::COLLATERAL_KIND));
        let text = vendor.collateral(publication).unwrap();
        std::fs::write(path, &text).unwrap();
        Collateral::from_json(&text).unwrap()
    };
    let first = Publication::at(TDX.at - Duration::from_secs(3600));
    publish(&first);
    let verifier = Verifier::new(Root::Other(vendor.root_der().to_vec()));
    let store = CollateralStore::new(folder.path().into(), None);
    let policy = Policy::for_images(Allowed::default());
    let appraiser = Appraiser::new(verifier.clone(), policy, store.clone(), NonZeroUsize::MIN);
    let appraise = |now| appraiser.appraise(&quote, &data, Standing::Stranger, now);
    appraise(TDX.at).await.unwrap();

    let revoked = publish(&Publication { revoked: [id].into(), ..first });
    let half_a_day = Duration::from_secs(12 * 3600);
    let kind = Vendor::COLLATERAL_KIND;
    while *store.get(&verifier, kind, TDX.at + half_a_day).await.unwrap() != revoked {
        tokio::task::yield_now().await;
    }
    appraise(TDX.at + half_a_day - Duration::from_secs(1)).await.unwrap();
    for now in [TDX.at + half_a_day, TDX.at - Duration::from_secs(1)] {
        let refused = appraise(now).await;
        assert!(matches!(refused, Err(AppraiseError::Refused(Refusal::Unverified { .. }))), "{refused:?}");
    }
}

#[tokio::test]
async fn strangers_who_wait_for_a_vendor_stop_no_stranger_who_need_not() {
    let folder = with_collateral();
    let stub = Stub::serve(&SGX, |_unchanged| {}).await;
    stub.fall_silent();
    let appraiser = appraiser(Allowed::default(), folder.path(), Some(stub.pccs.clone()));
    appraiser.appraise(TDX.quote, &TDX.report_data(), Standing::Stranger, TDX.at).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _stranger in 0..50 {
        let appraiser = appraiser.clone();
        waiting.spawn(async move {
            appraiser.appraise(SGX.quote, &SGX.report_data(), Standing::Stranger, SGX.at).await
        });
    }
    while stub.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // Another quote, which no verdict is remembered for.
    let mut forged = TDX.quote.to_vec();
    forged[30] ^= 1;
    let verified = appraiser.appraise(&forged, &TDX.report_data(), Standing::Stranger, TDX.at).await;
    assert!(matches!(verified, Err(AppraiseError::Refused(Refusal::Unverified { .. }))), "{verified:?}");
    assert!(waiting.try_join_next().is_none(), "the others still wait");
}

#[tokio::test]
async fn a_flood_of_strangers_quotes_stops_nobody_who_is_known() {
    let folder = with_collateral();
    // The flood's quotes name platforms whose collateral never comes.
    let stub = Stub::serve(&SGX, |_unchanged| {}).await;
    stub.fall_silent();
    let appraiser = appraiser(Allowed::default(), folder.path(), Some(stub.pccs.clone()));
    let mut flood = tokio::task::JoinSet::new();
    for _stranger in 0..600 {
        let appraiser = appraiser.clone();
        flood.spawn(async move {
            appraiser.appraise(SGX.quote, &SGX.report_data(), Standing::Stranger, SGX.at).await
        });
    }
    // 512 wait in line, and nobody waits longer for having come later.
    for _above in 512..600 {
        let refused = flood.join_next().await.unwrap().unwrap();
        assert!(matches!(refused, Err(AppraiseError::Busy)), "{refused:?}");
    }
    let known = appraiser.appraise(TDX.quote, &TDX.report_data(), Standing::Known, TDX.at).await;
    assert!(known.is_ok(), "{known:?}");
}
