//! What can go wrong with the catalog, by what must be done about it.

use crate::{
    durable::DurableError,
    fate::{Fate, Fateful, Trouble},
};
use rusqlite::{Error as SqlError, ErrorCode};
use std::{
    fmt,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Opened for reading, and not there.
    #[error(
        "There is no catalog at {path:?}: nothing was archived here yet, or it is lost (`archiver rebuild` makes it anew)"
    )]
    Missing { path: PathBuf },
    /// Something is there, and it is not a whole catalog. It is left as it was found.
    #[error("The catalog {path:?} is damaged: {why}; {remedy}")]
    Damaged { path: PathBuf, why: String, remedy: Remedy, source: Option<SqlError> },
    #[error("The catalog {path:?} is of version {found}, and this program knows only {known}; use a newer archiver")]
    Newer { path: PathBuf, found: u32, known: u32 },
    /// What was asked for contradicts what is recorded; nothing was changed.
    #[error("Cannot {attempt} the catalog {path:?}: {why}")]
    Refused { attempt: &'static str, path: PathBuf, why: String },
    /// SQLite could not do it.
    #[error("Cannot {attempt} the catalog {path:?}")]
    Database { attempt: &'static str, path: PathBuf, source: SqlError },
    /// The disk could not do it.
    #[error(transparent)]
    Disk(#[from] DurableError),
}

/// What happens, or must be done, when a catalog is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// There is a copy.
    GoBack,
    /// There is none, or no good one.
    Rebuild,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::GoBack => "the next `archiver run` goes back to the copy of it that lies beside it",
            Remedy::Rebuild => {
                "bring back a newer copy of the state directory, or make the catalog anew from the vault (`archiver \
                 rebuild`) on a machine with the secret key; nothing is begun anew"
            }
        })
    }
}

impl CatalogError {
    pub(super) fn of(attempt: &'static str, path: &Path, err: SqlError) -> CatalogError {
        if shows_damage(&err) {
            CatalogError::damaged(path, "it cannot be read", Some(err))
        } else {
            CatalogError::Database { attempt, path: path.to_owned(), source: err }
        }
    }

    pub(super) fn damaged(path: &Path, why: impl Into<String>, source: Option<SqlError>) -> CatalogError {
        let has_copy = super::open::with_end(path, super::backup::COPY).is_file();
        let remedy = if has_copy { Remedy::GoBack } else { Remedy::Rebuild };
        CatalogError::Damaged { path: path.to_owned(), why: why.into(), remedy, source }
    }
}

impl Fateful for CatalogError {
    fn fate(&self) -> Fate {
        use CatalogError::{Damaged, Database, Disk, Missing, Newer, Refused};
        match self {
            Missing { .. } | Damaged { .. } | Newer { .. } | Refused { .. } => Fate::Operator,
            Disk(err) => match err.source.kind() {
                std::io::ErrorKind::PermissionDenied
                | std::io::ErrorKind::ReadOnlyFilesystem
                | std::io::ErrorKind::NotADirectory => Fate::Operator,
                _ => Fate::Retry,
            },
            Database { source, .. } => match source.sqlite_error_code() {
                Some(
                    ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::OutOfMemory
                    // Too many open files, mostly; what is not there or not ours was found before.
                    | ErrorCode::CannotOpen,
                ) => Fate::Retry,
                _ => Fate::Operator,
            },
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            // Statements and types that do not fit are written in this room.
            CatalogError::Database { source, .. }
                if matches!(
                    source.sqlite_error_code(),
                    None | Some(ErrorCode::Unknown | ErrorCode::ApiMisuse | ErrorCode::ConstraintViolation)
                ) =>
            {
                Trouble::Internal
            }
            _ => Trouble::State,
        }
    }
}

/// Whether the file says what this program never wrote.
fn shows_damage(err: &SqlError) -> bool {
    match err {
        SqlError::FromSqlConversionFailure(..)
        | SqlError::IntegralValueOutOfRange(..)
        | SqlError::InvalidColumnType(..)
        | SqlError::Utf8Error(..) => true,
        err => {
            matches!(err.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        }
    }
}

/// Why a transaction was rolled back.
pub(super) enum Fail {
    Sql(SqlError),
    Refused(String),
}

impl From<SqlError> for Fail {
    fn from(err: SqlError) -> Fail {
        Fail::Sql(err)
    }
}
