//! How stages are told to end, and how it is seen that they could hear it: whoever works asks again and again whether
//! to stop, so one that has not asked for long hangs, and would not stop either.

use crate::fate::Stopped;
use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Tells stages to end: every reader that holds it fails from then on, and every wait ends.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<Flag>,
    /// Of whoever this one was given to.
    look: Option<Arc<Look>>,
}

#[derive(Debug, Default)]
struct Flag {
    told: AtomicBool,
    /// How often waits were ended without a stop.
    nudges: Mutex<u64>,
    bell: Condvar,
    watched: Mutex<Vec<Weak<Look>>>,
}

/// Whether what somebody waits for since then is outside of this program, as an answer of a source.
pub type Excuse = Box<dyn Fn(Instant) -> bool + Send + Sync>;

/// When somebody asked last.
struct Look {
    name: &'static str,
    began: Instant,
    /// Nanoseconds after `began`.
    at: AtomicU64,
    excuse: Option<Excuse>,
}

/// Does nothing for now, and nobody waits for it.
const RESTS: u64 = u64::MAX;

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").field("name", &self.name).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Look {
    /// It asked, or will when so much time has passed.
    fn after(&self, wait: Duration) {
        let at = self.began.elapsed().saturating_add(wait);
        self.at.store(u64::try_from(at.as_nanos()).unwrap_or(RESTS), Ordering::Relaxed);
    }

    fn at(&self) -> Option<Instant> {
        let at = self.at.load(Ordering::Relaxed);
        (at != RESTS).then(|| self.began + Duration::from_nanos(at))
    }
}

impl Stop {
    pub fn tell(&self) {
        self.flag.told.store(true, Ordering::Relaxed);
        // Who is about to wait holds the lock, so nobody misses the bell.
        drop(self.nudges());
        self.flag.bell.notify_all();
    }

    /// Ends every wait of now without a stop: what is waited for may be otherwise.
    pub fn nudge(&self) {
        *self.nudges() += 1;
        self.flag.bell.notify_all();
    }

    fn nudges(&self) -> MutexGuard<'_, u64> {
        self.flag.nudges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_told(&self) -> bool {
        if let Some(look) = &self.look {
            look.after(Duration::ZERO);
        }
        self.flag.told.load(Ordering::Relaxed)
    }

    /// Fails with [`Stopped`] once told to.
    pub fn heed(&self) -> io::Result<()> {
        if self.is_told() { Err(Stopped.into_io()) } else { Ok(()) }
    }

    /// Waits this long, or until it is told or nudged.
    pub fn wait(&self, at_most: Duration) {
        if let Some(look) = &self.look {
            look.after(at_most);
        }
        let nudges = self.nudges();
        let before = *nudges;
        let told = |now: &mut u64| *now == before && !self.flag.told.load(Ordering::Relaxed);
        drop(self.flag.bell.wait_timeout_while(nudges, at_most, told));
        self.is_told();
    }

    /// The same stop, for somebody who is [seen](Self::silent) to hang from now on, for as long as it is held.
    #[must_use]
    pub fn watched(&self, name: &'static str, excuse: Option<Excuse>) -> Stop {
        let look = Arc::new(Look { name, began: Instant::now(), at: AtomicU64::new(0), excuse });
        let mut watched = self.flag.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|look| look.strong_count() > 0);
        watched.push(Arc::downgrade(&look));
        Stop { flag: self.flag.clone(), look: Some(look) }
    }

    /// Whoever this one was given to does nothing until it asks again.
    pub fn rest(&self) {
        if let Some(look) = &self.look {
            look.at.store(RESTS, Ordering::Relaxed);
        }
    }

    /// Who is at work, has not asked for so long, and has no excuse; and since when.
    pub fn silent(&self, limit: Duration, now: Instant) -> Vec<(&'static str, Duration)> {
        let watched = self.flag.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = watched.iter().filter_map(Weak::upgrade).filter_map(|look| {
            let (at, excuse) = (look.at()?, look.excuse.as_ref());
            let since = now.saturating_duration_since(at);
            (limit <= since && !excuse.is_some_and(|excuse| excuse(at))).then_some((look.name, since))
        });
        silent.collect()
    }
}

/// Writes until it is told to stop.
pub struct Heeding<'a, W> {
    pub inner: W,
    pub stop: &'a Stop,
}

impl<W: Write> Write for Heeding<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stop.heed()?;
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has not asked since then.
    fn silent_since(stop: &Stop, then: Instant) -> Vec<&'static str> {
        let now = Instant::now();
        stop.silent(now - then, now).into_iter().map(|(name, _)| name).collect()
    }

    /// A moment between what was before and what comes.
    fn mark() -> Instant {
        let wait = || Stop::default().wait(Duration::from_millis(2));
        wait();
        let mark = Instant::now();
        wait();
        mark
    }

    #[test]
    fn who_does_not_ask_for_long_is_seen() {
        let stop = Stop::default();
        assert!(silent_since(&stop, mark()).is_empty(), "Nobody is watched");
        let (hangs, asks) = (stop.watched("hangs", None), stop.watched("asks", None));
        let then = mark();
        assert!(!asks.is_told());
        assert_eq!(silent_since(&stop, then), ["hangs"]);
        let then = mark();
        asks.rest();
        assert_eq!(silent_since(&stop, then), ["hangs"], "Who rests is not waited for");
        drop(hangs);
        assert!(silent_since(&stop, then).is_empty(), "Nor is who has ended");
        asks.is_told();
        assert_eq!(silent_since(&stop, mark()), ["asks"]);
    }

    #[test]
    fn a_wait_is_no_silence_before_it_should_be_over() {
        let stop = Stop::default();
        let waits = stop.watched("waits", None);
        let hour = Duration::from_secs(3600);
        std::thread::scope(|scope| {
            scope.spawn(|| waits.wait(hour));
            let at = |now: Instant| stop.silent(hour / 2, now).len();
            // It may not have begun to wait yet.
            while at(Instant::now() + hour) > 0 {
                std::thread::yield_now();
            }
            assert_eq!(at(Instant::now() + 2 * hour), 1);
            stop.nudge();
        });
        assert!(silent_since(&stop, mark() - hour).is_empty());
    }

    #[test]
    fn an_excuse_counts_only_if_it_is_younger_than_the_last_look() {
        let stop = Stop::default();
        let asked = mark();
        let reads = stop.watched("reads", Some(Box::new(move |looked| looked < asked)));
        assert_eq!(silent_since(&stop, mark()), ["reads"], "It asked the source before it asked us");
        drop(reads);
        let later = Instant::now() + Duration::from_secs(3600);
        let _waits = stop.watched("waits for the source", Some(Box::new(move |looked| looked < later)));
        assert!(silent_since(&stop, mark()).is_empty());
    }
}
