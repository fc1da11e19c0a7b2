use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);
const UNTIL: Duration = Duration::from_secs(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
#[error("nobody knows")]
struct Unknown;

/// Numbers what it is asked for, and fails when told to.
#[derive(Default)]
struct Source {
    looks: AtomicU32,
    fails: std::sync::atomic::AtomicBool,
    kept: Renewed<u32>,
}

impl Source {
    fn look(&self) -> impl Future<Output = Result<Held<u32>, Unknown>> + Send + use<> {
        let value = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = self.fails.load(Ordering::SeqCst);
        async move {
            let held = Held { value, until: UNTIL, renewed_after: Some(RENEWED_AFTER) };
            if fails { Err(Unknown) } else { Ok(held) }
        }
    }

    /// What is given out at a time, and how often it was looked for until then, renewal included.
    async fn at(&self, now: Duration) -> (Result<u32, Unfound<Unknown>>, u32) {
        let outcome = self.kept.get(now, || self.look()).await;
        // A renewal has ended when nobody has the turn.
        drop(self.kept.turn.lock().await);
        (outcome, self.looks.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn what_is_held_is_renewed_before_it_ends() {
    let source = Source::default();
    assert!(matches!(source.at(NOW).await, (Ok(1), 1)));
    assert!(matches!(source.at(NOW + RENEWED_AFTER - SECOND).await, (Ok(1), 1)));
    assert!(matches!(source.at(NOW + RENEWED_AFTER).await, (Ok(1), 2)), "the old one serves meanwhile");
    assert!(matches!(source.at(NOW + RENEWED_AFTER).await, (Ok(2), 2)));
    assert!(matches!(source.at(UNTIL).await, (Ok(3), 3)), "what has ended is not given out");
}

#[tokio::test]
async fn failures_rest_for_a_while() {
    let source = Source::default();
    source.fails.store(true, Ordering::SeqCst);
    assert!(matches!(source.at(NOW).await, (Err(Unfound::Now(Unknown)), 1)));
    assert!(matches!(source.at(NOW + PAUSE - SECOND).await, (Err(Unfound::Paused), 1)));
    assert!(matches!(source.at(NOW + PAUSE).await, (Err(Unfound::Now(Unknown)), 2)));
    source.fails.store(false, Ordering::SeqCst);
    let found = NOW + PAUSE * 2;
    assert!(matches!(source.at(found).await, (Ok(3), 3)));

    source.fails.store(true, Ordering::SeqCst);
    let due = found + RENEWED_AFTER;
    assert!(matches!(source.at(due).await, (Ok(3), 4)));
    assert!(matches!(source.at(due + PAUSE - SECOND).await, (Ok(3), 4)));
    assert!(matches!(source.at(due + PAUSE).await, (Ok(3), 5)), "what was not renewed is due soon");
}

#[tokio::test]
async fn a_time_that_was_ahead_neither_pauses_nor_keeps() {
    let ahead = NOW + RENEWED_AFTER * 1000;
    let source = Source::default();
    source.fails.store(true, Ordering::SeqCst);
    assert!(matches!(source.at(ahead).await, (Err(Unfound::Now(Unknown)), 1)));
    source.fails.store(false, Ordering::SeqCst);
    assert!(matches!(source.at(NOW).await, (Ok(2), 2)), "no pause until the false date");

    assert!(matches!(source.at(ahead).await, (Ok(2), 3)));
    assert!(matches!(source.at(NOW).await, (Ok(3), 4)), "what was renewed then is renewed now");
    assert!(matches!(source.at(NOW).await, (Ok(4), 4)));
}

#[tokio::test]
async fn what_never_changes_is_looked_for_once() {
    let kept = Renewed::default();
    let look = || async { Ok::<_, Unknown>(Held { value: 1, until: UNTIL, renewed_after: None }) };
    assert!(matches!(kept.get(NOW, look).await, Ok(1)));
    let never = || -> std::future::Ready<Result<Held<u32>, Unknown>> { panic!("it is asked for again") };
    for now in [NOW, UNTIL - SECOND, NOW - RENEWED_AFTER] {
        assert_eq!(kept.held(now, never), Some(1));
    }
    assert_eq!(kept.held(UNTIL, never), None);
}
