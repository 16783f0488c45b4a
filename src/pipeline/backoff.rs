//! How long to wait after a failure, and when to give up. Pure: time and chance come in by the parameter list.
//!
//! Waits double up to five minutes at most and stay there, so however long an outage lasts, its end is found
//! within five minutes. A part of each wait is chance: hosts that failed together do not come back together.

use crate::fate::{Fate, Waits};
use jiff::Timestamp;
use std::time::Duration;

/// A run that somebody waits for gives up after so many failures in a row, with the queue kept.
const TRIES_ONCE: u32 = 4;

/// When trying again is in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A daemon has all the time there is.
    Never,
    /// After some failures in a row, and at once where an operator must act.
    Soon,
    /// This long after the first failure in a row, whatever it was.
    After(Duration),
}

impl Limit {
    /// Of a run that ends when nothing is left to do, and of one that does not.
    pub fn of(once: bool, give_up_after: Option<Duration>) -> Limit {
        match (once, give_up_after) {
            (false, _) => Limit::Never,
            (true, None) => Limit::Soon,
            (true, Some(time)) => Limit::After(time),
        }
    }
}

/// Failures in a row.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    first: Option<Timestamp>,
}

impl Backoff {
    /// After a failure: how long to wait before the next try, or nothing when there is to be none. `chance` is any
    /// number. The last wait ends with the time that is left, so that the last try is made at its end.
    pub fn failed(&mut self, waits: Waits, fate: Fate, now: Timestamp, limit: Limit, chance: u32) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let wait = waits.after(self.failures, chance);
        let first = *self.first.get_or_insert(now);
        match limit {
            Limit::Never => Some(wait),
            Limit::Soon => (fate != Fate::Operator && self.failures < TRIES_ONCE).then_some(wait),
            Limit::After(time) => {
                // A clock that was set back has not moved at all; the next try may be its last all the same.
                let passed = Duration::try_from(now.duration_since(first)).unwrap_or_default();
                let left = time.saturating_sub(passed);
                (!left.is_zero()).then(|| wait.min(left))
            }
        }
    }

    pub fn succeeded(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Waits = Waits::secs(1, 300);
    const FIRST_WAIT: Duration = RETRY.first;
    const LONGEST_WAIT: Duration = RETRY.longest;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn second(second: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second as i64).unwrap()
    }

    /// Pseudorandom, and the same in every run.
    fn dice(seed: u32) -> impl FnMut() -> u32 {
        let mut state = u64::from(seed);
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        }
    }

    /// Tries until something works, or there is no try left: when each was made. The vault is away until `away`.
    fn tries(fate: Fate, limit: Limit, away: Duration, seed: u32) -> (Vec<Duration>, bool) {
        let (mut backoff, mut chance) = (Backoff::default(), dice(seed));
        let (mut now, mut tries) = (Duration::ZERO, Vec::new());
        loop {
            tries.push(now);
            if away <= now {
                return (tries, true);
            }
            match backoff.failed(fate.into(), fate, second(0) + now, limit, chance()) {
                Some(wait) => now += wait,
                None => return (tries, false),
            }
        }
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_are_at_least_half_of_that() {
        let steps = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300];
        for (chance, part) in [(0, 0.5), (u32::MAX, 1.0), (u32::MAX / 2, 0.75)] {
            let mut backoff = Backoff::default();
            for step in steps {
                let wait = backoff.failed(RETRY, Fate::Retry, second(0), Limit::Never, chance).unwrap().as_secs_f64();
                assert!((wait - part * f64::from(step)).abs() < 0.001, "{wait} of {step} by {chance}");
            }
            backoff.succeeded();
            assert!(backoff.failed(RETRY, Fate::Retry, second(0), Limit::Never, chance).unwrap() <= FIRST_WAIT);
        }
        let mut tired = Backoff { failures: u32::MAX, first: None };
        assert_eq!(tired.failed(RETRY, Fate::Retry, second(0), Limit::Never, u32::MAX), Some(LONGEST_WAIT));
    }

    #[test]
    fn the_end_of_an_outage_of_two_days_is_found_within_five_minutes() {
        for seed in 0..200 {
            let away = 48 * HOUR + Duration::from_secs(u64::from(seed));
            let (tries, found) = tries(Fate::Retry, Limit::Never, away, seed);
            let late = *tries.last().unwrap() - away;
            assert!(found && late <= LONGEST_WAIT, "{late:?} late");
            let few = (48 * 3_600 / 300)..=(48 * 3_600 / 150 + 20);
            assert!(few.contains(&tries.len()), "{} tries", tries.len());
        }
    }

    #[test]
    fn where_an_operator_must_act_it_is_tried_every_minute() {
        let (tries, found) = tries(Fate::Operator, Limit::Never, HOUR, 1);
        assert!(found);
        assert!(tries.windows(2).all(|pair| (30..=60).contains(&(pair[1] - pair[0]).as_secs())), "{tries:?}");
    }

    #[test]
    fn a_run_that_somebody_waits_for_gives_up_soon() {
        for (fate, count) in [(Fate::Retry, 4), (Fate::Operator, 1)] {
            let (tries, found) = tries(fate, Limit::Soon, HOUR, 1);
            assert_eq!((tries.len(), found), (count, false), "{fate:?}");
        }
    }

    #[test]
    fn with_a_time_to_give_up_the_last_try_is_made_when_it_is_over() {
        for fate in [Fate::Retry, Fate::Operator] {
            for time in [0, 1, 5, 59, 60, 61, 900, 172_800].map(Duration::from_secs) {
                for seed in 0..20 {
                    let (tries, found) = tries(fate, Limit::After(time), 1_000 * HOUR, seed);
                    assert!(!found);
                    assert_eq!(tries.last(), Some(&time), "{fate:?} for {time:?}");
                }
            }
        }
        let (tries, found) = tries(Fate::Operator, Limit::After(HOUR), Duration::from_secs(601), 1);
        assert!(
            found && tries.last().is_some_and(|last| (601..=661).contains(&last.as_secs())),
            "What passes in time is no failure"
        );
    }

    #[test]
    fn the_time_counts_from_the_first_failure_in_a_row() {
        let limit = Limit::After(Duration::from_secs(100));
        let mut backoff = Backoff::default();
        let fails_at = |backoff: &mut Backoff, at: u64| backoff.failed(RETRY, Fate::Retry, second(at), limit, u32::MAX);
        assert!(fails_at(&mut backoff, 0).is_some());
        assert!(fails_at(&mut backoff, 99).is_some());
        backoff.succeeded();
        assert!(fails_at(&mut backoff, 150).is_some(), "A success in between begins anew");
        assert!(fails_at(&mut backoff, 249).is_some());
        assert!(fails_at(&mut backoff, 250).is_none());
        let mut backoff = Backoff::default();
        assert!(fails_at(&mut backoff, 500).is_some());
        assert!(fails_at(&mut backoff, 100).is_some(), "A clock that was set back");
        assert!(fails_at(&mut backoff, 600).is_none());
    }
}
