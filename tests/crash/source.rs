//! Small trees to be archived, the same for the same seed.

use std::{
    env, fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
};

/// Numbers that are the same in every run: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

/// About 40 entries in 8 pieces of 1 MiB, with one of each sort that is treated in its own way.
pub fn mixed(root: &Path) {
    let mut random = Random::new(7);
    for dir in ["alpha/deep", "big", "many", "odd"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for n in 0..14 {
        fs::write(root.join(format!("alpha/{n:02}")), random.bytes(150_000 + 1000 * n)).unwrap();
    }
    fs::write(root.join("alpha/deep/one"), random.bytes(3)).unwrap();
    fs::hard_link(root.join("alpha/03"), root.join("alpha/03-link")).unwrap();
    // Larger than a piece: three segments.
    fs::write(root.join("big/F"), random.bytes(2_300_000)).unwrap();
    for n in 0..12 {
        fs::write(root.join(format!("many/{n}")), random.bytes(120_000)).unwrap();
    }
    let odd = root.join("odd");
    fs::write(odd.join("empty"), "").unwrap();
    fs::write(odd.join("tagged"), "with an attribute").unwrap();
    sh(&odd, "setfattr -n user.color -v blue tagged; mkfifo -m 640 pipe; chown 12:34 pipe");
    symlink("../many/1", odd.join("link")).unwrap();
    drop(UnixListener::bind(odd.join("socket")).unwrap());
    fs::create_dir(root.join("zz-empty")).unwrap();
    // Old enough that nothing is still changing, and with nanoseconds.
    sh(root, "find . -depth -exec touch -h -d '2020-01-02 03:04:05.678912345 UTC' {} +");
}

/// A number from the environment, so that a campaign can do more than a test.
pub fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs a script in bash; fails the test if any command of it fails.
pub fn sh(dir: &Path, script: &str) -> String {
    let out = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
