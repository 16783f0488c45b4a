//! What can go wrong on the way to the vault, and what must then happen.

use crate::{
    fate::{Fate, Fateful, Trouble, Waits},
    vault::{Key, VaultError, payload::PayloadError},
};
use std::{error::Error, io, path::PathBuf};

/// The record of an upload could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("Cannot {attempt} the record of the upload of {key}")]
pub struct LedgerError {
    pub attempt: &'static str,
    pub key: Key,
    pub fate: Fate,
    pub source: Box<dyn Error + Send + Sync>,
}

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("Told to stop")]
    Stopped,
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("The vault holds other bytes under {key} than are to be stored there")]
    Exists { key: Key },
    #[error("The vault took {key}, but does not hold what was sent")]
    Integrity { key: Key },
    #[error(
        "The upload of {key} was thrown away again by somebody else: a rule that aborts uploads must leave them more days"
    )]
    Vanishing { key: Key },
    #[error("{key} of {size} bytes is larger than any vault takes")]
    TooLarge { key: Key, size: u64 },
    #[error("{path:?} is not what it was when it was made: {why}")]
    Rotten { path: PathBuf, why: String },
    /// What was to be sent could not be read, or is not what it was.
    #[error(transparent)]
    Payload(PayloadError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Fateful for UploadError {
    fn fate(&self) -> Fate {
        match self {
            UploadError::Stopped => Fate::Stopped,
            UploadError::Vault(err) => err.fate(),
            UploadError::Exists { .. }
            | UploadError::Integrity { .. }
            | UploadError::Vanishing { .. }
            | UploadError::TooLarge { .. } => Fate::Operator,
            UploadError::Rotten { .. } | UploadError::Payload(PayloadError::Rotten { .. }) => Fate::Rotten,
            // Gone, shorter than a moment ago, or not to be read from the disk any more.
            UploadError::Payload(PayloadError::Read { source, .. }) => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Fate::Rotten,
                _ if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Fate::Rotten,
                _ => Fate::Retry,
            },
            UploadError::Ledger(err) => err.fate,
        }
    }

    fn waits(&self) -> Waits {
        match self {
            UploadError::Vault(err) => err.waits(),
            _ => self.fate().into(),
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            UploadError::Stopped
            | UploadError::Vault(_)
            | UploadError::Exists { .. }
            | UploadError::Integrity { .. }
            | UploadError::Vanishing { .. }
            | UploadError::TooLarge { .. } => Trouble::Vault,
            UploadError::Rotten { .. } | UploadError::Payload(_) => Trouble::Staging,
            UploadError::Ledger(_) => Trouble::State,
        }
    }
}
