//! What is wrong with a configuration. Everything that is found is told at once.

use serde::Serialize;
use std::{collections::BTreeMap, fmt, fmt::Write, io, path::Path, path::PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From 1; `None` where the file has no line for it, because a whole section is missing.
    pub line: Option<usize>,
    /// `staging.cap`; of sources `source.path`, whichever of them the line is in; empty when the file as such is wrong.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Why there are no settings. `Invalid` shows one problem per line, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("Cannot read the configuration {file:?}")]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}", shown(file, problems))]
    Invalid { file: PathBuf, problems: Vec<Problem> },
}

impl ConfigError {
    /// Sorts the problems by line; those without a line come last.
    pub fn invalid(file: &Path, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by_key(|problem| (problem.line.is_none(), problem.line));
        ConfigError::Invalid { file: file.to_owned(), problems }
    }

    /// None when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            ConfigError::Unreadable { .. } => &[],
            ConfigError::Invalid { problems, .. } => problems,
        }
    }
}

/// `staging.cap: must be …`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.key, self.what) }
    }
}

/// `archiver.toml:12: staging.cap: must be …`, one per line, without a line break at the end.
fn shown(file: &Path, problems: &[Problem]) -> String {
    let mut text = String::new();
    for (n, problem) in problems.iter().enumerate() {
        let separator = if n == 0 { "" } else { "\n" };
        let line = problem.line.map(|line| format!("{line}:")).unwrap_or_default();
        // Writing into a string does not fail.
        let _ = write!(text, "{separator}{}:{line} {problem}", file.display());
    }
    text
}

/// A file that the configuration names and that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRef {
    pub line: Option<usize>,
    pub key: String,
    pub path: PathBuf,
    pub kind: FileKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Nobody but its owner may read it.
    Secret,
    /// Kept by systemd, which sees to who may read it; its mode shows an ACL as a group's right.
    Credential,
    Public,
}

/// What is collected while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub problems: Vec<Problem>,
    pub lines: Places,
    pub files: Vec<FileRef>,
}

/// Where each key stands: `staging.cap`, `source[0].path`, `encrypt.recipients[1]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(BTreeMap<String, usize>);

impl Places {
    pub fn insert(&mut self, place: String, line: usize) {
        self.0.insert(place, line);
    }

    /// `None` for keys that the file leaves to their defaults.
    pub fn line(&self, place: &str) -> Option<usize> {
        self.0.get(place).copied()
    }
}

impl Found {
    pub fn problem(&mut self, line: Option<usize>, key: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { line, key: key.into(), what: what.into() });
    }

    /// Whether the key is known to be wrong: rules about it and others would only repeat that.
    pub fn blames(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }
}
