//! A limit on bytes per second over all parts together.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// A part goes out whole, and the next one only when the time for it has passed. Nothing is saved up while nothing
/// is sent, so the rate is never exceeded over any time longer than one part takes.
#[derive(Debug)]
pub(super) struct Bandwidth {
    /// Bytes per second; `None` is without limit.
    rate: Option<u64>,
    /// When what was sent is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub(super) fn new(rate: Option<u64>) -> Bandwidth {
        Bandwidth { rate: rate.map(|rate| rate.max(1)), paid: Mutex::new(None) }
    }

    /// Waits until something may be sent. May be dropped and asked again.
    pub(super) async fn ready(&self) {
        // Someone else may have sent something while we slept.
        while let Some(paid) = self.owed() {
            sleep_until(paid).await;
        }
    }

    fn owed(&self) -> Option<Instant> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).filter(|paid| *paid > Instant::now())
    }

    /// To be told of all that is sent, before it is.
    pub(super) fn charge(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.filter(|paid| *paid > now).unwrap_or(now);
        *paid = Some(from + Duration::from_secs_f64(bytes as f64 / rate as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_must_be_paid_in_time() {
        let bandwidth = Bandwidth::new(Some(10));
        let start = Instant::now();
        for (bytes, seconds) in [(100, 0), (50, 10), (1, 15)] {
            bandwidth.ready().await;
            assert_eq!(start.elapsed().as_secs(), seconds);
            bandwidth.charge(bytes);
        }
        // Two that were let through at once both count, and idling saves nothing up.
        tokio::time::advance(Duration::from_secs(1_000)).await;
        let start = Instant::now();
        bandwidth.charge(30);
        bandwidth.charge(40);
        bandwidth.ready().await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let bandwidth = Bandwidth::new(None);
        let start = Instant::now();
        bandwidth.charge(u64::MAX);
        bandwidth.ready().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
