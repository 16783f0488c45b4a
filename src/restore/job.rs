//! A restore as it stands in the catalog: what was asked for and agreed to, and how far it has come. It outlives the
//! process that works on it, and the machine's next start.

use crate::{
    name::{PassId, SourceName},
    path::SourcePath,
    price::Tier,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub begun: Timestamp,
    pub source: SourceName,
    pub pass: PassId,
    /// As they were asked for.
    pub paths: Vec<SourcePath>,
    /// As they were typed.
    #[serde(default)]
    pub patterns: Vec<String>,
    pub to: PathBuf,
    pub tier: Tier,
    /// For which thawed copies are kept.
    pub days: u32,
    /// What the line carries, bytes a second, as whoever asked said.
    pub line: Option<u64>,
    pub overwrite: bool,
    /// What it was agreed that it may cost, dollars.
    pub cost: Option<f64>,
    /// From a catalog that was made of the vault for this.
    pub from_vault: bool,
    /// A unit of its own works on it.
    pub detached: bool,
    /// What was asked for at another tier is to be made faster.
    #[serde(default)]
    pub hurry: bool,
    /// Of the directory to which it goes, once that is there: another in its place may be a mount point without its disk.
    #[serde(default)]
    pub to_inode: Option<u64>,
    pub state: JobState,
    /// What it is at, or what came of it.
    pub phase: String,
    /// Pieces that it takes, and those that are done.
    pub pieces: u64,
    pub pieces_done: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Not done, whether a process works on it at this moment or not.
    Open,
    /// All came back as it was.
    Complete,
    /// All that could come back did.
    Incomplete,
    Cancelled,
}

impl JobState {
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Open => "open",
            JobState::Complete => "complete",
            JobState::Incomplete => "incomplete",
            JobState::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("The record of the restore {id:?} is damaged, or of a newer version")]
pub struct JobError {
    id: String,
    source: serde_json::Error,
}

/// As it is stored. A later version becomes another variant.
#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Stored {
    #[serde(rename = "1")]
    V1(Job),
}

impl Job {
    pub fn new_id(now: Timestamp) -> String {
        // Unlike any other, and what systemd takes for the name of an instance as it is.
        format!("{}-{}", PassId::at(now), &crate::pipeline::random_id()[..4])
    }

    pub fn record(&self) -> String {
        serde_json::to_string(&Stored::V1(self.clone())).expect("a job has nothing that JSON has not")
    }

    pub fn of(id: &str, record: &str) -> Result<Job, JobError> {
        let Stored::V1(job) = serde_json::from_str(record).map_err(|source| JobError { id: id.to_owned(), source })?;
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = r#"{"version":"1","id":"20261126T120000Z-00ff","begun":"2026-11-26T12:00:00Z","source":"data","pass":"20261120T200000Z","paths":["a/b"],"patterns":["*.jpg"],"to":"/srv/back","tier":"bulk","days":7,"line":null,"overwrite":false,"cost":1.5,"from_vault":false,"detached":true,"hurry":false,"to_inode":7,"state":"open","phase":"thawing","pieces":3,"pieces_done":1}"#;

    #[test]
    fn version_1_is_read_and_written_as_it_is() {
        let job = Job::of("x", V1).unwrap();
        assert_eq!(job.record(), V1);
        assert_eq!((job.paths.len(), job.state, job.tier), (1, JobState::Open, Tier::Bulk));
    }

    #[test]
    fn another_version_is_refused() {
        let err = Job::of("x", &V1.replace(r#""version":"1""#, r#""version":"2""#)).unwrap_err();
        assert!(err.to_string().contains("newer version"), "{err}");
        assert!(Job::of("x", "{}").is_err());
    }
}
