//! Small things that all of these tests need.

use std::{env, path::PathBuf, process::Command, sync::Mutex, thread, time::Duration};
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;
/// Of every part but the last; no smaller ones are sent.
pub const PART: u64 = 8 * MIB;
pub const BUCKET: &str = "backup";

/// Numbers that are the same in every run: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len as usize);
        bytes
    }
}

/// A number from the environment, so that a campaign can do more than a test.
pub fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Whether what takes long is to be done.
pub fn at_length() -> bool {
    setting("ARCHIVER_NETWORK_LONG", 0) == 1
}

/// Does so many things at a time, most of which wait. Gives what is wrong with each.
pub fn side_by_side<T: Send>(all: Vec<T>, at_a_time: usize, check: impl Fn(T) -> Vec<String> + Sync) -> Vec<String> {
    let (left, wrong) = (Mutex::new(all.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(next) = next else { break };
                    let told = check(next);
                    wrong.lock().unwrap().extend(told);
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// In memory where that is possible, so that nobody waits for a disk.
pub fn dir() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// Runs a script of stock tools in a directory.
pub fn sh(dir: &std::path::Path, script: &str) -> String {
    let out = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Waits until something is so; fails after two minutes.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..24_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("It never came that {what}");
}
