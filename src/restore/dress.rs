//! Metadata of what came back, and the mark of directories that are not complete.

use super::target::{Placed, Wrong, cannot};
use crate::archive::{
    acl,
    entry::{Kind, Meta},
    reader::TarMember,
    tree::{proc_path, stat_fd},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use std::{fs::File, io};

/// A directory that was made and is not complete has it, so that a restore that is begun again knows it.
pub const INCOMPLETE: &str = "user.archiver.incomplete";
/// Until a directory is complete nobody else looks into it.
pub const PRIVATE_DIR: Mode = Mode::RWXU;

/// Whoever dresses.
#[derive(Clone, Copy, Debug)]
pub struct Dresser {
    /// Owners can be set.
    pub is_root: bool,
}

impl Dresser {
    /// A file of another owner that runs as its owner must not run as ours.
    fn mode(self, held: BorrowedFd<'_>, member: &TarMember) -> u32 {
        let is_owner = |meta: &Meta| (meta.uid, meta.gid) == (member.uid, member.gid);
        let is_safe = self.is_root || stat_fd(held).is_ok_and(|stat| is_owner(&stat.meta));
        if is_safe || member.kind == Kind::Dir { member.mode } else { member.mode & 0o1777 }
    }

    /// Whether what is there has the metadata that it is to have.
    pub fn is_dressed(self, held: &OwnedFd, member: &TarMember) -> Placed {
        let meta = stat_fd(held.as_fd()).map_err(cannot)?.meta;
        let has = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let mut found = vec![0; value.len() + 1];
            rustix::fs::getxattr(proc_path(held), &**name, &mut found).is_ok_and(|len| found[..len] == **value)
        };
        let is_other = |what: &str| Err(Wrong::Metadata(format!("its {what} is another, and it was there")));
        match () {
            () if self.is_root && (meta.uid, meta.gid) != (member.uid, member.gid) => is_other("owner"),
            () if member.kind != Kind::Symlink && meta.mode != self.mode(held.as_fd(), member) => is_other("mode"),
            () if meta.mtime != member.mtime => is_other("time"),
            () => match member.xattrs.iter().find(|xattr| !has(xattr)) {
                Some((name, _)) => is_other(&String::from_utf8_lossy(name)),
                None => Ok(()),
            },
        }
    }

    /// Dresses what is held, and maybe only by its place.
    pub fn dress(self, held: &OwnedFd, member: &TarMember) -> Placed {
        self.set(&Naked::Held(proc_path(held)), held.as_fd(), member)
    }

    /// Dresses a file that we may write to.
    pub fn dress_file(self, file: &File, member: &TarMember) -> Placed {
        self.set(&Naked::Open(file.as_fd()), file.as_fd(), member)
    }

    /// Owner, attributes, mode and times, in the order in which none undoes another. All that can be set is set.
    fn set(self, naked: &Naked<'_>, held: BorrowedFd<'_>, member: &TarMember) -> Placed {
        let mut failed: Option<String> = None;
        let mut note = |what: &str, done: Result<(), Errno>| {
            if let Err(errno) = done {
                failed.get_or_insert_with(|| format!("{what} cannot be set: {}", io::Error::from(errno)));
            }
        };
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            note("its owner", naked.set_owner(uid, gid));
        }
        let is_acl = |name: &[u8]| [acl::ACCESS.0, acl::DEFAULT.0].contains(&name);
        let set = |(name, value): &(Vec<u8>, Vec<u8>)| {
            (String::from_utf8_lossy(name).into_owned(), naked.set_attribute(name, value))
        };
        for (name, done) in member.xattrs.iter().filter(|(name, _)| !is_acl(name)).map(set) {
            note(&name, done);
        }
        // What the directory above has for all that is made in it; only directories hand it on.
        let inherited: &[&[u8]] = match member.kind {
            Kind::Dir => &[acl::ACCESS.0, acl::DEFAULT.0],
            _ => &[acl::ACCESS.0],
        };
        for acl in inherited.iter().filter(|acl| member.xattrs.iter().all(|(name, _)| name != *acl)) {
            let _ = naked.remove_attribute(acl);
        }
        if member.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(self.mode(held, member));
            note("its mode", naked.set_mode(mode));
        }
        for (name, done) in member.xattrs.iter().filter(|(name, _)| is_acl(name)).map(set) {
            note(&name, done);
        }
        let time = Timespec { tv_sec: member.mtime.sec, tv_nsec: member.mtime.nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        note("its time", naked.set_times(&times));
        failed.map_or(Ok(()), |what| Err(Wrong::Metadata(what)))
    }
}

/// What has no metadata yet. Of most things only the place is held, and they are reached by a path; an open file is
/// its own way, which spares the kernel to walk that path five times for each of a million files.
enum Naked<'a> {
    Open(BorrowedFd<'a>),
    Held(String),
}

impl Naked<'_> {
    fn set_owner(&self, uid: Uid, gid: Gid) -> Result<(), Errno> {
        match self {
            Naked::Open(file) => rustix::fs::fchown(file, Some(uid), Some(gid)),
            Naked::Held(path) => rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::empty()),
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Naked::Open(file) => rustix::fs::fchmod(file, mode),
            Naked::Held(path) => rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()),
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Naked::Open(file) => rustix::fs::futimens(file, times),
            Naked::Held(path) => rustix::fs::utimensat(CWD, path, times, AtFlags::empty()),
        }
    }

    fn set_attribute(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Naked::Open(file) => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
            Naked::Held(path) => rustix::fs::setxattr(path, name, value, XattrFlags::empty()),
        }
    }

    fn remove_attribute(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Naked::Open(file) => rustix::fs::fremovexattr(file, name),
            Naked::Held(path) => rustix::fs::removexattr(path, name),
        }
    }
}

pub fn open_up(dir: &OwnedFd) {
    let _ = rustix::fs::chmodat(CWD, proc_path(dir), PRIVATE_DIR, AtFlags::empty());
}

/// As one is in the moment in which it is made.
pub fn is_fresh(dir: &OwnedFd) -> bool {
    let is_ours = stat_fd(dir.as_fd()).is_ok_and(|stat| {
        stat.meta.mode == PRIVATE_DIR.as_raw_mode() && stat.meta.uid == rustix::process::geteuid().as_raw()
    });
    is_ours && is_empty(dir) == Ok(true)
}

pub fn is_empty(dir: &OwnedFd) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    let mut entries = rustix::fs::Dir::read_from(dir)?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}

/// Where the disk has no attributes nobody knows, and after a kill some directories keep the metadata that they have then.
pub fn set_incomplete(dir: &OwnedFd) {
    let _ = rustix::fs::setxattr(proc_path(dir), INCOMPLETE, b"1", XattrFlags::empty());
    // It would go on to all that is made in it.
    let _ = rustix::fs::removexattr(proc_path(dir), acl::DEFAULT.0);
}

/// Of a directory that we made, or that has its owner already.
pub fn is_incomplete(dir: &OwnedFd, owner: u32) -> bool {
    let owners = [rustix::process::geteuid().as_raw(), owner];
    rustix::fs::getxattr(proc_path(dir), INCOMPLETE, &mut [0; 8]).is_ok()
        && stat_fd(dir.as_fd()).is_ok_and(|stat| owners.contains(&stat.meta.uid))
}
