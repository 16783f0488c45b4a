//! What is known of mounts: their ids, whether a path is one, and which filesystems hold no data.

use super::stat::{stat_fd, stat_path};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxAttributes, StatxFlags},
    io::{Errno, retry_on_intr},
};
use std::{io, mem::MaybeUninit, path::Path};

const PROC: u32 = 0x9fa0;

/// Filesystems through which the kernel shows itself, as `statfs` numbers them (linux/magic.h, and the sources
/// of those that are not listed there). What is in them is not data, much of it cannot be read to an end, and
/// reading some of it does things. In ascending order of names.
const PSEUDO: [(u32, &str); 34] = [
    (0x0904_1934, "anon_inodefs"),
    (0x5a3c_69f0, "apparmorfs"),
    (0x6c6f_6f70, "binder"),
    (0x4249_4e4d, "binfmt_misc"),
    (0xcafe_4a11, "bpf"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6265_6570, "configfs"),
    (0x6462_6720, "debugfs"),
    (0x1cd1, "devpts"),
    (0x444d_4142, "dma-buf"),
    (0xde5e_81e4, "efivarfs"),
    (0x0a64_7361, "functionfs"),
    (0x6573_5543, "fusectl"),
    (0x9584_58f6, "hugetlbfs"),
    (0x1980_0202, "mqueue"),
    (0x6e66_7364, "nfsd"),
    (0x6e73_6673, "nsfs"),
    (0x9fa1, "openpromfs"),
    (0x6f70_726f, "oprofilefs"),
    (0x5049_4446, "pidfs"),
    (0x5049_5045, "pipefs"),
    (PROC, "proc"),
    (0x6165_676c, "pstore"),
    (0x0765_5821, "resctrl"),
    (0x6759_6969, "rpc_pipefs"),
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x534f_434b, "sockfs"),
    (0x6265_6572, "sysfs"),
    (0x7472_6163, "tracefs"),
    (0x9fa2, "usbfs"),
    (0xabba_1974, "xenfs"),
];

/// Whether `statfs` tells the type of a filesystem that is never entered. tmpfs, devtmpfs, overlay and FUSE are
/// entered: people keep data in them.
pub fn is_pseudo(fs_type: u32) -> bool {
    PSEUDO.iter().any(|(magic, _)| *magic == fs_type)
}

pub fn is_pseudo_at(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(is_pseudo(fs_type(fd)?))
}

pub(super) fn is_procfs(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(fs_type(fd)? == PROC)
}

fn fs_type(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let told = retry_on_intr(|| rustix::fs::fstatfs(fd))?;
    // The kernel's numbers have 32 bits; in a wider signed field the high ones may be copies of the sign.
    Ok(told.f_type as u32)
}

/// The id of the mount that a descriptor is on; `None` before Linux 5.8.
pub fn mount_id(fd: impl AsFd) -> io::Result<Option<u64>> {
    Ok(stat_fd(fd.as_fd())?.mount)
}

/// Whether something is mounted at `path`, symlinks followed: for `require_mount`.
pub fn check_mount(path: &Path) -> io::Result<bool> {
    let told = retry_on_intr(|| rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS))?;
    if told.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let (here, above) = (stat_path(path)?, stat_path(&path.join(".."))?);
    // The root directory is its own parent, and mounted.
    Ok(here.is_other_mount(&above) || here.meta.is_same_inode(&above.meta))
}

/// Whether a directory holds nothing: a mount point without its mount mostly does not.
pub fn is_empty_dir(path: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()))?;
    let mut buf = [MaybeUninit::uninit(); 4096];
    let mut names = RawDir::new(dir, &mut buf);
    while let Some(found) = names.next() {
        if !matches!(found?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
