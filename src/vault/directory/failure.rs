//! What can go wrong in a directory, and which cause that is.

use crate::{
    durable::DurableError,
    vault::{Cause, VaultError},
};
use rustix::io::Errno;
use std::{fmt::Display, io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("The vault {0:?} is not there; perhaps its disk is not mounted")]
    NotReached(PathBuf),
    #[error("The mark {0:?} is damaged, or of a newer version of this program")]
    Mark(PathBuf),
    #[error("There is no such thing")]
    Gone,
    #[error("The key exists")]
    Exists,
    #[error("{0}")]
    Mismatch(String),
    #[error("{path:?} {why}")]
    InTheWay { path: PathBuf, why: &'static str },
    #[error("A component of the key is longer than a file name can be")]
    TooLong,
    #[error("Nobody waits for it any more")]
    GivenUp,
    #[error(transparent)]
    Disk(#[from] DurableError),
}

impl Failure {
    /// Whether a file or directory was not there.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Failure::Disk(err) if absent(&err.source))
    }

    pub(super) fn of(self, attempt: &'static str, key: impl Display) -> VaultError {
        VaultError::new(attempt, key, self.cause(), self)
    }

    fn cause(&self) -> Cause {
        match self {
            Failure::NotReached(_) => Cause::Network,
            Failure::Mark(_) | Failure::TooLong => Cause::Permission,
            Failure::Gone => Cause::Gone,
            Failure::Exists | Failure::InTheWay { .. } => Cause::Exists,
            Failure::Mismatch(_) => Cause::Integrity,
            Failure::GivenUp => Cause::Other,
            Failure::Disk(err) => disk_cause(&err.source),
        }
    }
}

/// Whether a path names nothing: also where a directory on the way to it is a file.
pub(super) fn absent(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn disk_cause(err: &io::Error) -> Cause {
    match Errno::from_io_error(err) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO | Errno::ROFS | Errno::UCLEAN) => Cause::Storage,
        Some(Errno::ACCESS | Errno::PERM) => Cause::Permission,
        // A disk that was pulled, a server that is away, a FUSE filesystem whose process died.
        Some(
            Errno::NODEV
            | Errno::NXIO
            | Errno::STALE
            | Errno::NOTCONN
            | Errno::TIMEDOUT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::CONNABORTED
            | Errno::CONNREFUSED
            | Errno::CONNRESET,
        ) => Cause::Network,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::at;
    use std::path::Path;

    #[test]
    fn a_full_failing_or_read_only_disk_is_storage_and_a_lost_one_is_not_reached() {
        let cause = |errno: Errno| Failure::from(at("write", Path::new("data"))(errno.into())).cause();
        for errno in [Errno::NOSPC, Errno::IO, Errno::ROFS, Errno::DQUOT] {
            assert_eq!(cause(errno), Cause::Storage);
        }
        for errno in [Errno::NODEV, Errno::STALE, Errno::NOTCONN] {
            assert_eq!(cause(errno), Cause::Network);
        }
        assert_eq!((cause(Errno::ACCESS), cause(Errno::MFILE)), (Cause::Permission, Cause::Other));
    }
}
