//! What was asked and what was answered.

use crate::state::lock;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// One request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// The operation's name, `Unknown` if it has none.
    pub operation: String,
    /// The bucket.
    pub bucket: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// The number of the part.
    pub part: Option<i32>,
    /// The upload's id.
    pub upload: Option<String>,
    /// The access key that signed.
    pub access_key: Option<String>,
    /// The length that the header `Content-Length` announced.
    pub content_length: Option<u64>,
    /// Bytes of body that came, with the framing of signed chunks.
    pub received: u64,
    /// The header `If-None-Match`.
    pub if_none_match: Option<String>,
    /// The header `x-amz-storage-class`.
    pub storage_class: Option<String>,
    /// Every header `x-amz-checksum-…` and what names algorithms.
    pub checksums: BTreeMap<String, String>,
    /// The status that was answered; none if nothing was, or not yet.
    pub status: Option<u16>,
    /// The code in the error document, if one was answered.
    pub code: Option<String>,
    /// The name of the rule that had its way.
    pub rule: Option<String>,
    /// Seconds since 1970 by the machine's clock.
    pub at: f64,
    /// How long it took.
    pub took: Option<Duration>,
}

/// All requests of one server, in the order in which they came. It only grows: requests that are being answered know
/// their place in it.
#[derive(Default)]
pub(crate) struct Log {
    /// Each with the counter of its body, which goes on counting while the request is answered.
    entries: Mutex<Vec<(Entry, Arc<AtomicU64>)>>,
    received: Arc<AtomicU64>,
}

impl Log {
    pub fn begin(self: &Log, mut entry: Entry) -> Recording<'_> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        entry.at = now.as_secs_f64();
        let received = Arc::<AtomicU64>::default();
        let mut entries = lock(&self.entries);
        entries.push((entry, Arc::clone(&received)));
        Recording { log: self, index: entries.len() - 1, from: Instant::now(), received }
    }

    pub fn entries(&self) -> Vec<Entry> {
        let entries = lock(&self.entries);
        let shown = entries
            .iter()
            .map(|(entry, received)| Entry { received: received.load(Ordering::Relaxed), ..entry.clone() });
        shown.collect()
    }

    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (entry, _) in lock(&self.entries).iter() {
            *counts.entry(entry.operation.clone()).or_default() += 1;
        }
        counts
    }
}

/// A request that is being answered; its line is finished when this goes, however the request ends.
pub(crate) struct Recording<'a> {
    log: &'a Log,
    index: usize,
    from: Instant,
    received: Arc<AtomicU64>,
}

impl Recording<'_> {
    /// Counts bytes of body.
    pub fn counter(&self) -> Counter {
        Counter { this: Arc::clone(&self.received), all: Arc::clone(&self.log.received) }
    }

    pub fn note(&self, change: impl FnOnce(&mut Entry)) {
        if let Some((entry, _)) = lock(&self.log.entries).get_mut(self.index) {
            change(entry);
        }
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let took = self.from.elapsed();
        self.note(|entry| entry.took = Some(took));
    }
}

/// Counts the bytes of one body, and of all.
#[derive(Clone)]
pub(crate) struct Counter {
    this: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
}

impl Counter {
    pub fn add(&self, bytes: usize) {
        self.this.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
