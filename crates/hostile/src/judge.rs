//! Whether an attack was borne.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::attacks::{Attack, Left, Target};
use crate::engine::MODEL;
use crate::http;
use crate::stage::Stage;

/// How long a line may take to appear in the log after the connection has ended.
const LINES_MAX_TIME: Duration = Duration::from_secs(5);

/// The outcome of one attack.
pub(crate) struct Verdict {
    name: String,
    expects: &'static str,
    took: Duration,
    grown_kib: i64,
    lines: usize,
    /// What was not as it should be; empty if the attack was borne.
    misses: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_borne(&self) -> bool {
        self.misses.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expects, took, grown_kib, lines, misses } = self;
        write!(f, "{name:<44} {:>7} {grown_kib:>+9} {lines:>6}  ", took.as_millis())?;
        if misses.is_empty() {
            write!(f, "ok: {expects}")
        } else {
            write!(f, "MISSED ({expects}): {}", misses.join("; "))
        }
    }
}

/// Runs one attack while a neighbour goes on with its requests.
pub(crate) async fn judge(stage: &Stage, attack: &Attack) -> Verdict {
    let begin = Instant::now();
    let mut misses = Vec::new();
    let target = match attack.target {
        Target::Clients | Target::Workers => Some(&stage.proxy),
        Target::Api => Some(&stage.client),
        // The victim is a process of the attack's own.
        Target::Worker | Target::Client | Target::Router => None,
    };
    let resident = || target.and_then(|role| role.resident_kib().ok()).unwrap_or(0);
    let marker = "connection ended";
    let lines_before = target.map_or(0, |role| role.lines(marker));
    let resident_before = resident();

    let ran = async {
        let ran = (attack.run)(stage).await;
        (ran, resident())
    };
    let mut ran = std::pin::pin!(ran);
    let mut neighbour_failed = None;
    // The neighbour asks again and again; the request that runs when the attack ends is waited for too.
    let (outcome, resident_after) = loop {
        let neighbour = http::chat(stage.api, MODEL);
        tokio::pin!(neighbour);
        tokio::select! {
            outcome = &mut ran => {
                if let Err(error) = neighbour.await {
                    neighbour_failed = Some(error);
                }
                break outcome;
            }
            asked = &mut neighbour => if let Err(error) = asked {
                neighbour_failed = Some(error);
            }
        }
    };
    let left = outcome.unwrap_or_else(|error| {
        misses.push(format!("{error:#}"));
        Left::Uncounted
    });
    if let Some(error) = neighbour_failed {
        misses.push(format!("during: {error:#}"));
    }
    if let Err(error) = http::chat(stage.api, MODEL).await {
        misses.push(format!("after: {error:#}"));
    }
    let lines = match (target, left) {
        (Some(role), Left::Connections(connections)) => {
            let expected = lines_before + connections;
            let lines = role.wait_for_lines(marker, expected, LINES_MAX_TIME).await - lines_before;
            if lines != connections {
                misses.push(format!("{connections} connections ended with {lines} lines"));
            }
            lines
        }
        _ => 0,
    };
    let grown_kib = match left {
        Left::Victim { grown_kib } => grown_kib,
        Left::Connections(_) | Left::Uncounted => {
            i64::try_from(resident_after).unwrap_or(i64::MAX)
                - i64::try_from(resident_before).unwrap_or(i64::MAX)
        }
    };
    if grown_kib > attack.grown_kib_max {
        misses.push(format!("grew by {grown_kib} KiB, at most {} are expected", attack.grown_kib_max));
    }
    Verdict {
        name: attack.name.clone(),
        expects: attack.expects,
        took: begin.elapsed(),
        grown_kib,
        lines,
        misses,
    }
}
