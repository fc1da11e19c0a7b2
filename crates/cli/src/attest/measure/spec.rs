//! The tree of a specification: what of its folder a guest measures.
//!
//! All files but those that `.gitignore` files leave out, and those files themselves; and at the top neither `runtime`, which belongs to whoever starts
//! the guest, nor `spec.tree`, `spec.meta` and `.git`.

use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ::attest::measure::{GitTree, GitTreeId};
use anyhow::{Context, Result, bail, ensure};

use super::ignored::Ignored;

/// Longest file in bytes. A specification has texts.
const FILE_LEN_MAX: u64 = 10 << 20;
/// Folders within folders.
const DEPTH_MAX: usize = 64;

/// The id of a specification's folder.
///
/// # Errors
/// If a file cannot be read, is neither file nor folder, or is too long; or if there is a repository within.
pub(super) fn tree(folder: &Path) -> Result<GitTreeId> {
    let mut walk = Walk { tree: GitTree::default(), ignored: Vec::new() };
    walk.folder(folder, &mut Vec::new())?;
    Ok(walk.tree.id())
}

struct Walk {
    tree: GitTree,
    /// What the folders on the way here leave out, from the top on.
    ignored: Vec<Option<Ignored>>,
}

impl Walk {
    /// Adds what a folder has. `names` are those of the way to it.
    fn folder(&mut self, folder: &Path, names: &mut Vec<String>) -> Result<()> {
        ensure!(names.len() < DEPTH_MAX, "{} is more than {DEPTH_MAX} folders deep", folder.display());
        let cannot = || format!("cannot read {}", folder.display());
        self.ignored.push(ignored_in(folder)?);
        for entry in fs::read_dir(folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                bail!("the name of {} is not UTF-8", path.display())
            };
            let is_at_top = names.is_empty();
            if name == ".gitignore"
                || is_at_top && matches!(&*name, "runtime" | "spec.tree" | "spec.meta" | ".git")
            {
                continue;
            }
            let metadata = entry.metadata().with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(name != ".git", "{} is a repository of its own", folder.display());
            names.push(name);
            if !self.leaves_out(names, metadata.is_dir()) {
                self.entry(&path, &metadata, names)?;
            }
            names.pop();
        }
        self.ignored.pop();
        Ok(())
    }

    fn entry(&mut self, path: &Path, metadata: &Metadata, names: &mut Vec<String>) -> Result<()> {
        if metadata.is_dir() {
            return self.folder(path, names);
        }
        ensure!(metadata.is_file(), "{} is neither a file nor a folder", path.display());
        let len = metadata.len();
        ensure!(
            len <= FILE_LEN_MAX,
            "{} has {len} bytes, at most {FILE_LEN_MAX} are measured",
            path.display()
        );
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_executable = metadata.permissions().mode() & 0o100 != 0;
        Ok(self.tree.add(&names.join("/"), is_executable, &content)?)
    }

    /// Whether a `.gitignore` leaves it out: the deepest that says something of it.
    fn leaves_out(&self, names: &[String], is_folder: bool) -> bool {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let said = self.ignored.iter().enumerate().rev();
        let mut said =
            said.filter_map(|(depth, ignored)| ignored.as_ref()?.leaves_out(&names[depth..], is_folder));
        said.next().unwrap_or(false)
    }
}

fn ignored_in(folder: &Path) -> Result<Option<Ignored>> {
    let path = folder.join(".gitignore");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(Ignored::parse(&text)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    const FILES: [(&str, &str); 4] =
        [("init", "#!/bin/sh\n"), ("units/app", "app\n"), ("units/keep.tmp", "kept\n"), ("a/b/c", "deep\n")];

    #[test]
    fn what_is_left_out_is_as_if_it_were_not_there() {
        let id = tree(folder(&FILES).path()).unwrap();
        let more = [
            (".gitignore", "*.tmp\n!keep.tmp\n/secret\n"),
            ("a/.gitignore", "b/left\n"),
            ("a/b/left", "left out"),
            ("other.tmp", "left out"),
            ("secret/one", "left out"),
            ("runtime/vars", "of whoever starts it"),
            ("spec.tree", "an id"),
            ("spec.meta", "words"),
            (".git/HEAD", "ref"),
        ];
        let whole = folder(&[&FILES[..], &more].concat());
        fs::create_dir(whole.path().join("empty")).unwrap();
        assert_eq!(tree(whole.path()).unwrap(), id);
        // What those names mean at the top only.
        for name in ["units/runtime", "units/spec.tree", "units/secret"] {
            fs::write(whole.path().join(name), "").unwrap();
            assert_ne!(tree(whole.path()).unwrap(), id, "{name}");
            fs::remove_file(whole.path().join(name)).unwrap();
        }
        fs::set_permissions(whole.path().join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(tree(whole.path()).unwrap(), id);
    }

    #[test]
    fn what_git_would_not_measure_so_is_refused() {
        let linked = folder(&FILES);
        symlink("init", linked.path().join("link")).unwrap();
        assert!(tree(linked.path()).unwrap_err().to_string().contains("neither"));
        fs::write(linked.path().join(".gitignore"), "link\n").unwrap();
        assert!(tree(linked.path()).is_ok());

        let nested = folder(&[&FILES[..], &[("units/.git/HEAD", "ref")]].concat());
        assert!(tree(nested.path()).unwrap_err().to_string().contains("repository"));

        let long = folder(&FILES);
        let file = fs::File::create(long.path().join("long")).unwrap();
        file.set_len(FILE_LEN_MAX).unwrap();
        assert!(tree(long.path()).is_ok());
        file.set_len(FILE_LEN_MAX + 1).unwrap();
        assert!(tree(long.path()).unwrap_err().to_string().contains("bytes"));

        assert!(tree(&long.path().join("nowhere")).is_err());
    }
}
