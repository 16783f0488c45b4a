//! What can go wrong while sealing and opening, and what must happen then.

use super::KeyError;
use crate::fate::{Fate, Fateful, Stopped, Trouble};
use rustix::io::Errno;
use std::{error::Error, io};

#[derive(Debug, thiserror::Error)]
pub enum EncryptError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("Told to stop")]
    Stopped,
    #[error("Cannot read what is to be sealed or opened")]
    Read(#[source] io::Error),
    #[error("Cannot write what was sealed or opened")]
    Write(#[source] io::Error),
    #[error("Cannot seal")]
    Seal(#[source] Box<dyn Error + Send + Sync>),
    #[error("The sealed form is damaged")]
    Damaged(#[source] Box<dyn Error + Send + Sync>),
    /// The keys or the passphrase are others, or the packets that hold the session key are damaged.
    #[error(
        "The keys given do not open it; it is sealed to {}",
        if sealed_to.is_empty() { "nobody".to_owned() } else { sealed_to.join(", ") }
    )]
    NoKey { sealed_to: Vec<String> },
    #[error("gpg opens nothing: {why}")]
    Agent { why: String },
    /// The input ended early, or the sealed form is not as long as it was written.
    #[error("Read {length} bytes instead of {expected}")]
    Length { length: u64, expected: u64 },
    #[error("The sealed form has {length} bytes instead of {expected}: the OpenPGP library cuts other chunks")]
    Layout { length: u64, expected: u64 },
    #[error("A sealed form cannot be gone on with; it must be made from its beginning")]
    Resumed,
    #[error("Nothing was sealed that could be proven")]
    Unmade,
}

impl EncryptError {
    pub(super) fn reading(err: io::Error) -> EncryptError {
        if Stopped::caused(&err) { EncryptError::Stopped } else { EncryptError::Read(err) }
    }

    pub(super) fn writing(err: io::Error) -> EncryptError {
        if Stopped::caused(&err) { EncryptError::Stopped } else { EncryptError::Write(err) }
    }

    pub(super) fn sealing(err: impl Into<Box<dyn Error + Send + Sync>>) -> EncryptError {
        EncryptError::Seal(err.into())
    }
}

/// Whether the disk has lost the bytes, which reading again does not bring back.
fn is_lost(err: &io::Error) -> bool {
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN].map(Errno::raw_os_error);
    err.raw_os_error().is_some_and(|errno| lost.contains(&errno))
}

impl Fateful for EncryptError {
    fn fate(&self) -> Fate {
        match self {
            EncryptError::Key(err) => err.fate(),
            EncryptError::Stopped => Fate::Stopped,
            EncryptError::Read(err) if is_lost(err) => Fate::Rotten,
            EncryptError::Read(_) | EncryptError::Write(_) => Fate::Retry,
            EncryptError::Damaged(_) | EncryptError::Length { .. } => Fate::Rotten,
            EncryptError::NoKey { .. }
            | EncryptError::Agent { .. }
            | EncryptError::Seal(_)
            | EncryptError::Layout { .. }
            | EncryptError::Resumed
            | EncryptError::Unmade => Fate::Operator,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            EncryptError::Key(err) => err.trouble(),
            EncryptError::NoKey { .. } | EncryptError::Agent { .. } => Trouble::Keys,
            EncryptError::Stopped
            | EncryptError::Read(_)
            | EncryptError::Write(_)
            | EncryptError::Damaged(_)
            | EncryptError::Length { .. } => Trouble::Staging,
            EncryptError::Seal(_) | EncryptError::Layout { .. } | EncryptError::Resumed | EncryptError::Unmade => {
                Trouble::Internal
            }
        }
    }
}
