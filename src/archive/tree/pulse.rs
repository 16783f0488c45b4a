//! What of each source is being read, and since when. A server may leave a read without an answer for as long as it
//! pleases, and the thread that waits for it can tell nobody.

use crate::path::SourcePath;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Clones share it: who reads beats, who watches looks.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    source: Arc<str>,
    /// Of each source of which something is asked.
    last: Arc<Mutex<BTreeMap<Arc<str>, Beat>>>,
}

/// The last sign of life of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub source: Arc<str>,
    pub path: SourcePath,
    at: Instant,
}

impl Pulse {
    /// That of one source: whoever holds it beats and rests for that one alone.
    pub fn of(&self, source: &str) -> Pulse {
        Pulse { source: source.into(), last: self.last.clone() }
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Beat>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of this entry is about to be asked of the source.
    pub fn beat(&self, path: &SourcePath) {
        let beat = Beat { source: self.source.clone(), path: path.clone(), at: Instant::now() };
        self.last().insert(self.source.clone(), beat);
    }

    /// Nothing is asked of the source for now.
    pub fn rest(&self) {
        self.last().remove(&self.source);
    }

    /// What of its source has been waited for this long.
    pub fn stands_still(&self, for_at_least: Duration) -> Option<Beat> {
        self.last().get(&self.source).filter(|beat| beat.age() >= for_at_least).cloned()
    }

    /// What of any source has been waited for this long.
    pub fn all_that_stand_still(&self, for_at_least: Duration) -> Vec<Beat> {
        self.last().values().filter(|beat| beat.age() >= for_at_least).cloned().collect()
    }

    /// Whether what is waited for of its source was asked after that.
    pub fn has_asked_since(&self, then: Instant) -> bool {
        self.last().get(&self.source).is_some_and(|beat| then < beat.at)
    }

    /// Whether this is still what is waited for.
    pub fn is_at(&self, beat: &Beat) -> bool {
        self.last().get(&beat.source) == Some(beat)
    }
}

impl Beat {
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }
}
