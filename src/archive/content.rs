//! What the packer must be able to ask of a tree. What is opened is the inode that was walked, or an error.

use super::{
    entry::{Entry, Meta},
    tree::Tree,
};
use crate::path::SourcePath;
use rustix::io::Errno;
use std::{fs::File, io};

pub use super::tree::{OpenError, Xattrs};

pub trait Content {
    /// Fresh metadata of what is at this path now, without following a symlink.
    fn stat(&self, path: &SourcePath) -> io::Result<Meta>;
    /// Opens a file for reading. Only files are ever opened; special files could block or act.
    fn open_file(&self, entry: &Entry) -> Result<File, OpenError>;
    fn read_link(&self, entry: &Entry) -> Result<Vec<u8>, OpenError>;
    /// All xattrs with their values, ACLs among them, in any order; none where the filesystem knows none.
    fn xattrs(&self, entry: &Entry) -> Result<Xattrs, OpenError>;
    /// Something of this entry is about to be asked, or to be read of its content. A sign of life.
    fn beat(&self, _path: &SourcePath) {}
    /// Whether this directory is a mount point that the walk did not enter.
    fn is_left_out(&self, _path: &SourcePath) -> bool {
        false
    }
}

impl Content for Tree {
    fn stat(&self, path: &SourcePath) -> io::Result<Meta> {
        Tree::stat(self, path)
    }

    fn open_file(&self, entry: &Entry) -> Result<File, OpenError> {
        Tree::open_file(self, entry)
    }

    fn read_link(&self, entry: &Entry) -> Result<Vec<u8>, OpenError> {
        Tree::read_link(self, entry)
    }

    fn xattrs(&self, entry: &Entry) -> Result<Xattrs, OpenError> {
        Tree::xattrs(self, entry)
    }

    fn beat(&self, path: &SourcePath) {
        Tree::beat(self, path);
    }

    fn is_left_out(&self, path: &SourcePath) -> bool {
        Tree::is_left_out(self, path)
    }
}

impl From<io::Error> for OpenError {
    fn from(err: io::Error) -> OpenError {
        match Errno::from_io_error(&err) {
            Some(errno) => errno.into(),
            None => OpenError::Unreadable(0),
        }
    }
}
