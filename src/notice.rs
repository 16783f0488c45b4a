//! What is told: exceptions of single entries, and the happenings that log, mail and status are drawn from.

use crate::{fate::Trouble, name::PieceName, path::SourcePath};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// Whether data was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing that a restore would miss: a socket, a file that vanished.
    Info,
    /// A restore would miss it, or bring it back damaged. Makes exit 3.
    Loss,
}

/// Why an entry was not archived clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Sockets cannot be archived and are made again by their owner.
    Socket,
    /// Was listed and is gone.
    Vanished,
    /// A mount point whose inside was left out by `one_file_system`, or a pseudo filesystem.
    Mount,
    /// Only grew while being read; archived as it was at the beginning.
    Grew,
    /// Changed while being read, as often as it was tried; archived as read.
    Changed,
    /// Came short, or could not be read to its end; archived padded with zeros.
    Damaged,
    /// Permission denied; not archived.
    Denied,
    /// Could not be listed, examined or opened; not archived.
    Unreadable,
    /// Became another thing between being listed and being opened, as often as it was tried; not archived.
    Replaced,
    /// Archived, but stock GNU tar cannot unpack a path this long.
    Deep,
    /// Archived, but part of its metadata could not be read or stored.
    Metadata,
}

impl Reason {
    pub fn severity(self) -> Severity {
        match self {
            Reason::Socket | Reason::Vanished | Reason::Mount | Reason::Grew | Reason::Deep => Severity::Info,
            Reason::Changed
            | Reason::Damaged
            | Reason::Denied
            | Reason::Unreadable
            | Reason::Replaced
            | Reason::Metadata => Severity::Loss,
        }
    }

    /// Whether the entry is in the archive all the same.
    pub fn is_archived(self) -> bool {
        matches!(self, Reason::Grew | Reason::Changed | Reason::Damaged | Reason::Deep | Reason::Metadata)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Socket => "socket",
            Reason::Vanished => "vanished",
            Reason::Mount => "mount",
            Reason::Grew => "grew",
            Reason::Changed => "changed",
            Reason::Damaged => "damaged",
            Reason::Denied => "denied",
            Reason::Unreadable => "unreadable",
            Reason::Replaced => "replaced",
            Reason::Deep => "deep",
            Reason::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entry that was not archived clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub path: SourcePath,
    pub reason: Reason,
    /// The system's error number, where there was one.
    pub errno: Option<i32>,
    /// A sentence for people, without the path.
    pub detail: String,
}

impl Exception {
    pub fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

/// The steps in the life of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    Pack,
    Compress,
    Encrypt,
    Upload,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Pack => "pack",
            Step::Compress => "compress",
            Step::Encrypt => "encrypt",
            Step::Upload => "upload",
        }
    }
}

/// A setting that is another from now on; absent where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(f, "{}: {} -> {}", self.key, shown(&self.old), shown(&self.new))
    }
}

/// What a pass came to, beside what its notice says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassReport {
    /// Archived, but changed or damaged.
    pub changed: u64,
    /// Left out by rules.
    pub excluded: u64,
    /// Not archived, with a reason.
    pub skipped: u64,
    /// Of all pieces, as tar and as they are in the vault.
    pub tar_bytes: u64,
    pub sealed_bytes: u64,
    /// From its begin to its end, waits and restarts included.
    pub took: Duration,
    /// Dollars for keeping it, where prices are known.
    pub a_month: Option<f64>,
    /// The first that were lost or damaged: path and reason.
    pub losses: Vec<String>,
}

/// A happening. Told once; log line, mail and status are drawn from it.
#[derive(Clone, Debug)]
pub enum Notice {
    Started {
        version: &'static str,
    },
    Stopping {
        why: String,
    },
    PassStarted {
        source: String,
        pass: String,
        resumed: bool,
    },
    PassHeld {
        source: String,
        why: String,
    },
    /// `next`: when the next pass is due, if ever.
    NothingDue {
        source: String,
        last: String,
        next: Option<String>,
    },
    PassEnded {
        source: String,
        pass: String,
        pieces: u64,
        entries: u64,
        archived: u64,
        lost: u64,
        clean: bool,
        report: PassReport,
    },
    EntryException {
        source: String,
        exception: Exception,
    },
    StepStarted {
        step: Step,
        piece: PieceName,
        len: u64,
        resumed_at: u64,
    },
    StepEnded {
        step: Step,
        piece: PieceName,
        input_len: u64,
        output_len: u64,
        took: Duration,
    },
    PieceRotten {
        piece: PieceName,
        why: String,
    },
    WaitingForSpace {
        step: Step,
        wanted: u64,
        free: u64,
    },
    WaitingForWindow {
        opens: String,
    },
    /// What was asked of this entry, or of the disk that takes it, has had no answer since then.
    StandsStill {
        source: String,
        path: SourcePath,
        since: String,
    },
    /// Nothing at all has moved for so long although work waits.
    Silent {
        quiet: Duration,
    },
    GoesOn {
        source: String,
        path: SourcePath,
        took: Duration,
    },
    /// The catalog knows less than happened, and catches up before anything else is done.
    CatalogBehind {
        why: String,
    },
    /// `pieces`: of which it did not know.
    CatalogCaughtUp {
        pieces: u64,
    },
    /// The run ends while this does not.
    LeftBehind {
        what: String,
    },
    Trouble {
        trouble: Trouble,
        what: String,
        retry_in: Option<Duration>,
    },
    Recovered {
        trouble: Trouble,
    },
    /// An operator told these to rest, and nothing else; what is under way is ended first.
    Paused {
        parts: Vec<String>,
    },
    /// The configuration was read again, and holds. `restart`: keys that are taken only by the next start.
    SettingsTaken {
        changes: Vec<SettingChange>,
        restart: Vec<String>,
    },
    /// The configuration file says something else than what holds, and nobody has told to take it. `how`: the keys, or
    /// what is wrong with it.
    SettingsDiffer {
        how: String,
        remedy: &'static str,
    },
    /// It says what holds again, without having been taken.
    SettingsAgree,
    /// The configuration was read again, and is wrong: the one before holds.
    SettingsRefused {
        why: String,
    },
}

/// Hears what happens. Implementations must be quick: stages call it between buffers.
pub trait Monitor: Send + Sync {
    fn notice(&self, notice: &Notice);
    /// Bytes of input that a step has worked through, for bars and rates; called often.
    fn progress(&self, _step: Step, _bytes: u64) {}
    /// Nothing has to move now: nothing is due, or uploads may not go and are not stuck. Told every few seconds while that is so.
    fn rests(&self) {}
}

/// Hears nothing; for tests and dry runs.
pub struct Silent;

impl Monitor for Silent {
    fn notice(&self, _: &Notice) {}
}
