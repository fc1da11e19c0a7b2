//! Instructions of hot paths, by valgrind's callgrind: has a step become longer?
//!
//! A count repeats to a tenth of a percent, on a busy machine too. It depends on the compiler, the C library and valgrind,
//! so that it is judged only beside those that it was taken with; hardly on the processor, since valgrind shows programs
//! the same one, with AVX2, wherever the real one has that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::command::{cargo_command, exists, run};
use crate::sdk::target_folder;

/// A count above the table's by more than this, in percent, is a regression. Less comes and goes with what the compiler
/// makes of changes elsewhere in a crate.
const TOLERANCE_PERCENT: u64 = 2;

const TABLE: &str = "crates/count/counts.toml";

const TABLE_HEAD: &str = "\
# Instructions of one step of each case, written by `cargo xtask count --update`. Review a change like code: a commit that raises
# a number says why it is worth it.
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Compiler, C library and valgrind: what the counts depend on beside our code and `Cargo.lock`.
    measured_with: Vec<String>,
    instructions: BTreeMap<String, u64>,
}

/// Counts every case; compares with the table, or writes it if `is_update`.
///
/// # Errors
/// If a case takes more instructions than the table says, or table and cases differ.
pub(crate) fn check(is_update: bool) -> Result<()> {
    if let Some(reason) = impossible() {
        eprintln!("skipped: instruction counts, because {reason}");
        return Ok(());
    }
    let counted = count_all()?;
    let measured_with = measured_with()?;
    let path = crate::root()?.join(TABLE);
    if is_update {
        return fs::write(&path, table_text(&measured_with, &counted))
            .with_context(|| format!("write {TABLE}"));
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {TABLE}"))?;
    let table: Table = toml::from_str(&text).with_context(|| format!("read {TABLE}"))?;
    if table.measured_with != measured_with {
        eprintln!(
            "skipped: judging instruction counts, because {TABLE} was measured with {}, and this is {}",
            table.measured_with.join(", "),
            measured_with.join(", ")
        );
        eprint!("{}", table_text(&measured_with, &counted));
        return Ok(());
    }
    judge(&table.instructions, &counted)
}

/// Why nothing can be counted here.
fn impossible() -> Option<String> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !cfg!(target_arch = "x86_64") || !flags.contains(" avx2 ") {
        return Some("they were taken for x86-64 with AVX2".to_owned());
    }
    let is_missing = !exists("valgrind", "--version");
    is_missing.then(|| "valgrind is not installed (apt-get install valgrind)".to_owned())
}

fn measured_with() -> Result<Vec<String>> {
    let ask = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(program).arg(argument).output();
        let output = output.with_context(|| format!("cannot start {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(vec![ask("rustc", "--version")?, ask("getconf", "GNU_LIBC_VERSION")?, ask("valgrind", "--version")?])
}

/// Instructions per step of every case.
fn count_all() -> Result<BTreeMap<String, u64>> {
    // A person's own flags would make other counts.
    run(cargo_command(&["build", "--profile", "count", "--package", "cocoon-count"]).env_remove("RUSTFLAGS"))?;
    let target = target_folder()?;
    let program = target.join("count/cocoon-count");
    let listed = Command::new(&program).output().context("cannot start cocoon-count")?;
    let listed = String::from_utf8(listed.stdout).context("the list of cases is no text")?;
    let mut lines = listed.lines();
    let steps: u64 = lines.next().and_then(|line| line.parse().ok()).context("no number of steps")?;
    let file = target.join("count/callgrind.out");
    lines.map(|case| Ok((case.to_owned(), count(&program, case, &file)? / steps))).collect()
}

fn count(program: &Path, case: &str, file: &Path) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_steps*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg(case)
        .output()
        .context("cannot start valgrind")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{case:?} under valgrind ended with {}:\n{words}", output.status);
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok());
    match total {
        None | Some(0) => bail!("callgrind collected nothing for {case:?}: has counted_steps lost its name?"),
        Some(total) => Ok(total),
    }
}

fn table_text(measured_with: &[String], counted: &BTreeMap<String, u64>) -> String {
    let mut text = format!("{TABLE_HEAD}measured_with = {measured_with:?}\n\n[instructions]\n");
    for (case, instructions) in counted {
        let _infallible = writeln!(text, "{case:?} = {instructions}");
    }
    text
}

fn judge(table: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Result<()> {
    let mut findings = Vec::new();
    for (case, &now) in counted {
        let Some(&before) = table.get(case) else {
            findings.push(format!("{case}: {now} instructions, and no line in the table"));
            continue;
        };
        let percent = (now as f64 / before as f64 - 1.0) * 100.0;
        let line = format!("{case}: {now} instructions, {before} in the table ({percent:+.1} %)");
        eprintln!("{line}");
        if now * 100 > before * (100 + TOLERANCE_PERCENT) {
            findings.push(line);
        } else if now * 100 < before * (100 - TOLERANCE_PERCENT) {
            eprintln!("    fewer: keep it with cargo xtask count --update");
        }
    }
    let gone = table.keys().filter(|case| !counted.contains_key(*case));
    findings.extend(gone.map(|case| format!("{case}: a line in the table, and no such case")));
    ensure!(
        findings.is_empty(),
        "hot paths take more instructions; if that is meant, run cargo xtask count --update and say why in the commit:\n{}",
        findings.join("\n")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect()
    }

    #[test]
    fn more_than_the_tolerance_is_a_finding_and_fewer_is_not() {
        let table = counts(&[("a", 1000), ("b", 1000)]);
        judge(&table, &counts(&[("a", 1020), ("b", 500)])).unwrap();
        let error = judge(&table, &counts(&[("a", 1021), ("b", 1000)])).unwrap_err().to_string();
        assert!(error.contains("a: 1021 instructions, 1000 in the table (+2.1 %)"), "{error}");
        assert!(!error.contains("b:"), "{error}");
    }

    #[test]
    fn cases_and_table_must_name_the_same() {
        let (one, two) = (counts(&[("a", 1)]), counts(&[("a", 1), ("b", 1)]));
        assert!(judge(&one, &two).unwrap_err().to_string().contains("no line in the table"));
        assert!(judge(&two, &one).unwrap_err().to_string().contains("no such case"));
    }

    #[test]
    fn the_table_reads_as_it_was_written() {
        let counted = counts(&[("wire: write a frame of 200 B", 1137)]);
        let versions = ["rustc 1".to_owned(), "glibc 2".to_owned()];
        let table: Table = toml::from_str(&table_text(&versions, &counted)).unwrap();
        assert_eq!((table.measured_with, table.instructions), (versions.to_vec(), counted));
    }
}
