//! What vendors say: kept while it holds, and looked for again before that ends.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

/// What vendors say is looked for again after this long: they may have said something new before they must.
pub(crate) const RENEWED_AFTER: Duration = Duration::from_secs(12 * 3600);
/// After a failure nothing is looked for during this time.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);

/// Something that a vendor says. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Renewed<T> {
    state: Arc<Mutex<State<T>>>,
    /// Whoever has it looks; those who want the same meanwhile wait for that.
    turn: Arc<AsyncMutex<()>>,
}

#[derive(Debug)]
struct State<T> {
    held: Option<Held<T>>,
    /// Since 1970.
    looked_at: Option<Duration>,
    /// Whether nothing came of that, or not yet.
    is_in_vain: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    pub(crate) value: T,
    /// Until when it holds, since 1970.
    pub(crate) until: Duration,
    /// It is looked for again after this long. `None` if it never changes.
    pub(crate) renewed_after: Option<Duration>,
}

/// Nothing is there.
#[derive(Debug)]
pub(crate) enum Unfound<E> {
    /// It was looked for in vain a moment ago.
    Paused,
    /// It was looked for in vain now.
    Now(E),
}

/// How long ago something was, by times since 1970. `None` if that is ahead: the time comes from a chain's server as well, which
/// may have told of the future, so that nothing is new, and nothing rests, because of when it seems to have happened.
pub(crate) const fn age(at: Duration, now: Duration) -> Option<Duration> {
    now.checked_sub(at)
}

impl<T: Clone + Send + 'static> Renewed<T> {
    /// What is held and valid at `now` since 1970. Where it is due it is renewed by `look` meanwhile.
    pub(crate) fn held<E, L>(&self, now: Duration, look: impl FnOnce() -> L) -> Option<T>
    where
        E: Error + Send + 'static,
        L: Future<Output = Result<Held<T>, E>> + Send + 'static,
    {
        let mut state = self.state();
        let value = state.valid(now)?;
        if !state.is_due(now) {
            return Some(value);
        }
        let Ok(turn) = self.turn.clone().try_lock_owned() else { return Some(value) };
        state.begin(now);
        drop(state);
        let (this, look) = (self.clone(), look());
        tokio::spawn(async move {
            let _turn = turn;
            match look.await {
                Ok(found) => this.state().put(found),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "what a vendor says is not renewed")
                }
            }
        });
        Some(value)
    }

    /// What is held and valid at `now` since 1970, or else what `look` finds.
    pub(crate) async fn get<E, L>(&self, now: Duration, look: impl Fn() -> L) -> Result<T, Unfound<E>>
    where
        E: Error + Send + 'static,
        L: Future<Output = Result<Held<T>, E>> + Send + 'static,
    {
        if let Some(value) = self.held(now, &look) {
            return Ok(value);
        }
        let _turn = self.turn.lock().await;
        {
            let mut state = self.state();
            if let Some(value) = state.valid(now) {
                return Ok(value);
            }
            if state.age(now).is_some_and(|age| age < PAUSE) {
                return Err(Unfound::Paused);
            }
            state.begin(now);
        }
        let found = look().await.map_err(Unfound::Now)?;
        self.state().put(found.clone());
        Ok(found.value)
    }

    /// What is held and valid at `now` since 1970. Nothing comes of its being due.
    pub(crate) fn valid(&self, now: Duration) -> Option<T> {
        self.state().valid(now)
    }

    /// Holds what was found in another way.
    pub(crate) fn put(&self, found: Held<T>) {
        self.state().put(found);
    }

    /// Whether anything was ever found.
    pub(crate) fn is_found(&self) -> bool {
        self.state().held.is_some()
    }
}

impl<T> Renewed<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // The state behind a poisoned lock is whole: it changes in one step each.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Renewed<T> {
    fn default() -> Self {
        let state = State { held: None, looked_at: None, is_in_vain: false };
        Self { state: Arc::new(Mutex::new(state)), turn: Arc::default() }
    }
}

impl<T: Clone> State<T> {
    fn valid(&self, now: Duration) -> Option<T> {
        self.held.as_ref().filter(|held| now < held.until).map(|held| held.value.clone())
    }

    fn age(&self, now: Duration) -> Option<Duration> {
        self.looked_at.and_then(|at| age(at, now))
    }

    fn is_due(&self, now: Duration) -> bool {
        let Some(renewed_after) = self.held.as_ref().and_then(|held| held.renewed_after) else {
            return false;
        };
        let rest = if self.is_in_vain { PAUSE } else { renewed_after };
        self.age(now).is_none_or(|age| age >= rest)
    }

    fn begin(&mut self, now: Duration) {
        (self.looked_at, self.is_in_vain) = (Some(now), true);
    }

    fn put(&mut self, found: Held<T>) {
        (self.held, self.is_in_vain) = (Some(found), false);
    }
}

#[cfg(test)]
mod tests;
