//! Metadata of what came back, and the mark of directories that are not complete.

use super::target::{Placed, Wrong, cannot};
use crate::archive::{
    acl,
    entry::{Kind, Meta},
    reader::TarMember,
    tree::{proc_path, stat_fd},
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use std::io;

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
    fn mode(self, held: &OwnedFd, member: &TarMember) -> u32 {
        let is_owner = |meta: &Meta| (meta.uid, meta.gid) == (member.uid, member.gid);
        let is_safe = self.is_root || stat_fd(held.as_fd()).is_ok_and(|stat| is_owner(&stat.meta));
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
            () if member.kind != Kind::Symlink && meta.mode != self.mode(held, member) => is_other("mode"),
            () if meta.mtime != member.mtime => is_other("time"),
            () => match member.xattrs.iter().find(|xattr| !has(xattr)) {
                Some((name, _)) => is_other(&String::from_utf8_lossy(name)),
                None => Ok(()),
            },
        }
    }

    /// Owner, attributes, mode and times, in the order in which none undoes another. All that can be set is set.
    pub fn dress(self, held: &OwnedFd, member: &TarMember) -> Placed {
        let path = proc_path(held);
        let mut failed: Option<String> = None;
        let mut note = |what: &str, done: Result<(), Errno>| {
            if let Err(errno) = done {
                failed.get_or_insert_with(|| format!("{what} cannot be set: {}", io::Error::from(errno)));
            }
        };
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            note("its owner", rustix::fs::chownat(CWD, &*path, Some(uid), Some(gid), AtFlags::empty()));
        }
        let is_acl = |name: &[u8]| [acl::ACCESS.0, acl::DEFAULT.0].contains(&name);
        let set = |(name, value): &(Vec<u8>, Vec<u8>)| {
            (
                String::from_utf8_lossy(name).into_owned(),
                rustix::fs::setxattr(&*path, &**name, value, XattrFlags::empty()),
            )
        };
        for (name, done) in member.xattrs.iter().filter(|(name, _)| !is_acl(name)).map(set) {
            note(&name, done);
        }
        // What the directory above has for all that is made in it.
        for acl in
            [acl::ACCESS.0, acl::DEFAULT.0].into_iter().filter(|acl| member.xattrs.iter().all(|(name, _)| name != acl))
        {
            let _ = rustix::fs::removexattr(&*path, acl);
        }
        if member.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(self.mode(held, member));
            note("its mode", rustix::fs::chmodat(CWD, &*path, mode, AtFlags::empty()));
        }
        for (name, done) in member.xattrs.iter().filter(|(name, _)| is_acl(name)).map(set) {
            note(&name, done);
        }
        let time = Timespec { tv_sec: member.mtime.sec, tv_nsec: member.mtime.nsec.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        note("its time", rustix::fs::utimensat(CWD, &*path, &times, AtFlags::empty()));
        failed.map_or(Ok(()), |what| Err(Wrong::Metadata(what)))
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
