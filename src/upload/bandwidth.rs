//! A limit on bytes per second over all parts together.

use crate::vault::payload::Pace;
use async_trait::async_trait;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// What may be caught up on after a late wake-up, and so the most that goes out above the rate at once.
const CREDIT: Duration = Duration::from_millis(500);
/// Bytes pass in so many steps a second.
const STEPS: u64 = 20;

/// Whoever wants to send takes the next free span of time, so all parts together keep to the rate, and none waits
/// for ever.
#[derive(Debug)]
pub(super) struct Bandwidth {
    /// Bytes per second; 0 without a limit.
    rate: AtomicU64,
    /// Until when time is taken.
    taken: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub(super) fn new(rate: Option<u64>) -> Bandwidth {
        Bandwidth { rate: AtomicU64::new(stored(rate)), taken: Mutex::new(None) }
    }

    /// From the next step of each part on. What was taken at the old rate is not waited for: it may be hours.
    pub(super) fn set(&self, rate: Option<u64>) {
        if self.rate.swap(stored(rate), Ordering::Relaxed) != stored(rate) {
            *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// When the span of time for these bytes begins; nothing without a limit.
    fn take(&self, bytes: u64) -> Option<Instant> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        let now = Instant::now();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        // The first bytes of all have nothing to catch up on.
        let from = taken.map_or(now, |taken| taken.max(earliest));
        *taken = Some(from + Duration::from_secs_f64(bytes as f64 / rate as f64));
        Some(from)
    }
}

fn stored(rate: Option<u64>) -> u64 {
    rate.map_or(0, |rate| rate.max(1))
}

#[async_trait]
impl Pace for Bandwidth {
    async fn pass(&self, bytes: u64) {
        if let Some(from) = self.take(bytes) {
            sleep_until(from).await;
        }
    }

    fn step(&self) -> u64 {
        match self.rate.load(Ordering::Relaxed) {
            0 => u64::MAX,
            rate => (rate / STEPS).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_must_be_paid_in_time() {
        let bandwidth = Bandwidth::new(Some(10));
        let start = Instant::now();
        for (bytes, seconds) in [(100, 0), (50, 10), (1, 15)] {
            bandwidth.pass(bytes).await;
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idling_saves_little_up() {
        let bandwidth = Bandwidth::new(Some(1_000));
        bandwidth.pass(1).await;
        tokio::time::advance(Duration::from_secs(1_000)).await;
        let start = Instant::now();
        for _ in 0..100 {
            bandwidth.pass(100).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((9.3..=10.0).contains(&took), "10,000 bytes at 1,000 a second took {took} s");
    }

    /// Over every minute, whatever the number of parts and however late their tasks wake up.
    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_a_minute_for_all_parts_together() {
        const RATE: u64 = 10_000_000;
        for parts in [1_u64, 4, 64] {
            let bandwidth = Arc::new(Bandwidth::new(Some(RATE)));
            let sent = Arc::new(Mutex::new(Vec::new()));
            let senders: Vec<_> = (0..parts)
                .map(|part| {
                    let (bandwidth, sent) = (bandwidth.clone(), sent.clone());
                    tokio::spawn(async move {
                        for round in 0.. {
                            bandwidth.pass(bandwidth.step()).await;
                            sent.lock().unwrap().push((Instant::now(), bandwidth.step()));
                            // Sending takes its time too, unevenly.
                            tokio::time::sleep(Duration::from_millis((part * 7 + round * 13) % 29)).await;
                        }
                    })
                })
                .collect();
            let start = Instant::now();
            tokio::time::sleep(Duration::from_secs(150)).await;
            senders.iter().for_each(tokio::task::JoinHandle::abort);
            let sent = sent.lock().unwrap();
            for second in 0..90 {
                let (from, to) = (start + Duration::from_secs(second), start + Duration::from_secs(second + 60));
                let bytes: u64 = sent.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, bytes)| bytes).sum();
                let off = bytes as f64 / (60 * RATE) as f64 - 1.0;
                assert!(off.abs() < 0.05, "{parts} parts, minute from {second} s: {off:+.3}");
            }
        }
    }
}
