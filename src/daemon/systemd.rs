//! What systemd is told. Without systemd all of it is nothing.

use sd_notify::NotifyState;
use std::time::Duration;

fn tell(state: NotifyState<'_>) {
    // Not being heard changes nothing about the work.
    let _ = sd_notify::notify(&[state]);
}

pub fn ready() {
    tell(NotifyState::Ready);
}

pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Until it is ready again.
pub fn reloading() {
    // Later versions of systemd ignore the one without the other.
    let _ = NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
}

/// A line for `systemctl status`.
pub fn status(line: &str) {
    tell(NotifyState::Status(line));
}

pub fn watchdog() {
    tell(NotifyState::Watchdog);
}

/// How often the watchdog wants to hear from us: twice as often as it must. `None` without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}
