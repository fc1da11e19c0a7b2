//! The catalogue: every attack with its name, its target and what is expected of it.

mod answers;
mod application;
mod listeners;
mod proxies;
mod router;
mod sessions;
mod strangers;
mod tls;

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::stage::Stage;

/// When an attack runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Always.
    Quick,
    /// With everything else: it takes half a minute, or much memory.
    Long,
}

/// Who is attacked, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A proxy, by something on its clients' port.
    Clients,
    /// A proxy, by something on its workers' port.
    Workers,
    /// A client, by an application.
    Api,
    /// A worker, by a proxy.
    Worker,
    /// A client, by a proxy.
    Client,
    /// A router, by programs and by peers.
    Router,
}

/// What an attack leaves for the judge to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// So many connections to the target, each of which has ended by now or is about to.
    Connections(usize),
    /// More than the log has lines for, or such as leave none.
    Uncounted,
    /// A victim of the attack's own, which has grown by so many KiB at its largest.
    Victim {
        /// Since it had started.
        grown_kib: i64,
    },
}

/// Runs an attack. An error says what was not as expected.
type Run = Box<dyn Fn(&Stage) -> BoxFuture<'_, Result<Left>> + Send + Sync>;

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) tier: Tier,
    /// What a good target does, in a few words.
    pub(crate) expects: &'static str,
    /// By how much the target's memory may grow, in KiB: generous, since allocators keep what was once used.
    pub(crate) grown_kib_max: i64,
    pub(crate) run: Run,
}

impl Attack {
    fn new<F>(name: impl Into<String>, target: Target, expects: &'static str, run: F) -> Self
    where
        F: for<'a> Fn(&'a Stage) -> BoxFuture<'a, Result<Left>> + Send + Sync + 'static,
    {
        let run = Box::new(run);
        Self { name: name.into(), target, tier: Tier::Quick, expects, grown_kib_max: 32 * 1024, run }
    }

    fn long(self) -> Self {
        Self { tier: Tier::Long, ..self }
    }

    fn grows_by(self, grown_kib_max: i64) -> Self {
        Self { grown_kib_max, ..self }
    }
}

/// All attacks. Those that flood come last: they fill the log's share of lines for their cause.
pub(crate) fn catalogue() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for target in [Target::Clients, Target::Workers] {
        attacks.extend(strangers::catalogue(target));
        attacks.extend(tls::catalogue(target));
    }
    attacks.extend(sessions::catalogue());
    attacks.extend(answers::catalogue());
    attacks.extend(application::catalogue());
    attacks.extend(proxies::catalogue());
    attacks.extend(router::catalogue());
    attacks.extend(strangers::floods());
    attacks
}
