//! What a `.gitignore` leaves out (`gitignore(5)`). Of its language `[…]` and `\` are not understood, and refused: a file that is left out here
//! and not by git, or the other way round, would be another hash.

use anyhow::{Result, ensure};

/// The lines of one file. They are about its own folder and those below.
pub(super) struct Ignored(Vec<Pattern>);

struct Pattern {
    /// With `!` before it: what an earlier one leaves out stays.
    stays: bool,
    /// With `/` behind it.
    is_for_folders: bool,
    /// Names between slashes; a pattern for any depth begins with `**`.
    names: Vec<String>,
}

impl Ignored {
    /// Reads a file.
    ///
    /// # Errors
    /// If it says something that is not understood.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(|line| line.trim_end_matches(' '));
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Pattern::parse)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Whether it leaves out what has these names, from its own folder on; `None` if it says nothing of it.
    pub(super) fn leaves_out(&self, names: &[&str], is_folder: bool) -> Option<bool> {
        let last = self.0.iter().rev().find(|pattern| pattern.is_for(names, is_folder))?;
        Some(!last.stays)
    }
}

impl Pattern {
    fn parse(line: &str) -> Result<Self> {
        ensure!(
            !line.contains(['[', '\\', '\r']),
            "{line:?} of a .gitignore has a bracket, a backslash or a carriage return, which are not understood here"
        );
        let (stays, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line));
        let (is_for_folders, line) = line.strip_suffix('/').map_or((false, line), |line| (true, line));
        let is_anchored = line.contains('/');
        let mut names: Vec<String> = line.trim_start_matches('/').split('/').map(str::to_owned).collect();
        ensure!(!names.iter().any(String::is_empty), "{line:?} of a .gitignore names nothing");
        if !is_anchored {
            names.insert(0, "**".to_owned());
        }
        Ok(Self { stays, is_for_folders, names })
    }

    fn is_for(&self, names: &[&str], is_folder: bool) -> bool {
        (is_folder || !self.is_for_folders) && path_matches(&self.names, names)
    }
}

fn path_matches(pattern: &[String], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        // At the end all that is inside; elsewhere any number of folders.
        (Some((first, [])), Some(_)) if first == "**" => true,
        (Some((first, rest)), _) if first == "**" => {
            !rest.is_empty() && (0..=names.len()).any(|skipped| path_matches(rest, &names[skipped..]))
        }
        (Some((first, rest)), Some((name, below))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            name_matches(&first, &name) && path_matches(rest, below)
        }
        _ => false,
    }
}

fn name_matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skipped| name_matches(rest, &name[skipped..])),
        (Some(('?', rest)), Some((_any, below))) => name_matches(rest, below),
        (Some((first, rest)), Some((same, below))) => first == same && name_matches(rest, below),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What git 2.47.3 does with the same lines and files.
    #[test]
    fn lines_mean_what_they_mean_to_git() {
        let of = |lines: &str, path: &str| {
            let (is_folder, path) = path.strip_suffix('/').map_or((false, path), |path| (true, path));
            let names: Vec<&str> = path.split('/').collect();
            Ignored::parse(lines).unwrap().leaves_out(&names, is_folder)
        };
        for (lines, path, expected) in [
            ("*.log", "a.log", Some(true)),
            ("*.log", "deep/er/a.log", Some(true)),
            ("*.log", "a.logs", None),
            ("/a.log", "a.log", Some(true)),
            ("/a.log", "deep/a.log", None),
            ("build/", "build/", Some(true)),
            ("build/", "deep/build/", Some(true)),
            ("build/", "build", None),
            ("deep/build", "deep/build", Some(true)),
            ("deep/build", "more/deep/build", None),
            ("**/build", "more/deep/build", Some(true)),
            ("**/build", "build", Some(true)),
            ("deep/**/x", "deep/x", Some(true)),
            ("deep/**/x", "deep/a/b/x", Some(true)),
            ("deep/**", "deep/", None),
            ("deep/**", "deep/a", Some(true)),
            ("a?c", "abc", Some(true)),
            ("a?c", "ac", None),
            ("*", "anything", Some(true)),
            ("*.log\n!keep.log", "keep.log", Some(false)),
            ("!keep.log\n*.log", "keep.log", Some(true)),
            ("# *.log\n\n*.tmp  ", "a.log", None),
            ("# *.log\n\n*.tmp  ", "a.tmp", Some(true)),
        ] {
            assert_eq!(of(lines, path), expected, "{lines:?} {path}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for lines in ["[ab]", "a\\ ", "a\r", "/", "a//b"] {
            assert!(Ignored::parse(lines).is_err(), "{lines:?}");
        }
    }
}
