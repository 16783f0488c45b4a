//! Holding what is archived against what it came from, and against what was recorded when it was delivered: the source,
//! the vault as it tells of itself, and pieces that are fetched and opened.

pub mod batch;
pub mod compare;
pub mod deep;
pub mod local;
pub mod prove;
pub mod vault;

use crate::path::SourcePath;
use std::fmt;

/// What is wrong with something, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is another one since, and says so; nothing is lost.
    Changed,
    /// It is there, and nobody could look at it.
    Unproven,
    Missing,
    /// It says that it is the same, and is not.
    Damaged,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Changed => "changed",
            Verdict::Unproven => "unproven",
            Verdict::Missing => "missing",
            Verdict::Damaged => "damaged",
        }
    }
}

/// Of what something is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Entry(SourcePath),
    /// By its key.
    Object(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Entry(path) => path.fmt(f),
            Subject::Object(key) => f.write_str(key),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub subject: Subject,
    pub why: String,
}

impl Finding {
    pub fn entry(verdict: Verdict, path: &SourcePath, why: impl Into<String>) -> Finding {
        Finding { verdict, subject: Subject::Entry(path.clone()), why: why.into() }
    }

    pub fn object(verdict: Verdict, key: impl fmt::Display, why: impl Into<String>) -> Finding {
        Finding { verdict, subject: Subject::Object(key.to_string()), why: why.into() }
    }
}
