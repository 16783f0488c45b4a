//! When uploading is allowed.

use super::context::Clock;
use crate::{
    notice::{Monitor, Notice},
    upload::Gate,
    window::Window,
};
use async_trait::async_trait;
use jiff::{SignedDuration, tz::TimeZone};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often a closed window is looked at: a predicate on local time, evaluated often, needs no arithmetic on
/// timers, which clock changes and suspends would make wrong.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Somebody waits for the end of a pause.
const PAUSED_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after the window has closed a part under way may still end.
pub const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// Uploads go at all times.
pub struct AlwaysOpen;

#[async_trait]
impl Gate for AlwaysOpen {
    async fn opened(&self) {}
}

/// Uploads go while the window is open, in the local time of a zone.
pub struct WindowGate {
    hours: Mutex<(Window, TimeZone)>,
    clock: Clock,
    monitor: Arc<dyn Monitor>,
    waiting: AtomicBool,
    is_paused: AtomicBool,
}

impl WindowGate {
    pub fn new(window: Window, zone: TimeZone, clock: Clock, monitor: Arc<dyn Monitor>) -> WindowGate {
        WindowGate {
            hours: Mutex::new((window, zone)),
            clock,
            monitor,
            waiting: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
        }
    }

    /// Holds for whoever waits already, too.
    pub fn set(&self, window: Window, zone: TimeZone) {
        *self.hours.lock().unwrap_or_else(PoisonError::into_inner) = (window, zone);
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Nothing more is begun until it is told otherwise. Parts under way end; that nothing moves is still told.
    pub fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    fn hours(&self) -> (Window, TimeZone) {
        self.hours.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Gate for WindowGate {
    async fn opened(&self) {
        loop {
            if self.is_paused.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSED_LOOK_EVERY).await;
                continue;
            }
            let (now, (window, zone)) = ((self.clock)(), self.hours());
            if window.is_open_at(now, &zone) {
                self.waiting.store(false, Ordering::Relaxed);
                return;
            }
            if !self.waiting.swap(true, Ordering::Relaxed) {
                let opens = window.next_change(now, &zone);
                let opens = opens.map_or("never".to_owned(), |at| at.to_zoned(zone).strftime("%a %H:%M").to_string());
                self.monitor.notice(&Notice::WaitingForWindow { opens });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn is_open(&self) -> bool {
        let (window, zone) = self.hours();
        window.is_open_at((self.clock)(), &zone)
    }

    /// What is under way was begun while the window was open, so one that is closed now, and was so that long ago,
    /// has been closed all the time between.
    async fn overdue(&self) {
        loop {
            let (now, (window, zone)) = ((self.clock)(), self.hours());
            let is_open = |at| window.is_open_at(at, &zone);
            if !is_open(now) && !now.checked_sub(GRACE).is_ok_and(is_open) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
