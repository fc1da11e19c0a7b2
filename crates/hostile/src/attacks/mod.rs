//! The catalogue: every attack with its name, its target and what is expected of it.

mod answers;
mod application;
mod proxies;
mod sessions;
mod strangers;

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
}

/// Runs an attack; returns how many connections to the target it made, each of which has ended by then. An error
/// says what was not as expected.
type Run = Box<dyn Fn(&Stage) -> BoxFuture<'_, Result<usize>> + Send + Sync>;

/// In place of a number of connections: the lines are cut, so that they are not compared.
pub(crate) const UNCOUNTED: usize = usize::MAX;

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
        F: for<'a> Fn(&'a Stage) -> BoxFuture<'a, Result<usize>> + Send + Sync + 'static,
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
    }
    attacks.extend(sessions::catalogue());
    attacks.extend(answers::catalogue());
    attacks.extend(application::catalogue());
    attacks.extend(proxies::catalogue());
    attacks.extend(strangers::floods());
    attacks
}
