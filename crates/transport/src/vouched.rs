//! What a peer's evidence comes to, and for how long.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use attest::{Appraised, report_data_of_key};
use evidence::{AppraiseError, Appraiser, Standing};
use rand::RngExt as _;
use tokio::time::{Instant, sleep};
use units::PublicKey;

use crate::clock;

/// How often the evidence of an open connection is looked at. Until its verdict is over, the appraiser verifies nothing for that.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Up to this is added at random: the evidence of many peers rests on the same collateral.
const SPREAD: Duration = Duration::from_secs(60);
/// Where evidence could not be looked at once its verdict has lapsed, it is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long a verdict that has lapsed is relied on while nobody can say anything newer.
const GRACE: Duration = Duration::from_secs(900);

/// Evidence that was accepted, kept for as long as somebody relies on it.
pub struct Vouched {
    appraised: Appraised,
    evidence: Vec<u8>,
    report_data: [u8; 64],
    appraiser: Appraiser,
}

impl Vouched {
    /// Appraises the evidence in the certificate of a peer with this key, at `now` since 1970.
    pub(crate) async fn by(
        evidence: Vec<u8>,
        key: &PublicKey,
        appraiser: &Appraiser,
        standing: Standing,
        now: Duration,
    ) -> Result<Self, AppraiseError> {
        let report_data = report_data_of_key(key);
        let appraised = appraiser.appraise(&evidence, &report_data, standing, now).await?;
        Ok(Self { appraised, evidence, report_data, appraiser: appraiser.clone() })
    }

    /// Ends once the evidence is accepted no longer, and says why: whoever relies on it closes its connection then. What was said
    /// of the peer's platform is looked at anew now and then, and when it lapses; if nothing newer can be had, a quarter of an
    /// hour after that.
    pub fn until_refused(self) -> impl Future<Output = AppraiseError> + Send {
        self.until_refused_by(clock::certificate_now)
    }

    fn until_refused_by(
        self,
        now: impl Fn() -> Duration + Send,
    ) -> impl Future<Output = AppraiseError> + Send {
        let Self { appraised, evidence, report_data, appraiser } = self;
        let mut valid_until = appraised.valid_until();
        // What 10,000 workers hold all the time.
        let evidence = evidence.into_boxed_slice();
        async move {
            let mut lapsed_at: Option<Instant> = None;
            loop {
                let left = valid_until.saturating_sub(now()).clamp(RETRY_AFTER, LOOK_EVERY);
                let spread = rand::rng().random_range(Duration::ZERO..SPREAD);
                sleep(left + spread).await;
                // In memory of its own, since it is under way for a moment in an hour.
                let appraisal = Box::pin(appraiser.appraise(&evidence, &report_data, Standing::Known, now()));
                match appraisal.await {
                    Ok(appraised) => (valid_until, lapsed_at) = (appraised.valid_until(), None),
                    Err(error) if !may_pass(&error) => return error,
                    Err(_) if now() < valid_until => {}
                    // By another clock: the date may be what somebody else says.
                    Err(error) if lapsed_at.get_or_insert_with(Instant::now).elapsed() >= GRACE => {
                        return error;
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// Whether evidence was not looked at, which another attempt may mend.
const fn may_pass(error: &AppraiseError) -> bool {
    matches!(error, AppraiseError::Busy | AppraiseError::Collateral(_) | AppraiseError::Certificates(_))
}

impl Deref for Vouched {
    type Target = Appraised;

    fn deref(&self) -> &Appraised {
        &self.appraised
    }
}

impl fmt::Debug for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouched").field("appraised", &self.appraised).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::pin::Pin;

    use attest::{Allowed, Hex, Policy, Refusal, Root, TcbStatus, Verifier};
    use evidence::{CollateralStore, Enclave as _, Simulated};
    use sim::{Firmware, Guest, Publication, Vendor};
    use tempfile::TempDir;
    use tokio::io::duplex;

    use super::*;
    use crate::driver::Side;
    use crate::error::CloseReason;
    use crate::handshake::start;
    use crate::link::{LinkEvent, LinkLimits};
    use crate::testing;

    /// A vendor, and where it publishes.
    struct World {
        vendor: Vendor,
        folder: TempDir,
        begin: Duration,
        since: Instant,
    }

    impl World {
        fn new(begin: Duration) -> Self {
            let vendor = Vendor::from_seed(&[7; 32]).unwrap();
            let world = Self { vendor, folder: tempfile::tempdir().unwrap(), begin, since: Instant::now() };
            world.publish(TcbStatus::UpToDate);
            world
        }

        /// What counts from now on, for 30 days.
        fn publish(&self, status: TcbStatus) {
            let publication = Publication { status, ..Publication::at(self.begin + self.since.elapsed()) };
            let file = self.folder.path().join(format!("{}.json", Vendor::COLLATERAL_KIND));
            std::fs::write(file, self.vendor.collateral(&publication).unwrap()).unwrap();
        }

        /// A peer whose evidence is good in the beginning.
        async fn vouched(&self) -> Vouched {
            let store = CollateralStore::new(self.folder.path().into(), None);
            let policy = Policy::for_images(Allowed::default());
            let verifier = Verifier::new(Root::Other(self.vendor.root_der().to_vec()));
            let appraiser = Appraiser::new(verifier, policy, store, NonZeroUsize::MIN);
            let key = PublicKey::new([5; 32]);
            let platform = self.vendor.platform(Hex::new([1; 16]), Firmware::Current).unwrap();
            let enclave = Simulated::new(platform, Guest::of_image("worker"));
            let quote = enclave.quote(&report_data_of_key(&key)).unwrap();
            Vouched::by(quote, &key, &appraiser, Standing::Stranger, self.begin).await.unwrap()
        }

        /// Until when that is so, by a clock that goes with tokio's.
        async fn until_refused(&self) -> Pin<Box<dyn Future<Output = AppraiseError>>> {
            let (begin, since) = (self.begin, self.since);
            Box::pin(self.vouched().await.until_refused_by(move || begin + since.elapsed()))
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn evidence_is_relied_on_while_what_is_published_accepts_it() {
        let world = World::new(clock::unix_now());
        let mut refused = world.until_refused().await;
        for _ in 0..3 {
            let days = tokio::time::timeout(29 * DAY, &mut refused).await;
            assert!(days.is_err(), "{days:?}");
            world.publish(TcbStatus::UpToDate);
        }
        world.publish(TcbStatus::OutOfDate);
        let said = Instant::now();
        let error = refused.await;
        assert!(matches!(error, AppraiseError::Refused(Refusal::Status { .. })), "{error:?}");
        assert!(said.elapsed() <= 30 * DAY + RETRY_AFTER + SPREAD, "{:?}", said.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_lapsed_is_not_relied_on_for_long() {
        let world = World::new(clock::unix_now());
        let mut refused = world.until_refused().await;
        let soon = tokio::time::timeout(30 * DAY + GRACE / 2, &mut refused).await;
        assert!(soon.is_err(), "{soon:?}");
        world.publish(TcbStatus::UpToDate);
        let renewed = tokio::time::timeout(29 * DAY, &mut refused).await;
        assert!(renewed.is_err(), "{renewed:?}");
        let published = Instant::now() - 29 * DAY;
        let error = refused.await;
        assert!(matches!(error, AppraiseError::Collateral(_)), "{error:?}");
        let relied_on = published.elapsed();
        assert!(relied_on >= 30 * DAY + GRACE && relied_on <= 30 * DAY + 2 * GRACE, "{relied_on:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_ends_when_its_peers_evidence_is_accepted_no_longer() {
        // By everybody's clock, its verdict lapsed yesterday.
        let world = World::new(clock::unix_now() - 31 * DAY);
        let vouched = Some(world.vouched().await);
        let (ours, theirs) = duplex(1 << 16);
        let start = async |stream, side, vouched| {
            let peer = testing::peer(None, None);
            start(stream, side, peer, vouched, LinkLimits::default(), DAY, ()).await.unwrap()
        };
        let (mut ours, mut theirs) =
            tokio::join!(start(ours, Side::Accepting, vouched), start(theirs, Side::Connecting, None));
        let closed = ours.1.next().await;
        let Some(LinkEvent::Closed(reason)) = closed else { panic!("{closed:?}") };
        assert!(matches!(reason, CloseReason::Evidence(_)) && reason.is_fault(), "{reason:?}");
        assert!(matches!(theirs.1.next().await, Some(LinkEvent::Closed(CloseReason::Peer))));
        assert!(world.since.elapsed() >= GRACE);
    }
}
