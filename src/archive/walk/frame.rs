//! One directory that the walk is in, and why an entry is skipped.

use super::listing::Listing;
use crate::{
    archive::{
        entry::{Kind, Meta},
        filter::Filter,
        tree::{self, OpenError, SourceError, Stat, Tree},
    },
    notice::{Exception, Reason},
    path::SourcePath,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, FileType},
    io::Errno,
};

pub struct Frame {
    pub path: SourcePath,
    pub listing: Listing,
    /// Index of the name that comes next.
    pub next: usize,
    pub stat: Stat,
    /// Holds the tag file, so all else in it is left out.
    pub is_tagged: bool,
    /// Let go of when the walk is far below.
    fd: Option<OwnedFd>,
    /// Why it could not be opened again.
    lost: Option<Failure>,
}

impl Frame {
    /// Lists a directory that was just opened.
    pub fn new(path: SourcePath, fd: OwnedFd, stat: Stat, filter: &Filter, buf: &mut Vec<u8>) -> Result<Frame, Errno> {
        let listing = Listing::read(fd.as_fd(), buf)?;
        let is_tagged = filter.tag().is_some_and(|tag| is_tagged(fd.as_fd(), &listing, tag));
        Ok(Frame { path, listing, next: 0, stat, is_tagged, fd: Some(fd), lost: None })
    }

    /// The root, which is a matter of the whole source: nothing is skipped for it.
    pub fn root(tree: &Tree, filter: &Filter, buf: &mut Vec<u8>) -> Result<(Meta, Frame), SourceError> {
        tree.check()?;
        let mut list = || -> Result<Frame, Errno> {
            let fd = tree.list_fd(&SourcePath::root())?;
            let stat = tree::stat_fd(fd.as_fd())?;
            Frame::new(SourcePath::root(), fd, stat, filter, buf)
        };
        let frame = list().map_err(|errno| SourceError::List { path: tree.root().to_owned(), source: errno.into() })?;
        Ok((frame.stat.meta.clone(), frame))
    }

    pub fn is_done(&self) -> bool {
        self.next == self.listing.len()
    }

    /// Name of the child that comes next.
    pub fn name(&self) -> &[u8] {
        self.listing.name(self.next)
    }

    /// Path of the child that comes next.
    pub fn child(&self) -> SourcePath {
        self.path.join(self.name())
    }

    pub fn is_open(&self) -> bool {
        self.fd.is_some()
    }

    /// Lets go of the descriptor; [`reopen`](Self::reopen) brings it back.
    pub fn close(&mut self) {
        self.fd = None;
    }

    /// Opens the directory again where it was let go of. When another one is there now, the names that were
    /// listed are not its names.
    pub fn reopen(&mut self, tree: &Tree) -> Result<(), Failure> {
        if self.is_open() {
            return Ok(());
        }
        if let Some(failure) = &self.lost {
            return Err(failure.clone());
        }
        let again = tree.list_fd(&self.path).and_then(|fd| Ok((tree::stat_fd(fd.as_fd())?, fd)));
        let failure = match again {
            Ok((stat, fd)) if stat.meta.is_same_inode(&self.stat.meta) => {
                self.fd = Some(fd);
                return Ok(());
            }
            Ok(_) => Failure::new(Reason::Replaced, "The directory that held it was replaced"),
            Err(errno) => Failure::of_dir("The directory that holds it cannot be opened again", errno),
        };
        self.lost = Some(failure.clone());
        Err(failure)
    }

    /// Whether something is mounted at the child that comes next, without asking what that is: one who may not see
    /// it, as even root a user's own, is told nothing else of it.
    pub fn is_mount(&self) -> bool {
        tree::is_mount_in(self.fd(), self.name())
    }

    /// To be asked only after [`reopen`](Self::reopen).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("a directory is opened again before it is used").as_fd()
    }
}

/// Only a regular file is a tag: a directory of that name is data like any other.
fn is_tagged(fd: BorrowedFd<'_>, listing: &Listing, tag: &[u8]) -> bool {
    listing.find(tag).is_some_and(|index| match listing.file_type(index) {
        FileType::RegularFile => true,
        FileType::Unknown => tree::stat_at(fd, listing.c_name(index), AtFlags::NO_AUTOMOUNT)
            .is_ok_and(|stat| stat.meta.kind == Kind::File),
        _ => false,
    })
}

/// Why an entry is skipped.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: Reason,
    pub errno: Option<i32>,
    detail: String,
}

impl Failure {
    pub fn new(reason: Reason, detail: &str) -> Failure {
        Failure { reason, errno: None, detail: detail.to_owned() }
    }

    pub fn replaced() -> Failure {
        Failure::new(Reason::Replaced, "Another directory took its place")
    }

    /// It is another filesystem's, and not entered.
    pub fn mount() -> Failure {
        Failure::new(Reason::Mount, "What is mounted there is left out")
    }

    /// The system's refusal while `attempt`.
    pub fn of(attempt: &str, errno: Errno) -> Failure {
        let err = OpenError::from(errno);
        let detail = match err.reason() {
            Reason::Vanished => "It was listed and is gone".to_owned(),
            _ => format!("{attempt}: {}", std::io::Error::from(errno)),
        };
        Failure { reason: err.reason(), errno: err.errno(), detail }
    }

    /// The same for what was a directory a moment ago: what is none now took its place.
    pub fn of_dir(attempt: &str, errno: Errno) -> Failure {
        if errno == Errno::NOTDIR { Failure::replaced() } else { Failure::of(attempt, errno) }
    }

    pub fn exception(self, path: SourcePath) -> Exception {
        Exception { path, reason: self.reason, errno: self.errno, detail: self.detail }
    }

    /// Of the part of a directory that comes behind a position.
    pub fn of_rest(mut self) -> Failure {
        self.detail = format!("What was left of a directory is missing: {}", self.detail);
        self
    }
}
