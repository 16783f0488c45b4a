//! What ends the packing of a piece. What spoils one entry only is an exception in its record instead.

use crate::{
    archive::{content::OpenError, items::Items},
    fate::{Fate, Fateful, Stopped, Trouble},
};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("Told to stop")]
    Stopped,
    #[error("Cannot write the {what} of the piece")]
    Write {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// Nothing is wrong with the entry that it met.
    #[error("Cannot open what is to be packed for want of resources")]
    Exhausted(#[source] OpenError),
    #[error("Cannot record how far the piece has come")]
    Mark(#[source] io::Error),
    #[error("Cannot go on with the {what} of the piece: {why}")]
    Rotten { what: &'static str, why: &'static str },
    /// Nothing is packed: the first entry needs more room than a piece has, and must be cut into segments.
    #[error("The first file of the piece needs {needs} bytes, more than a piece may have")]
    TooLarge {
        /// All items of the plan, that file with its metadata of now.
        handed_back: Box<Items>,
        /// Bytes of a tar that holds it, with headers, ancestors and end. More than an estimate says when the file has large
        /// xattrs: it must be cut into segments even if it seems to fit.
        needs: u64,
    },
}

impl PackError {
    /// An error of the caller's `mark`.
    pub(super) fn mark(err: io::Error) -> PackError {
        if Stopped::caused(&err) { PackError::Stopped } else { PackError::Mark(err) }
    }
}

impl Fateful for PackError {
    fn fate(&self) -> Fate {
        match self {
            PackError::Stopped => Fate::Stopped,
            PackError::Write { .. } | PackError::Mark(_) | PackError::Exhausted(_) => Fate::Retry,
            // Another plan is needed.
            PackError::Rotten { .. } | PackError::TooLarge { .. } => Fate::Rotten,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            PackError::Stopped | PackError::Exhausted(_) => Trouble::Internal,
            PackError::Write { .. } | PackError::Mark(_) | PackError::Rotten { .. } => Trouble::Staging,
            PackError::TooLarge { .. } => Trouble::Source,
        }
    }
}
