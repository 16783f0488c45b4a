//! A source, opened. Everything in it is reached from the descriptor of its root, downward only, and never
//! through a symlink (`openat2` with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so that no swap of a name can
//! lead outside.
//!
//! What is opened for its content is first held by an O_PATH descriptor, which opens nothing, and compared with
//! the inode that the walk saw; only then is that very inode opened, through `/proc/self/fd`. So fifos, devices
//! and sockets are never opened, whatever takes the place of a file meanwhile.

mod mount;
mod pulse;
mod stat;
mod xattrs;

#[cfg(test)]
mod tests;

pub use pulse::{Beat, Pulse};
pub use xattrs::Xattrs;

pub use mount::{is_empty_dir, is_pseudo, mount_id, why_no_mount};
pub(super) use mount::{is_pseudo_at, shows_the_same};
pub use stat::stat_fd;
pub(super) use stat::{Stat, stat_at};

use crate::{
    archive::entry::{Entry, Kind, Meta},
    fate::{Fate, Fateful, Trouble},
    notice::{Exception, Reason},
    path::SourcePath,
};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::{Errno, retry_on_intr},
};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Longest path that is handed to the kernel at once, bytes: PATH_MAX holds the NUL as well.
const CHUNK_LEN_MAX: usize = 4095;

/// A descriptor to go down from: nothing is opened, and search permission is enough. Without O_NOFOLLOW a symlink
/// at the end is refused as one by RESOLVE_NO_SYMLINKS; with it, it would only be no directory.
pub const PASSAGE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A directory to be listed.
const LISTING: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A hold on anything, symlinks and special files too, that opens nothing.
pub const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A source that cannot be walked, as a whole. It is held, and tried again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("The source {path:?} is not there")]
    Missing { path: PathBuf },
    #[error("The source {path:?} is not a directory")]
    NotDirectory { path: PathBuf },
    /// What is in `/proc` and the like is not data, and reading some of it does things.
    #[error("The source {path:?} is a pseudo filesystem of the kernel")]
    Pseudo { path: PathBuf },
    #[error("Cannot open the source {path:?}")]
    Open { path: PathBuf, source: io::Error },
    #[error("Cannot list the source {path:?}")]
    List { path: PathBuf, source: io::Error },
    /// It went away during the walk; what is missing in it says nothing any more.
    #[error("The source {path:?} was removed, unmounted, replaced, or failed while it was read")]
    Lost { path: PathBuf },
    /// Out of descriptors or memory: that is our trouble and no property of the entry it met.
    #[error("Cannot go on in the source {path:?} for want of resources")]
    Exhausted { path: PathBuf, source: io::Error },
    #[error("Cannot use /proc/self/fd, through which the entries of the source {path:?} are opened")]
    Proc { path: PathBuf, source: io::Error },
}

impl Fateful for SourceError {
    fn fate(&self) -> Fate {
        Fate::Retry
    }

    fn trouble(&self) -> Trouble {
        Trouble::Source
    }
}

/// Why an entry could not be opened. The number is the system's error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("It is no longer there")]
    Vanished,
    /// Another inode or another kind of entry is there now.
    #[error("Something else took its place")]
    Replaced,
    #[error("Permission denied (os error {0})")]
    Denied(i32),
    #[error("It cannot be opened or read (os error {0})")]
    Unreadable(i32),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> OpenError {
        match errno {
            Errno::NOENT | Errno::NOTDIR => OpenError::Vanished,
            // A symlink above it, or in its place, that was none when it was seen.
            Errno::LOOP | Errno::XDEV => OpenError::Replaced,
            Errno::ACCESS | Errno::PERM => OpenError::Denied(errno.raw_os_error()),
            errno => OpenError::Unreadable(errno.raw_os_error()),
        }
    }
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

    /// Whether we lack descriptors or memory: then nothing is wrong with the entry, and it must not be told
    /// as lost.
    pub fn is_exhausted(self) -> bool {
        self.errno().is_some_and(|errno| is_exhausted(Errno::from_raw_os_error(errno)))
    }

    /// As an exception of the entry at `path`.
    pub fn exception(self, path: &SourcePath) -> Exception {
        Exception { path: path.clone(), reason: self.reason(), errno: self.errno(), detail: self.to_string() }
    }
}

pub(super) fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// A source, opened.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    root: OwnedFd,
    stat: Stat,
    /// The directory that an entry was last looked for in: neighbors are opened one after the other, and on a
    /// slow source every name on the way down may cost a question to a server.
    last: Mutex<Option<(SourcePath, Arc<OwnedFd>)>>,
    /// Mount points that a walk met and did not enter.
    left_out: Mutex<BTreeSet<SourcePath>>,
    pulse: Pulse,
}

impl Tree {
    /// Opens the root directory. `path` itself may lead through symlinks: it is the operator's word.
    pub fn open(path: &Path) -> Result<Tree, SourceError> {
        let owned = || path.to_owned();
        check_proc().map_err(|errno| SourceError::Proc { path: owned(), source: errno.into() })?;
        let flags = LISTING.difference(OFlags::NOFOLLOW);
        let root =
            retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty())).map_err(|errno| match errno {
                Errno::NOENT => SourceError::Missing { path: owned() },
                Errno::NOTDIR => SourceError::NotDirectory { path: owned() },
                errno => SourceError::Open { path: owned(), source: errno.into() },
            })?;
        let fail = |errno: Errno| SourceError::Open { path: owned(), source: errno.into() };
        if is_pseudo_at(root.as_fd()).map_err(fail)? {
            return Err(SourceError::Pseudo { path: owned() });
        }
        let stat = stat_fd(root.as_fd()).map_err(fail)?;
        Ok(Tree {
            path: owned(),
            root,
            stat,
            last: Mutex::default(),
            left_out: Mutex::default(),
            pulse: Pulse::default(),
        })
    }

    /// Whoever holds this pulse sees what is being read.
    pub fn with_pulse(self, pulse: Pulse) -> Tree {
        Tree { pulse, ..self }
    }

    /// Something of this entry is about to be asked.
    pub fn beat(&self, path: &SourcePath) {
        self.pulse.beat(path);
    }

    pub fn root(&self) -> &Path {
        &self.path
    }

    /// The walk does not enter what is mounted at `path`; whoever archives the mount point tells it.
    pub fn leave_out(&self, path: &SourcePath) {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
    }

    pub fn is_left_out(&self, path: &SourcePath) -> bool {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// The metadata of what is at `path` now; a symlink is not followed.
    pub fn stat(&self, path: &SourcePath) -> io::Result<Meta> {
        let held = self.descend(path.as_bytes(), HOLD)?;
        Ok(stat_fd(held.as_fd())?.meta)
    }

    /// The directory at `path`, for listing, with a position of its own.
    pub fn directory(&self, path: &SourcePath) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(self.list_fd(path)?))
    }

    /// The content of a regular file. Its access time is left alone where we may.
    pub fn open_file(&self, entry: &Entry) -> Result<File, OpenError> {
        if entry.meta.kind != Kind::File {
            return Err(OpenError::Replaced);
        }
        let held = self.hold(entry)?;
        // Not O_NONBLOCK: the inode is known to be a regular file, which can only block while a file server
        // gives back its lease, and then waiting is right.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        quietly(flags, |flags| rustix::fs::open(proc_path(&held), flags, Mode::empty()))
            .map(File::from)
            .map_err(OpenError::from)
    }

    /// The target of a symlink.
    pub fn read_link(&self, entry: &Entry) -> Result<Vec<u8>, OpenError> {
        if entry.meta.kind != Kind::Symlink {
            return Err(OpenError::Replaced);
        }
        let held = self.hold(entry)?;
        let target = rustix::fs::readlinkat(&held, c"", Vec::new())?;
        Ok(target.into_bytes())
    }

    /// All extended attributes with their values, sorted by name, of an entry of any kind; none where the
    /// filesystem has none. POSIX ACLs are among them as `system.posix_acl_access` and `…_default`.
    pub fn xattrs(&self, entry: &Entry) -> Result<Xattrs, OpenError> {
        let held = self.hold(entry)?;
        xattrs::read(&proc_path(&held)).map_err(OpenError::from)
    }

    /// Whether the root that was opened is still what its path leads to. An entry that is missing or cannot be
    /// read says nothing while the whole source is gone.
    pub fn check(&self) -> Result<(), SourceError> {
        let lost = || SourceError::Lost { path: self.path.clone() };
        let held = stat_fd(self.root.as_fd()).map_err(|_| lost())?;
        let named = stat::stat_path(&self.path).map_err(|_| lost())?;
        // A removed directory has no link left; its descriptor still works and finds nothing.
        if held.meta.nlink == 0 || !named.meta.is_same_inode(&self.stat.meta) {
            return Err(lost());
        }
        Ok(())
    }

    pub(super) fn list_fd(&self, path: &SourcePath) -> Result<OwnedFd, Errno> {
        quietly(LISTING, |flags| self.descend(path.as_bytes(), flags))
    }

    /// A hold on the very inode that the entry was seen as.
    fn hold(&self, entry: &Entry) -> Result<OwnedFd, OpenError> {
        let Some(parent) = entry.path.parent() else {
            return hold_in(self.root.as_fd(), b".", entry);
        };
        let name = entry.path.name();
        let last = self.last().as_ref().filter(|(path, _)| *path == parent).map(|(_, dir)| Arc::clone(dir));
        // The directory may have been moved away since: what fails here is looked for once more from the root.
        if let Some(dir) = last
            && let Ok(held) = hold_in(dir.as_fd(), name, entry)
        {
            return Ok(held);
        }
        let dir = Arc::new(self.descend(parent.as_bytes(), PASSAGE)?);
        *self.last() = Some((parent, Arc::clone(&dir)));
        hold_in(dir.as_fd(), name, entry)
    }

    fn last(&self) -> MutexGuard<'_, Option<(SourcePath, Arc<OwnedFd>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn descend(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        descend(self.root.as_fd(), path, flags)
    }
}

/// Opens what is at `path` below `root`, in as many steps as the kernel's limit on paths needs.
pub fn descend(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut above: Option<OwnedFd> = None;
    let mut rest = if path.is_empty() { b".".as_slice() } else { path };
    loop {
        let from = above.as_ref().map_or(root, AsFd::as_fd);
        if rest.len() <= CHUNK_LEN_MAX {
            return open_beneath(from, rest, flags);
        }
        let end = rest[..=CHUNK_LEN_MAX].iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
        above = Some(open_beneath(from, &rest[..end], PASSAGE)?);
        rest = &rest[end + 1..];
    }
}

/// Opens a path below `dir` that leads through no symlink.
fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry_on_intr(|| rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve))
}

/// Opens the directory `name` in `dir` for listing.
pub(super) fn list_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    quietly(LISTING, |flags| open_beneath(dir, name, flags))
}

/// Whether something is mounted at `name` in `dir`. It is not touched.
pub(super) fn is_mount_in(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let opened = retry_on_intr(|| rustix::fs::openat2(dir, name, HOLD, Mode::empty(), resolve));
    opened.is_err_and(|errno| errno == Errno::XDEV)
}

/// Whether what is mounted at `name` in `dir`, a file, is of a pseudo filesystem. Opens nothing.
pub(super) fn is_pseudo_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    is_pseudo_at(open_beneath(dir, name, HOLD)?.as_fd())
}

/// Opens without touching the access time; only the owner and root may ask for that.
fn quietly(flags: OFlags, mut open: impl FnMut(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match retry_on_intr(|| open(flags | OFlags::NOATIME)) {
        Err(Errno::PERM) => retry_on_intr(|| open(flags)),
        done => done,
    }
}

fn hold_in(dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<OwnedFd, OpenError> {
    let held = open_beneath(dir, name, HOLD)?;
    let stat = stat_fd(held.as_fd())?;
    if stat.meta.is_same_inode(&entry.meta) { Ok(held) } else { Err(OpenError::Replaced) }
}

/// The name under which the kernel opens again the very inode of a descriptor.
pub fn proc_path(held: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", held.as_fd().as_raw_fd())
}

/// Without procfs every file would look as if it had vanished.
pub fn check_proc() -> Result<(), Errno> {
    let proc = rustix::fs::openat(CWD, c"/proc/self/fd", PASSAGE, Mode::empty())?;
    if mount::is_procfs(proc.as_fd())? { Ok(()) } else { Err(Errno::NOSYS) }
}
