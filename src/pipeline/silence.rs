//! Whether anything moves at all, or has to. Every kind of trouble is told by itself; this is for those that nobody has thought of.

use crate::notice::{Monitor, Notice, Step};
use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The most that counts between two looks: a clock that is set forward, or a machine that slept, is no silence.
const LOOK_MAX: SignedDuration = SignedDuration::from_mins(10);

/// Counts what moves, and passes everything on.
pub struct Movement {
    to: Arc<dyn Monitor>,
    moved: AtomicU64,
}

impl Movement {
    pub fn new(to: Arc<dyn Monitor>) -> Movement {
        Movement { to, moved: AtomicU64::new(0) }
    }

    /// Another number whenever something has moved since.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn moves(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

impl Monitor for Movement {
    fn notice(&self, notice: &Notice) {
        if matches!(notice, Notice::StepEnded { .. } | Notice::PassStarted { .. } | Notice::PassEnded { .. }) {
            self.moves();
        }
        self.to.notice(notice);
    }

    fn progress(&self, step: Step, bytes: u64) {
        self.moves();
        self.to.progress(step, bytes);
    }

    fn rests(&self) {
        self.to.rests();
    }
}

/// How long nothing has moved.
#[derive(Default)]
pub struct Silence {
    moved: u64,
    looked_at: Option<Timestamp>,
    quiet: SignedDuration,
}

impl Silence {
    /// Tells once, and again after every such time, that nothing has moved for `limit` although `is_waiting`. While
    /// uploads may not go, silence is no news.
    pub fn look(
        &mut self,
        now: Timestamp,
        moved: u64,
        may_send: bool,
        limit: Duration,
        is_waiting: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let since = self.looked_at.replace(now).map_or(SignedDuration::ZERO, |before| now.duration_since(before));
        if moved != self.moved {
            (self.moved, self.quiet) = (moved, SignedDuration::ZERO);
            return None;
        }
        if may_send {
            self.quiet = self.quiet.saturating_add(since.clamp(SignedDuration::ZERO, LOOK_MAX));
        }
        let quiet = Duration::try_from(self.quiet).unwrap_or_default();
        if quiet < limit {
            return None;
        }
        self.quiet = SignedDuration::ZERO;
        is_waiting().then_some(quiet)
    }
}

/// Between two looks at whether anything has to move.
const REST_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Uploads that may go for so long, in the hours of one day or of several, are stuck when nothing moves: several tries
/// fit into it.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// Whether nothing has to move.
#[derive(Default)]
pub struct Rest {
    moved: u64,
    looked_at: Option<Timestamp>,
    hours: Hours,
}

/// The hours in which uploads may go: those of now, or the last ones.
#[derive(Default)]
struct Hours {
    moved: u64,
    looked_at: Option<Timestamp>,
    is_open: bool,
    /// Something moved in them, or nothing had to.
    are_good: bool,
    /// For how long of such hours nothing has moved.
    quiet: SignedDuration,
}

impl Hours {
    fn look(&mut self, now: Timestamp, moved: u64, may_send: bool) {
        let since = self.looked_at.replace(now).map_or(SignedDuration::ZERO, |before| now.duration_since(before));
        if may_send && !self.is_open {
            self.are_good = false;
        }
        self.is_open = may_send;
        if self.moved != moved {
            self.moved = moved;
            self.do_well();
        } else if may_send {
            self.quiet = self.quiet.saturating_add(since.clamp(SignedDuration::ZERO, LOOK_MAX));
        }
    }

    fn do_well(&mut self) {
        (self.are_good, self.quiet) = (true, SignedDuration::ZERO);
    }

    fn are_stuck(&self) -> bool {
        !self.are_good && STUCK_AFTER <= self.quiet
    }
}

impl Rest {
    /// Tells every few seconds that nothing has to move: nothing waits, or uploads may not go, unless they did not when
    /// they might. What is stuck is no rest because the window closes.
    pub fn look(&mut self, now: Timestamp, moved: u64, may_send: bool, is_waiting: impl FnOnce() -> bool) -> bool {
        self.hours.look(now, moved, may_send);
        if !self.is_to_be_asked(now, moved) {
            return false;
        }
        if !may_send && !self.hours.are_stuck() {
            return true;
        }
        let rests = !is_waiting();
        if rests {
            self.hours.do_well();
        }
        rests
    }

    /// Whether it is time to ask if anything has to move: nothing has, for a while.
    fn is_to_be_asked(&mut self, now: Timestamp, moved: u64) -> bool {
        let has_moved = std::mem::replace(&mut self.moved, moved) != moved;
        let is_time = self.looked_at.is_none_or(|before| now.duration_since(before).abs() >= REST_EVERY);
        if has_moved || is_time {
            self.looked_at = Some(now);
        }
        is_time && !has_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(24 * 3600);

    /// Looks every five minutes for so many hours; tells at which of them it was silent.
    fn silent(hours: i64, mut look: impl FnMut(&mut Silence, Timestamp, i64) -> Option<Duration>) -> Vec<i64> {
        let mut silence = Silence::default();
        let at = |minute: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        let told = (0..=hours * 12).filter(|n| look(&mut silence, at(n * 5), n / 12).is_some());
        told.map(|n| n / 12).collect()
    }

    #[test]
    fn nothing_that_moves_for_a_day_is_told_every_day() {
        let told = silent(80, |silence, now, _| silence.look(now, 0, true, LIMIT, || true));
        assert_eq!(told, [24, 48, 72]);
    }

    #[test]
    fn what_moves_what_has_nothing_to_do_and_what_may_not_send_is_not_silent() {
        let moves = silent(100, |silence, now, hour| silence.look(now, hour as u64 / 20, true, LIMIT, || true));
        let idles = silent(100, |silence, now, _| silence.look(now, 0, true, LIMIT, || false));
        // Weekends only.
        let window = silent(100, |silence, now, hour| silence.look(now, 0, hour > 90, LIMIT, || true));
        assert_eq!((moves, idles, window), (vec![], vec![], vec![]));
    }

    #[test]
    fn what_stands_still_is_asked_now_and_then() {
        let mut rest = Rest::default();
        let at = |second: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let moved = |second: i64| if second < 20 { second as u64 } else { 20 };
        let asked: Vec<i64> = (0..40).filter(|second| rest.is_to_be_asked(at(*second), moved(*second))).collect();
        assert_eq!(asked, [0, 25, 30, 35]);
        assert!(rest.is_to_be_asked(at(-90), 20), "A clock that was set back");
    }

    /// Looks every minute for three days; uploads may go from 20:00 to 24:00. Tells the hours in which it rests all the time.
    fn rests(moved: impl Fn(i64) -> u64, is_waiting: impl Fn(i64) -> bool, is_open: impl Fn(i64) -> bool) -> Vec<i64> {
        let mut rest = Rest::default();
        let mut look = |minute: i64| {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
            let hour = minute / 60;
            rest.look(now, moved(hour), is_open(minute), || is_waiting(hour))
        };
        (0..72).filter(|hour| (0..60).filter(|minute| look(hour * 60 + minute)).count() >= 59).collect()
    }

    #[test]
    fn what_is_stuck_is_no_rest_when_the_window_closes() {
        let evening = |minute: i64| minute / 60 % 24 >= 20;
        let all = |from: i64, to: i64| (from..to).collect::<Vec<_>>();
        let of = |parts: &[Vec<i64>]| parts.concat();
        // Nothing moves from the second evening on.
        let stuck = rests(|hour| hour.min(43) as u64, |_| true, evening);
        assert_eq!(stuck, of(&[all(0, 20), all(24, 44)]));
        // It moves a little at the beginning of each evening: an outage may come at its end.
        let moves = rests(|hour| (hour + 4) as u64 / 24, |_| true, evening);
        assert_eq!(moves, of(&[all(0, 20), all(24, 44), all(48, 68)]));
        // Nothing waits.
        assert_eq!(rests(|_| 0, |_| false, evening), all(0, 72));
        // Nothing did on the first evening.
        assert_eq!(rests(|_| 0, |hour| 24 <= hour, evening), all(0, 44));
        // It waits, and is stuck, until the third day.
        let over = rests(|_| 0, |hour| hour < 50, evening);
        assert_eq!(over, of(&[all(0, 20), all(50, 72)]));
        // A minute in every hour: half an hour of them is more than a day.
        let now_and_then = rests(|_| 0, |_| true, |minute| minute % 60 == 0);
        assert_eq!(now_and_then, all(0, 30));
    }

    #[test]
    fn a_clock_that_leaps_is_no_silence() {
        let mut silence = Silence::default();
        let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
        let told = [0, 5, 3, 90].into_iter().filter_map(|at| silence.look(day(at), 0, true, LIMIT, || true));
        assert_eq!(told.count(), 0);
    }
}
