//! Rules that no compiler checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The layers of `ARCHITECTURE.md`: a crate depends only on crates of smaller numbers.
const LAYERS: &[(&str, u32)] = &[
    ("cocoon-units", 0),
    ("cocoon-attest", 1),
    ("cocoon-wire", 1),
    ("cocoon-ton", 1),
    ("cocoon-ledger", 2),
    ("cocoon-market", 2),
    ("cocoon-sim", 2),
    ("cocoon-evidence", 3),
    ("cocoon-admin", 4),
    ("cocoon-chain", 4),
    ("cocoon-devnet", 4),
    ("cocoon-engine", 4),
    ("cocoon-gateway", 4),
    ("cocoon-transport", 4),
    ("cocoon-node", 5),
    ("cocoon-bench", 6),
    ("cocoon-client", 6),
    ("cocoon-proxy", 6),
    ("cocoon-router", 6),
    ("cocoon-worker", 6),
    ("cocoon", 7),
    ("cocoon-count", 7),
    ("cocoon-hostile", 7),
    ("xtask", 7),
];

/// Checks the tree and lists everything that breaks a rule.
///
/// # Errors
/// If a rule is broken.
pub(crate) fn check() -> Result<()> {
    let mut findings = Vec::new();
    let root = crate::root()?;
    let packages = workspace_packages()?;
    layers(&packages, &mut findings);
    reasons(&packages, &root, &mut findings)?;
    let tracked = tracked(&root)?;
    texts(&root, &tracked, &mut findings);
    npm_versions(&root, &tracked, &mut findings)?;
    ensure!(findings.is_empty(), "the tree is not tidy:\n{}", findings.join("\n"));
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` and `build` dependencies may point anywhere; only what ships follows the layers.
    kind: Option<String>,
    path: Option<String>,
}

fn workspace_packages() -> Result<Vec<Package>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(crate::root()?)
        .output()
        .context("cannot start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    Ok(metadata.packages)
}

fn layers(packages: &[Package], findings: &mut Vec<String>) {
    let layer_of: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    for package in packages {
        let Some(layer) = layer_of.get(package.name.as_str()) else {
            findings
                .push(format!("{}: give it a layer in xtask/src/tidy.rs and ARCHITECTURE.md", package.name));
            continue;
        };
        let shipped = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
        for dependency in shipped.filter(|dependency| dependency.path.is_some()) {
            if layer_of.get(dependency.name.as_str()).is_none_or(|below| below >= layer) {
                findings.push(format!("{} must not depend on {}: layers", package.name, dependency.name));
            }
        }
    }
}

/// Every direct dependency from outside has its reason in `ARCHITECTURE.md`, as `` `name` ``.
fn reasons(packages: &[Package], root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    let outside = packages.iter().flat_map(|package| &package.dependencies).filter(|d| d.path.is_none());
    let mut names: Vec<&str> = outside.map(|dependency| dependency.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| !page.contains(&format!("`{name}`"))) {
        findings.push(format!("ARCHITECTURE.md gives no reason for the dependency {name}"));
    }
    Ok(())
}

/// Names of the files that git keeps.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8_lossy(&listed.stdout);
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Text rules for tracked files: no unfinished marks, no absolute paths of a machine.
fn texts(root: &Path, tracked: &[String], findings: &mut Vec<String>) {
    for name in tracked {
        if name == "xtask/src/tidy.rs" || name == "Cargo.lock" {
            continue;
        }
        // Binary files (the demo model, seeds, vectors) have no text rules.
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for mark in
                ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "/work/main", "/work/shared", "/root/."]
            {
                if line.contains(mark) {
                    findings.push(format!("{name}:{}: {mark:?} does not belong here", number + 1));
                }
            }
        }
    }
}

/// Folders with a `package.json` are installed apart, and use exactly one version of each package all the same: what the
/// contracts' tests call TON is what the devnet is compared with.
fn npm_versions(root: &Path, tracked: &[String], findings: &mut Vec<String>) -> Result<()> {
    #[derive(Deserialize)]
    struct Npm {
        #[serde(rename = "devDependencies", default)]
        dev_dependencies: BTreeMap<String, String>,
    }
    let mut first: BTreeMap<String, (String, &str)> = BTreeMap::new();
    for name in tracked.iter().filter(|name| name.ends_with("package.json")) {
        let text = fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))?;
        let npm: Npm = serde_json::from_str(&text).with_context(|| format!("cannot read {name}"))?;
        for (package, version) in npm.dev_dependencies {
            if !version.starts_with(|c: char| c.is_ascii_digit()) {
                findings.push(format!("{name}: {package} {version:?} is no exact version"));
            }
            let (other, place) = first.entry(package.clone()).or_insert_with(|| (version.clone(), name));
            if *other != version {
                findings.push(format!("{package} is {other} in {place} and {version} in {name}: pin one"));
            }
        }
    }
    Ok(())
}
