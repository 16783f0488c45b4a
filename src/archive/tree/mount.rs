//! What is known of mounts: their ids, whether a path is one, and which filesystems hold no data.

use super::stat::{Stat, stat_fd, stat_path};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxAttributes, StatxFlags},
    io::{Errno, retry_on_intr},
};
use std::{fs, io, mem::MaybeUninit, path::Path};

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

const NO_MOUNT: &str = "is not a mount point";
const OVER_ITSELF: &str = "is not a mount point that counts: it is only mounted over itself, as systemd does it with \
                           directories of a service";

/// Why `path`, symlinks followed, is no mount point, if it is none: for `require_mount`.
pub fn why_no_mount(path: &Path) -> io::Result<Option<&'static str>> {
    let (here, above) = (stat_path(path)?, stat_path(&path.join(".."))?);
    if shows_the_same(&above, &here) {
        return Ok(Some(OVER_ITSELF));
    }
    Ok((!is_mounted(path, &here, &above)?).then_some(NO_MOUNT))
}

fn is_mounted(path: &Path, here: &Stat, above: &Stat) -> io::Result<bool> {
    let told = retry_on_intr(|| rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS))?;
    if told.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // The root directory is its own parent, and mounted.
    Ok(here.is_other_mount(above) || here.meta.is_same_inode(&above.meta))
}

/// Whether `inner` is on another mount than the directory `outer` that it was found in, and what is mounted there is
/// what would be seen there without it: the same directory of the same filesystem. systemd mounts directories over
/// themselves to make them read-only, or writable, for one service.
pub fn shows_the_same(outer: &Stat, inner: &Stat) -> bool {
    let (Some(outer), Some(inner)) = (outer.mount, inner.mount) else { return false };
    // Of the thread: mounts may be its own.
    outer != inner && fs::read("/proc/thread-self/mountinfo").is_ok_and(|table| is_over_itself(&table, outer, inner))
}

/// Whether `mountinfo` has `inner` as a mount that shows just what `outer` holds at that path.
fn is_over_itself(mountinfo: &[u8], outer: u64, inner: u64) -> bool {
    let find = |id| mountinfo.split(|b| *b == b'\n').filter_map(Mount::parse).find(|mount| mount.id == id);
    let (Some(outer), Some(inner)) = (find(outer), find(inner)) else { return false };
    outer.device == inner.device && outer.at(inner.point).is_some_and(|shown| shown == inner.root)
}

/// A line of `mountinfo`. Its paths stand as they are there, with octal escapes: equal paths are escaped equally.
#[derive(Clone, Copy)]
struct Mount<'a> {
    id: u64,
    /// Of the filesystem; each subvolume of a btrfs has the one of the whole.
    device: &'a [u8],
    /// What of the filesystem is mounted, and where.
    root: &'a [u8],
    point: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Mount<'a>> {
        let mut fields = line.split(|b| *b == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let (_parent, device) = (fields.next()?, fields.next()?);
        Some(Mount { id, device, root: fields.next()?, point: fields.next()? })
    }

    /// Which path in its filesystem this mount shows at `point`.
    fn at(&self, point: &[u8]) -> Option<Vec<u8>> {
        let below = |dir: &'a [u8]| if dir == b"/" { &b""[..] } else { dir };
        let rest = point.strip_prefix(below(self.point)).filter(|rest| rest.first() == Some(&b'/'))?;
        Some([below(self.root), rest].concat())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd leaves a service with ReadWritePaths=, beside mounts that only look alike.
    const TABLE: &[u8] = br"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 8:1 /opt /opt ro,relatime - ext4 /dev/sda1 rw
31 30 8:1 /opt/a\040b /opt/a\040b rw - ext4 /dev/sda1 rw
32 21 8:1 /srv /mnt rw - ext4 /dev/sda1 rw
33 21 8:2 /home2 /home2 rw - ext4 /dev/sdb1 rw
34 21 8:1 /home2 /home2/home2 rw - ext4 /dev/sda1 rw
40 21 0:40 /@data /data rw - btrfs /dev/sdc rw
41 40 0:40 /@data/sub /data/sub rw - btrfs /dev/sdc rw
42 40 0:40 /@sub /data/other rw - btrfs /dev/sdc rw
43 40 0:40 /@data/gone//deleted /data/gone rw - btrfs /dev/sdc rw
44 40 0:40 /@database /database rw - btrfs /dev/sdc rw
";

    #[test]
    fn a_mount_that_shows_what_is_there_anyway_is_told_from_others() {
        let inside = [(21, 30), (30, 31), (21, 31), (40, 41)];
        for (outer, inner) in inside {
            assert!(is_over_itself(TABLE, outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [(21, 32), (21, 33), (21, 34), (33, 34), (21, 40), (40, 42), (40, 43), (40, 44), (30, 21)]
        {
            assert!(!is_over_itself(TABLE, outer, inner), "{outer} {inner}");
        }
        assert!(!is_over_itself(TABLE, 21, 99) && !is_over_itself(b"", 21, 30) && !is_over_itself(b"21 x\n\n", 21, 30));
    }
}
