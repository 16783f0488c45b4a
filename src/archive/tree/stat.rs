//! Metadata by `statx`, which alone tells the id of a mount.

use crate::archive::entry::{Kind, Meta, Stamp};
use rustix::{
    fd::BorrowedFd,
    fs::{AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, makedev},
    io::{Errno, retry_on_intr},
};
use std::{ffi::CStr, path::Path};

/// What `statx` tells of an entry.
#[derive(Clone, Debug)]
pub struct Stat {
    pub meta: Meta,
    /// Id of the mount that it is on; Linux before 5.8 does not tell.
    pub mount: Option<u64>,
    /// Whether entering it would mount something.
    pub automount: bool,
}

impl Stat {
    /// Whether the two are on different mounts. A btrfs subvolume has a device number of its own and is no mount.
    pub fn is_other_mount(&self, other: &Stat) -> bool {
        match (self.mount, other.mount) {
            (Some(one), Some(other)) => one != other,
            _ => self.meta.dev != other.meta.dev,
        }
    }
}

/// Of `name` in `dir`, not following a symlink. `flags` may say NO_AUTOMOUNT.
pub fn stat_at(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Stat, Errno> {
    statx(dir, name, flags | AtFlags::SYMLINK_NOFOLLOW)
}

/// Of what a descriptor holds.
pub fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH)
}

/// Of what a path of the operator leads to, symlinks followed.
pub fn stat_path(path: &Path) -> Result<Stat, Errno> {
    Stat::try_from(&retry_on_intr(|| {
        rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
    })?)
}

fn statx(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Stat, Errno> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    Stat::try_from(&retry_on_intr(|| rustix::fs::statx(dir, name, flags, mask))?)
}

impl TryFrom<&Statx> for Stat {
    type Error = Errno;

    fn try_from(told: &Statx) -> Result<Stat, Errno> {
        let kind = kind(FileType::from_raw_mode(told.stx_mode.into())).ok_or(Errno::INVAL)?;
        let meta = Meta {
            kind,
            mode: u32::from(told.stx_mode) & 0o7777,
            uid: told.stx_uid,
            gid: told.stx_gid,
            size: if matches!(kind, Kind::File | Kind::Symlink) { told.stx_size } else { 0 },
            mtime: stamp(&told.stx_mtime),
            ctime: stamp(&told.stx_ctime),
            dev: makedev(told.stx_dev_major, told.stx_dev_minor),
            ino: told.stx_ino,
            nlink: told.stx_nlink.into(),
            rdev: match kind {
                Kind::CharDevice | Kind::BlockDevice => makedev(told.stx_rdev_major, told.stx_rdev_minor),
                _ => 0,
            },
        };
        let knows_mount = told.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok(Stat {
            meta,
            mount: knows_mount.then_some(told.stx_mnt_id),
            automount: told.stx_attributes.contains(StatxAttributes::AUTOMOUNT),
        })
    }
}

fn stamp(time: &StatxTimestamp) -> Stamp {
    Stamp { sec: time.tv_sec, nsec: time.tv_nsec }
}

fn kind(kind: FileType) -> Option<Kind> {
    Some(match kind {
        FileType::Directory => Kind::Dir,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return None,
    })
}
