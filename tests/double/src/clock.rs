//! The time that the server believes it is.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

/// A clock that tests set. Thawing and dates follow `now`; the check of signatures follows `signing_now`, so that days
/// may pass for the archive without every client's signature becoming too old.
#[derive(Debug, Default)]
pub struct Clock {
    offset: AtomicI64,
    skew: AtomicI64,
}

impl Clock {
    /// The server's time.
    pub fn now(&self) -> SystemTime {
        shifted(self.offset.load(Ordering::SeqCst))
    }

    /// The time by which signatures are judged, and that the header `Date` tells.
    pub fn signing_now(&self) -> SystemTime {
        shifted(self.skew.load(Ordering::SeqCst))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.offset.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets how far the server is ahead of the machine, in milliseconds; negative is behind.
    pub fn set_offset(&self, millis: i64) {
        self.offset.store(millis, Ordering::SeqCst);
    }

    /// Sets how far the check of signatures is ahead of the machine, in milliseconds.
    pub fn set_skew(&self, millis: i64) {
        self.skew.store(millis, Ordering::SeqCst);
    }
}

fn shifted(offset: i64) -> SystemTime {
    let by = Duration::from_millis(offset.unsigned_abs());
    if offset < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
