//! How many lines of one kind a minute has: a source with a hundred thousand files that cannot be read fills no log.

use std::{collections::BTreeMap, time::Duration};

/// Of one kind.
pub const LINES_MAX: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Limits(BTreeMap<&'static str, Told>);

struct Told {
    since: Duration,
    told: u32,
    held: u64,
}

impl Limits {
    /// Whether a line of this kind is told. `now` is the time since some fixed moment.
    pub fn admits(&mut self, event: &'static str, now: Duration) -> bool {
        let kind = self.0.entry(event).or_insert(Told { since: now, told: 0, held: 0 });
        if MINUTE <= now.saturating_sub(kind.since) {
            (kind.since, kind.told) = (now, 0);
        }
        let admits = kind.told < LINES_MAX;
        kind.told += u32::from(admits);
        kind.held += u64::from(!admits);
        admits
    }

    /// How many were not told of which kind, where a minute is over; or wherever any were not, at an end.
    pub fn due(&mut self, now: Duration, is_end: bool) -> Vec<(&'static str, u64)> {
        let is_due = |kind: &Told| 0 < kind.held && (is_end || MINUTE <= now.saturating_sub(kind.since));
        let due = self.0.iter_mut().filter(|(_, kind)| is_due(kind));
        due.map(|(event, kind)| (*event, std::mem::take(&mut kind.held))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_hundred_lines_a_minute_and_their_number() {
        let mut limits = Limits::default();
        let at = Duration::from_millis;
        // A hundred thousand within a minute.
        let told = (0..100_000).filter(|n| limits.admits("entry-lost", at(n * 6 / 10))).count();
        assert_eq!(told, LINES_MAX as usize);
        assert!(limits.admits("will-retry", at(59_999)), "Others are told");
        assert_eq!(limits.due(at(59_999), false), []);
        assert_eq!(limits.due(at(60_000), false), [("entry-lost", 100_000 - u64::from(LINES_MAX))]);
        assert_eq!(limits.due(at(60_000), false), []);
        assert!(limits.admits("entry-lost", at(60_000)), "The next minute begins anew");
        // What is left is told at an end.
        assert_eq!((0..LINES_MAX).filter(|_| limits.admits("entry-lost", at(60_001))).count(), LINES_MAX as usize - 1);
        assert_eq!(limits.due(at(60_002), true), [("entry-lost", 1)]);
        // A few now and then are all told.
        assert!((0..1000).all(|n| limits.admits("stands-still", at(n * 1000))));
    }
}
