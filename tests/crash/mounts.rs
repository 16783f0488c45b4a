//! Disks of their own for some directories of a world.

use crate::{source::sh, world::World};
use std::{path::Path, process::Command, thread, time::Duration};

/// Mounted on `disk` of its world, with these directories of the world on it; gone before its world is.
pub struct Disk<'a> {
    world: &'a World,
    mount: String,
    dirs: &'static [&'static str],
}

pub const EXT4: &str = "truncate -s 64M image; mkfs.ext4 -q image";
/// All of it for whoever is root, too, and in blocks as larger ones have.
pub const SMALL: &str = "truncate -s 64M image; mkfs.ext4 -q -b 4096 -m 0 image";
/// Where a page of memory takes several blocks, a full disk ends whoever writes to a file through memory with SIGBUS, and
/// SQLite does that to the index of its log.
pub const TINY_BLOCKS: &str = "truncate -s 64M image; mkfs.ext4 -q -b 1024 -m 0 image";
/// The smallest that it still makes.
pub const XFS: &str = "truncate -s 300M image; mkfs.xfs -q image";

/// Tells that a test is left out where nothing can be mounted.
pub fn cannot_mount() -> bool {
    let cannot = !rustix::process::geteuid().is_root();
    if cannot {
        println!("Only root can mount a disk: not tested");
    }
    cannot
}

impl<'a> Disk<'a> {
    /// A filesystem that this script makes in the file `image`.
    pub fn image(world: &'a World, make: &str, dirs: &'static [&'static str]) -> Disk<'a> {
        sh(&world.path(""), make);
        // Beside the one of which it is a copy, which XFS refuses otherwise: see `restart`.
        let options = if make == XFS { "loop,nouuid" } else { "loop" };
        Disk::new(world, format!("mount -o {options} image disk"), dirs)
    }

    /// Of so many bytes, in memory.
    pub fn memory(world: &'a World, bytes: u64, dirs: &'static [&'static str]) -> Disk<'a> {
        Disk::new(world, format!("mount -t tmpfs -o size={bytes} none disk"), dirs)
    }

    fn new(world: &'a World, mount: String, dirs: &'static [&'static str]) -> Disk<'a> {
        let disk = Disk { world, mount, dirs };
        sh(&world.path(""), "mkdir disk");
        disk.mount();
        disk
    }

    /// Mounts what is there, and makes directories where it is new.
    pub fn mount(&self) {
        sh(&self.world.path(""), &self.mount);
        for dir in self.dirs {
            let bind = format!("mkdir -p -m 700 disk/{dir} {dir}; mount --bind disk/{dir} {dir}");
            sh(&self.world.path(""), &bind);
        }
    }

    /// Where the filesystem itself is.
    pub fn path(&self) -> std::path::PathBuf {
        self.world.path("disk")
    }

    pub fn remount(&self, options: &str) {
        sh(&self.world.path(""), &format!("mount -o remount,{options} disk"));
    }

    /// Takes all room but so many bytes, until [`Self::give_back`].
    pub fn leave(&self, bytes: u64) {
        // Who writes meanwhile may be faster, and then there is less to take.
        let script = "for n in {1..200}; do
                free=$(df -B1 --output=avail disk | tail -1)
                (( free > BYTES )) || exit 0
                fallocate -l $((free - BYTES)) disk/taken.$n 2>/dev/null || true
            done";
        sh(&self.world.path(""), &script.replace("BYTES", &bytes.to_string()));
    }

    pub fn give_back(&self) {
        sh(&self.world.path(""), "rm -r disk/taken*");
    }

    /// What makes the filesystem forget all that is not on the disk, and refuse everything from then on.
    pub fn cut(&self) -> String {
        format!("xfs_io -x -c shutdown {}", self.path().display())
    }

    /// After a cut: what a machine finds when it starts again. In a copy of the image: a mount namespace that somebody made
    /// meanwhile keeps the filesystem that was cut, and whoever mounts the same file again gets that one.
    pub fn restart(&self) {
        self.unmount();
        sh(&self.world.path(""), "cp --sparse=always image copy; mv copy image");
        self.mount();
    }

    /// Another disk in the place of this one, empty.
    pub fn renew(&self, make: &str) {
        self.unmount();
        sh(&self.world.path(""), &format!("rm image; {make}"));
        self.mount();
    }

    pub fn unmount(&self) {
        for dir in self.dirs.iter().rev().chain(&["disk"]) {
            unmount(&self.world.path(dir));
        }
    }
}

/// What was killed just now may still hold it.
fn unmount(path: &Path) {
    for _ in 0..100 {
        if Command::new("umount").arg("-q").arg(path).status().unwrap().success() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _ = Command::new("umount").arg("-l").arg(path).status();
    println!("{path:?} was still in use");
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.unmount();
    }
}
