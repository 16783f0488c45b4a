//! How a run ends, and with which exit code.

use crate::{
    fate::Trouble,
    notice::{Monitor, Notice},
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was due is delivered.
    Complete,
    /// It was told to; the rest goes on at the next start.
    Stopped,
    /// Sources are held, and nothing else is left to do.
    Held,
    Trouble(Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    pub ended: Ended,
    /// Entries that were lost or damaged in the passes that this run worked on.
    pub lost: u64,
}

impl Finish {
    pub(super) fn failed(monitor: &dyn Monitor, trouble: Trouble, what: String) -> Finish {
        monitor.notice(&Notice::Trouble { trouble, what, retry_in: None });
        Finish { ended: Ended::Trouble(trouble), lost: 0 }
    }

    pub fn exit_code(self) -> u8 {
        match self.ended {
            Ended::Complete if self.lost > 0 => 3,
            Ended::Complete | Ended::Stopped => 0,
            Ended::Held => Trouble::Source.exit_code(),
            Ended::Trouble(trouble) => trouble.exit_code(),
        }
    }
}
