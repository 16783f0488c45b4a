//! How stages learn that something has happened elsewhere.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Wakes whoever waits for something to happen anywhere in the pipeline.
#[derive(Debug, Default)]
pub struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.rung.notify_all();
    }

    /// How often it was rung. To be asked before looking around, so that no ring is missed meanwhile.
    pub fn rings(&self) -> u64 {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a ring after those, at most this long. Spurious wake-ups are fine: who waits looks again.
    pub fn wait(&self, after: u64, at_most: Duration) {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if *rings == after {
            let _ = self.rung.wait_timeout(rings, at_most);
        }
    }
}
