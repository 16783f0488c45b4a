//! What of a source is being read, and since when. A server may leave a read without an answer for as long as it
//! pleases, and the thread that waits for it can tell nobody.

use crate::path::SourcePath;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Clones share it: who reads beats, who watches looks.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    source: Arc<str>,
    last: Arc<Mutex<Option<Beat>>>,
}

/// The last sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub source: Arc<str>,
    pub path: SourcePath,
    at: Instant,
}

impl Pulse {
    /// The same pulse, for this source.
    pub fn of(&self, source: &str) -> Pulse {
        Pulse { source: source.into(), last: self.last.clone() }
    }

    fn last(&self) -> MutexGuard<'_, Option<Beat>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of this entry is about to be asked of the source.
    pub fn beat(&self, path: &SourcePath) {
        *self.last() = Some(Beat { source: self.source.clone(), path: path.clone(), at: Instant::now() });
    }

    /// Nothing is asked of the source for now.
    pub fn rest(&self) {
        *self.last() = None;
    }

    /// What has been waited for this long.
    pub fn stands_still(&self, for_at_least: Duration) -> Option<Beat> {
        self.last().clone().filter(|beat| beat.age() >= for_at_least)
    }

    /// Whether this is still what is waited for.
    pub fn is_at(&self, beat: &Beat) -> bool {
        self.last().as_ref() == Some(beat)
    }
}

impl Beat {
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }
}
