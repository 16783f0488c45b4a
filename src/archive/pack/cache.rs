//! Reads ahead, and gives pages back after use, so that months of reading do not push everything else out of memory.

use crate::durable::forget_cached;
use rustix::fs::{Advice, fadvise};
use std::{fs::File, num::NonZeroU64};

/// Bytes that are asked for, and given back, at a time.
const STEP: u64 = 8 << 20;

/// How far a file was read. All of it is hints: where they fail nothing is lost but speed.
pub struct Cache<'a> {
    file: &'a File,
    /// What lies before was asked for.
    ahead: u64,
    /// What lies before was given back.
    behind: u64,
    end: u64,
}

impl<'a> Cache<'a> {
    /// For reading from `start` to `end`, in order.
    pub fn new(file: &'a File, start: u64, end: u64) -> Cache<'a> {
        // The first read takes all of a small file.
        let is_long = end - start > super::copy::BUFFER_LEN as u64;
        if is_long {
            let _ = fadvise(file, start, NonZeroU64::new(end - start), Advice::Sequential);
        }
        Cache { file, ahead: if is_long { start } else { end }, behind: start, end }
    }

    /// Before the bytes at `at` are read; those before it are not needed any more.
    pub fn reach(&mut self, at: u64) {
        self.ahead = self.ahead.max(at);
        if self.ahead < self.end && at + STEP / 2 >= self.ahead {
            let len = STEP.min(self.end - self.ahead);
            let _ = fadvise(self.file, self.ahead, NonZeroU64::new(len), Advice::WillNeed);
            self.ahead += len;
        }
        if at >= self.behind + STEP {
            forget_cached(self.file, self.behind, at - self.behind);
            self.behind = at;
        }
    }
}

impl Drop for Cache<'_> {
    fn drop(&mut self) {
        // To the end of the file, as only whole pages are given back.
        forget_cached(self.file, self.behind, 0);
    }
}
