//! What the packer must be able to ask of a tree. What is opened is the inode that was walked, or an error.

use super::entry::{Entry, Meta};
use crate::{notice::Reason, path::SourcePath};
use std::{fs::File, io};

/// Names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

pub trait Content {
    /// Fresh metadata of what is at this path now, without following a symlink.
    fn stat(&self, path: &SourcePath) -> io::Result<Meta>;
    /// Opens a file for reading. Only files are ever opened; special files could block or act.
    fn open_file(&self, entry: &Entry) -> Result<File, OpenError>;
    fn read_link(&self, entry: &Entry) -> Result<Vec<u8>, OpenError>;
    /// All xattrs with their values, ACLs among them, in any order; none where the filesystem knows none.
    fn xattrs(&self, entry: &Entry) -> Result<Xattrs, OpenError>;
}

/// Why an entry could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("Is gone")]
    Vanished,
    #[error("Is another thing now")]
    Replaced,
    /// With the system's error number.
    #[error("Permission denied")]
    Denied(i32),
    /// With the system's error number.
    #[error("Cannot be read")]
    Unreadable(i32),
}

impl OpenError {
    pub fn reason(self) -> Reason {
        match self {
            OpenError::Vanished => Reason::Vanished,
            OpenError::Replaced => Reason::Replaced,
            OpenError::Denied(_) => Reason::Denied,
            OpenError::Unreadable(_) => Reason::Unreadable,
        }
    }

    pub fn errno(self) -> Option<i32> {
        match self {
            OpenError::Vanished | OpenError::Replaced => None,
            OpenError::Denied(errno) | OpenError::Unreadable(errno) => Some(errno),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(err: io::Error) -> OpenError {
        let errno = err.raw_os_error().unwrap_or(0);
        match err.kind() {
            // A directory above it was replaced by something else: the entry is gone as well.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::Vanished,
            io::ErrorKind::PermissionDenied => OpenError::Denied(errno),
            _ => OpenError::Unreadable(errno),
        }
    }
}
