//! The directory that a restore fills. Everything in it is reached from the descriptor of its root, downward only and
//! never through a symlink, so that nothing an archive says can lead outside. Files get their names when they are
//! whole; nothing that is there is written to, and it is replaced only where that was asked for.
//!
//! Members come in walk order, so a directory is complete when something comes that is not below it: it gets its
//! mode, owner and times then, and memory does not grow with the number of directories.

use super::dress::{Dresser, INCOMPLETE, PRIVATE_DIR, is_empty, is_fresh, is_incomplete, open_up, set_incomplete};
use crate::{
    archive::{
        entry::Kind,
        reader::TarMember,
        tree::{HOLD, PASSAGE, check_proc, descend, proc_path, stat_fd},
    },
    durable,
    path::SourcePath,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::{Errno, retry_on_intr},
};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("Cannot open the directory {path:?}, in which what comes back is to be put")]
    Open { path: PathBuf, source: io::Error },
    #[error("Cannot write below {path:?}")]
    Write { path: PathBuf, source: io::Error },
}

/// Why one entry is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("something else is there already; --overwrite replaces it")]
    Exists,
    #[error("there is a directory in its place, or none above it")]
    InTheWay,
    #[error("its content is not what was archived")]
    Damaged,
    #[error("it is missing in what the vault gave back")]
    Missing,
    #[error("the file of which it is another name did not come back")]
    NoOriginal,
    #[error("it is in place, but {0}")]
    Metadata(String),
    #[error("it cannot be made: {0}")]
    Cannot(String),
}

/// What became of an entry.
pub type Placed = Result<(), Wrong>;

/// A directory in which something is being put, and what it is to be when it is complete; `None`: it was there before.
struct Above {
    path: SourcePath,
    finish: Option<TarMember>,
    /// Something in it did not come: who begins again must complete it once more.
    is_spoilt: bool,
}

pub struct Target {
    path: PathBuf,
    root: OwnedFd,
    /// Open from the beginning, since what the system could not write is only told to who was there by then.
    disk: OwnedFd,
    overwrite: bool,
    dresser: Dresser,
    above: Vec<Above>,
    /// The directory in which something was put last.
    parent: Option<(SourcePath, OwnedFd)>,
}

/// A file that has no name yet, or one that says so where the disk knows no such files.
pub struct Unnamed {
    file: File,
    name: Option<(OwnedFd, Vec<u8>)>,
}

impl Unnamed {
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some((dir, name)) = &self.name {
            let _ = rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty());
        }
    }
}

impl Target {
    /// Opens the directory, and makes it where there is none.
    pub fn open(path: &Path, overwrite: bool) -> Result<Target, TargetError> {
        let fail = |source: io::Error| TargetError::Open { path: path.to_owned(), source };
        check_proc().map_err(|errno| fail(errno.into()))?;
        std::fs::create_dir_all(path).map_err(fail)?;
        let root = retry_on_intr(|| rustix::fs::openat(CWD, path, PASSAGE, Mode::empty()));
        let root = root.map_err(|errno| fail(errno.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let disk = retry_on_intr(|| rustix::fs::openat(&root, c".", flags, Mode::empty()));
        Ok(Target {
            path: path.to_owned(),
            root,
            disk: disk.map_err(|errno| fail(errno.into()))?,
            overwrite,
            dresser: Dresser { is_root: rustix::process::geteuid().is_root() },
            above: Vec::new(),
            parent: None,
        })
    }

    /// Whether this directory was begun, and is not complete.
    pub fn is_open(&self, dir: &SourcePath) -> bool {
        self.above.iter().any(|above| above.path == *dir)
    }

    /// Whether the directory of this entry is one that we make.
    pub fn is_making_in(&self, path: &SourcePath) -> bool {
        let parent = path.parent();
        self.above.iter().any(|above| above.finish.is_some() && Some(&above.path) == parent.as_ref())
    }

    /// Directories of which this is not a part any more are complete.
    pub fn enter(&mut self, path: &SourcePath, wrong: &mut dyn FnMut(&SourcePath, Wrong)) {
        while let Some(above) = self.above.pop_if(|above| !path.is_within(&above.path)) {
            self.complete(above, wrong);
        }
    }

    /// All is there: the last directories are complete, and all of it is on the disk.
    pub fn finish(mut self, wrong: &mut dyn FnMut(&SourcePath, Wrong)) -> Result<(), TargetError> {
        while let Some(above) = self.above.pop() {
            self.complete(above, wrong);
        }
        rustix::fs::syncfs(&self.disk).map_err(|errno| self.failed(errno.into()))
    }

    fn complete(&mut self, above: Above, wrong: &mut dyn FnMut(&SourcePath, Wrong)) {
        let Some(member) = above.finish else { return };
        let held = descend(self.root.as_fd(), above.path.as_bytes(), HOLD);
        let done = held.map_err(cannot).and_then(|held| {
            let dressed = self.dresser.dress(&held, &member);
            if above.is_spoilt {
                return dressed;
            }
            // Last, so that after a kill it is known what was not done. Only who may write may remove it.
            if let Err(Errno::ACCESS | Errno::PERM) = rustix::fs::removexattr(proc_path(&held), INCOMPLETE) {
                open_up(&held);
                let _ = rustix::fs::removexattr(proc_path(&held), INCOMPLETE);
                let mode = Mode::from_raw_mode(member.mode);
                let _ = rustix::fs::chmodat(CWD, proc_path(&held), mode, AtFlags::empty());
            }
            dressed
        });
        if let Err(why) = done {
            wrong(&above.path, why);
        }
    }

    /// Something in this directory is not as it was.
    pub fn spoil(&mut self, path: &SourcePath) {
        let parent = path.parent();
        if let Some(above) = self.above.iter_mut().find(|above| Some(&above.path) == parent.as_ref()) {
            above.is_spoilt = true;
        }
    }

    /// Makes the directories above what comes before they do.
    pub fn make_above(&mut self, path: &SourcePath) -> Placed {
        for dir in path.ancestors().iter().filter(|dir| !dir.is_root()) {
            if self.there(dir).is_none() {
                let made = rustix::fs::mkdirat(self.parent_of(dir)?, dir.name(), PRIVATE_DIR);
                made.map_err(cannot)?;
                set_incomplete(&self.there(dir).ok_or(Wrong::InTheWay)?);
            }
        }
        Ok(())
    }

    pub fn dir(&mut self, path: &SourcePath, member: &TarMember) -> Placed {
        let made = match path.parent() {
            // The root is the directory that was asked for: it becomes that of the source if there was nothing in it.
            None => {
                let is_ours = is_empty(&self.root).map_err(cannot)? || is_incomplete(&self.root, member.uid);
                if is_ours {
                    set_incomplete(&self.root);
                }
                is_ours || self.overwrite
            }
            Some(parent) => {
                let name = path.name();
                let dir = self.parent(&parent)?;
                let made = rustix::fs::mkdirat(dir, name, PRIVATE_DIR);
                let held = descend(self.root.as_fd(), path.as_bytes(), PASSAGE);
                match (made, held) {
                    (Ok(()), Ok(held)) => {
                        set_incomplete(&held);
                        true
                    }
                    (Err(Errno::EXIST), Ok(held)) if is_incomplete(&held, member.uid) || is_fresh(&held) => {
                        set_incomplete(&held);
                        open_up(&held);
                        true
                    }
                    (Err(Errno::EXIST), Ok(_)) => self.overwrite,
                    (Err(Errno::EXIST), Err(_)) => return Err(Wrong::InTheWay),
                    (Err(errno), _) | (Ok(()), Err(errno)) => return Err(cannot(errno)),
                }
            }
        };
        self.above.push(Above { path: path.clone(), finish: made.then(|| member.clone()), is_spoilt: false });
        Ok(())
    }

    fn parent(&mut self, path: &SourcePath) -> Result<&OwnedFd, Wrong> {
        if self.parent.as_ref().is_none_or(|(last, _)| last != path) {
            let opened = descend(self.root.as_fd(), path.as_bytes(), PASSAGE);
            let opened = opened.map_err(|errno| match errno {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Wrong::InTheWay,
                errno => cannot(errno),
            })?;
            self.parent = Some((path.clone(), opened));
        }
        let (_, opened) = self.parent.as_ref().expect("it was set just now");
        Ok(opened)
    }

    fn parent_of(&mut self, path: &SourcePath) -> Result<&OwnedFd, Wrong> {
        let parent = path.parent().ok_or(Wrong::InTheWay)?;
        self.parent(&parent)
    }

    /// What is there under this name, held.
    pub fn there(&mut self, path: &SourcePath) -> Option<OwnedFd> {
        let dir = self.parent_of(path).ok()?;
        rustix::fs::openat(dir, path.name(), HOLD, Mode::empty()).ok()
    }

    /// A new file on the disk of its directory.
    pub fn unnamed(&mut self, path: &SourcePath) -> Result<Unnamed, Wrong> {
        let dir = self.parent_of(path)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match retry_on_intr(|| rustix::fs::openat(dir, c".", flags | OFlags::TMPFILE, PRIVATE_FILE)) {
            Ok(file) => Ok(Unnamed { file: File::from(file), name: None }),
            // Over a network, for one.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let name = passing_name();
                let dir = dir.try_clone().map_err(|err| Wrong::Cannot(err.to_string()))?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&dir, name.as_slice(), flags, PRIVATE_FILE).map_err(cannot)?;
                Ok(Unnamed { file: File::from(file), name: Some((dir, name)) })
            }
            Err(errno) => Err(cannot(errno)),
        }
    }

    /// Gives a complete file its metadata and its name.
    pub fn name(&mut self, file: &Unnamed, path: &SourcePath, member: &TarMember) -> Placed {
        let dressed = self.dresser.dress_file(&file.file, member);
        self.link(&file.file, path)?;
        dressed
    }

    pub fn is_same_inode(&mut self, held: &OwnedFd, path: &SourcePath) -> bool {
        let Some(there) = self.there(path) else { return false };
        let (one, other) = (stat_fd(held.as_fd()), stat_fd(there.as_fd()));
        one.is_ok_and(|one| other.is_ok_and(|other| one.meta.is_same_inode(&other.meta)))
    }

    /// What is at this path, held, wherever it was put.
    pub fn there_at(&self, path: &SourcePath) -> Option<OwnedFd> {
        descend(self.root.as_fd(), path.as_bytes(), HOLD).ok()
    }

    /// Whether a directory is there that is complete.
    pub fn is_complete(&self, path: &SourcePath, owner: u32) -> bool {
        descend(self.root.as_fd(), path.as_bytes(), PASSAGE).is_ok_and(|dir| !is_incomplete(&dir, owner))
    }

    pub fn dresser(&self) -> Dresser {
        self.dresser
    }

    pub fn failed(&self, source: io::Error) -> TargetError {
        TargetError::Write { path: self.path.clone(), source }
    }

    /// Another name of what is held.
    pub fn link(&mut self, held: &impl AsFd, path: &SourcePath) -> Placed {
        let from = proc_path(held);
        self.make(path, |dir, name| rustix::fs::linkat(CWD, &*from, dir, name, AtFlags::SYMLINK_FOLLOW))
    }

    /// Everything that has no content.
    pub fn node(&mut self, path: &SourcePath, member: &TarMember) -> Placed {
        let kind = match member.kind {
            Kind::Fifo => Some(FileType::Fifo),
            Kind::CharDevice => Some(FileType::CharacterDevice),
            Kind::BlockDevice => Some(FileType::BlockDevice),
            _ => None,
        };
        self.make(path, |dir, name| match kind {
            Some(kind) => rustix::fs::mknodat(dir, name, kind, PRIVATE_FILE, member.rdev),
            None => rustix::fs::symlinkat(&*member.link, dir, name),
        })?;
        // Who may write there, too, could have put something else in its place.
        let euid = rustix::process::geteuid().as_raw();
        let is_ours = |held: &OwnedFd| {
            stat_fd(held.as_fd()).is_ok_and(|stat| stat.meta.uid == euid && stat.meta.nlink == 1)
                && is_same_node(held, member)
        };
        let held = self.there(path).filter(is_ours).ok_or(Wrong::InTheWay)?;
        self.dresser.dress(&held, member)
    }

    /// Makes an entry that is not there, or replaces one where that was asked for.
    fn make(&mut self, path: &SourcePath, make: impl Fn(&OwnedFd, &[u8]) -> Result<(), Errno>) -> Placed {
        let overwrite = self.overwrite;
        let (dir, name) = (self.parent_of(path)?, path.name());
        match make(dir, name) {
            Err(Errno::EXIST) if overwrite => {
                let passing = passing_name();
                make(dir, &passing).map_err(cannot)?;
                let replaced = durable::replace_in(dir, &passing, name);
                // Of two names of one inode neither replaces the other.
                let _ = rustix::fs::unlinkat(dir, passing.as_slice(), AtFlags::empty());
                replaced.map_err(|errno| if errno == Errno::ISDIR { Wrong::InTheWay } else { cannot(errno) })
            }
            Err(Errno::EXIST) => Err(Wrong::Exists),
            made => made.map_err(cannot),
        }
    }
}

/// A name that nobody else takes.
fn passing_name() -> Vec<u8> {
    format!(".archiver-{}", crate::pipeline::random_id()).into_bytes()
}

pub(super) fn cannot(errno: Errno) -> Wrong {
    Wrong::Cannot(io::Error::from(errno).to_string())
}

/// Whether a node is the same but for its metadata.
pub fn is_same_node(held: &OwnedFd, member: &TarMember) -> bool {
    let has_target = || rustix::fs::readlinkat(held, c"", Vec::new()).is_ok_and(|link| link.as_bytes() == member.link);
    stat_fd(held.as_fd()).is_ok_and(|stat| (stat.meta.kind, stat.meta.rdev) == (member.kind, member.rdev))
        && (member.kind != Kind::Symlink || has_target())
}

/// Whether this is a regular file of that size and digest.
pub fn has_content(held: &OwnedFd, size: u64, sha256: Option<&str>) -> bool {
    let is_right = stat_fd(held.as_fd()).is_ok_and(|stat| stat.meta.kind == Kind::File && stat.meta.size == size);
    is_right
        && File::open(proc_path(held))
            .and_then(|file| super::content::sha256(&file))
            .is_ok_and(|found| Some(&*found) == sha256)
}
