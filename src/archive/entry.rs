//! One thing in a tree, as `statx` tells it, and what the walk yields.

use crate::{notice::Exception, path::SourcePath};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Dir,
    File,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
    Socket,
}

impl Kind {
    /// As in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Dir => "dir",
            Kind::File => "file",
            Kind::Symlink => "symlink",
            Kind::Fifo => "fifo",
            Kind::CharDevice => "char",
            Kind::BlockDevice => "block",
            Kind::Socket => "socket",
        }
    }
}

/// A point in time as filesystems hold it: seconds since 1970, negative before, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub sec: i64,
    /// 0 to 999,999,999, always forward from `sec`.
    pub nsec: u32,
}

/// The metadata of an entry, without what `statx` does not tell (xattrs, link targets, names of users).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `mode & 0o7777`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes; 0 for everything but files and symlinks.
    pub size: u64,
    pub mtime: Stamp,
    pub ctime: Stamp,
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    /// Device number of a device node, as `makedev` makes it.
    pub rdev: u64,
}

impl Meta {
    /// Whether both are the same inode, of the same kind.
    pub fn is_same_inode(&self, other: &Meta) -> bool {
        (self.dev, self.ino, self.kind) == (other.dev, other.ino, other.kind)
    }

    /// What was recorded of an inode, as it is found after a restart: device numbers are given anew at every mount.
    pub fn as_mounted(self, now: &Meta) -> Meta {
        let dev = if (self.ino, self.kind) == (now.ino, now.kind) { now.dev } else { self.dev };
        Meta { dev, ..self }
    }

    /// Whether the content cannot have changed between the two, as far as a filesystem tells.
    pub fn is_unchanged(&self, other: &Meta) -> bool {
        self.is_same_inode(other) && (self.size, self.mtime, self.ctime) == (other.size, other.mtime, other.ctime)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub path: SourcePath,
    pub meta: Meta,
}

/// What the walk yields, in walk order. Each stands for what it has seen: one entry, or `count` of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walked {
    /// To be archived.
    Entry(Entry),
    /// Left out by the rule of this number ([`super::filter::Filter::rule`]); neighbours of the same rule in one.
    /// What lies below an excluded directory is not looked at and not counted.
    Excluded { rule: u16, count: u64, last: SourcePath },
    /// Left out for a reason of its own: vanished, denied, a socket …
    Skipped(Box<Exception>),
}

impl Walked {
    /// The last path that this stands for: a walk may go on after it.
    pub fn path(&self) -> &SourcePath {
        match self {
            Walked::Entry(entry) => &entry.path,
            Walked::Excluded { last, .. } => last,
            Walked::Skipped(exception) => &exception.path,
        }
    }

    /// How many entries were seen for this.
    pub fn seen(&self) -> u64 {
        match self {
            Walked::Excluded { count, .. } => *count,
            _ => 1,
        }
    }
}
