//! The id that git would give a folder, with SHA-256 in the place of SHA-1 (`gitformat-index(5)`, `git init --object-format=sha256`).

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::measurements::Hex;

/// The id of a folder.
pub type GitTreeId = Hex<32>;

/// A folder's files, by their hashes. Empty folders do not exist for git.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitTree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File { is_executable: bool, id: [u8; 32] },
    Folder(GitTree),
}

/// A file that cannot be part of a folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot be part of a tree: names are not empty, and each is one file or one folder")]
pub struct GitTreeError {
    path: String,
}

impl GitTree {
    /// Adds a file. Its path is relative, with slashes.
    ///
    /// # Errors
    /// [`GitTreeError`] if there can be no such file, or there is one already.
    pub fn add(&mut self, path: &str, is_executable: bool, content: &[u8]) -> Result<(), GitTreeError> {
        let impossible = || GitTreeError { path: path.to_owned() };
        if !path.split('/').all(is_name) {
            return Err(impossible());
        }
        let mut folders: Vec<&str> = path.split('/').collect();
        let name = folders.pop().unwrap_or_default();
        let mut at = self;
        for folder in folders {
            let entry = at.entries.entry(folder.to_owned()).or_insert_with(|| Entry::Folder(Self::default()));
            let Entry::Folder(folder) = entry else { return Err(impossible()) };
            at = folder;
        }
        if at.entries.contains_key(name) {
            return Err(impossible());
        }
        let id = object("blob", content);
        at.entries.insert(name.to_owned(), Entry::File { is_executable, id });
        Ok(())
    }

    /// The folder's id.
    #[must_use]
    pub fn id(&self) -> GitTreeId {
        Hex::new(self.hash())
    }

    fn hash(&self) -> [u8; 32] {
        let mut entries: Vec<_> = self.entries.iter().collect();
        // Git sorts folders as if their names ended with a slash.
        entries.sort_by_cached_key(|(name, entry)| match entry {
            Entry::File { .. } => (*name).clone(),
            Entry::Folder(_) => format!("{name}/"),
        });
        let mut content = Vec::new();
        for (name, entry) in entries {
            let (mode, id) = match entry {
                Entry::File { is_executable: false, id } => ("100644", *id),
                Entry::File { is_executable: true, id } => ("100755", *id),
                Entry::Folder(folder) => ("40000", folder.hash()),
            };
            content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            content.extend(id);
        }
        object("tree", &content)
    }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('\0')
}

fn object(kind: &str, content: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{kind} {}\0", content.len()));
    hash.update(content);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, bool, &str)]) -> GitTree {
        let mut tree = GitTree::default();
        for (path, is_executable, content) in files {
            tree.add(path, *is_executable, content.as_bytes()).unwrap();
        }
        tree
    }

    /// Ids by git 2.47.3: `git init --object-format=sha256`, `git add`, `git write-tree`.
    #[test]
    fn ids_are_those_of_git() {
        let empty = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321";
        assert_eq!(tree(&[]).id().to_string(), empty);
        let files = [
            ("init", true, "#!/bin/sh\necho hello\n"),
            ("units/app.service", false, "[Unit]\n"),
            // Sorted as `units-more`, `units.more`, `units/`, `units0`.
            ("units-more", false, ""),
            ("units.more", false, "dot\n"),
            ("units0", false, "zero\n"),
            ("templates/a/b/deep", false, "deep\n"),
        ];
        assert_eq!(
            tree(&files).id().to_string(),
            "3b603d459c544a03387301903ec89f0877997aab1535f79f432d916311819947"
        );
        let mut turned = files;
        turned.reverse();
        assert_eq!(tree(&turned).id(), tree(&files).id(), "the order of adding is none of git's business");
    }

    #[test]
    fn every_change_is_another_id() {
        let files = [("init", true, "a"), ("units/app", false, "b")];
        let id = tree(&files).id();
        for other in [
            tree(&[("init", false, "a"), ("units/app", false, "b")]),
            tree(&[("init", true, "a"), ("units/app", false, "c")]),
            tree(&[("init", true, "a"), ("units/application", false, "b")]),
            tree(&[("init", true, "a"), ("unit/app", false, "b")]),
            tree(&[("init", true, "a")]),
            tree(&[("init", true, "a"), ("units/app", false, "b"), ("more", false, "")]),
        ] {
            assert_ne!(other.id(), id);
        }
    }

    #[test]
    fn impossible_files_are_refused() {
        let mut whole = tree(&[("init", true, "a"), ("units/app", false, "b")]);
        for path in ["", "/init", "units/", "a//b", "../x", "a/./b", "init", "init/x", "units", "a\0b"] {
            assert!(whole.add(path, false, b"").is_err(), "{path:?}");
        }
    }
}
