//! What systemd is told. Without systemd all of it is nothing.

use crate::{
    fate::Trouble,
    notice::{Monitor, Notice},
    report,
    staging::Stop,
};
use sd_notify::NotifyState;
use std::{
    env,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// A stage that was not heard of for so many times what the watchdog allows the process hangs: a block of `xz -9`, or a
/// flush of much to a slow disk, may take minutes.
const STAGE_LIMITS: u32 = 10;

fn tell(state: NotifyState<'_>) {
    // Not being heard changes nothing about the work.
    let _ = sd_notify::notify(&[state]);
}

/// What StateDirectory= of the unit stands for; `None` outside of it.
pub fn own_directory() -> Option<PathBuf> {
    env::var_os("STATE_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute())
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

/// What is begun may take so much longer, although it is not ready yet.
pub fn extend(time: Duration) {
    tell(NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)));
}

/// For the watchdog, which waits for signs from READY on.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// The line of `systemctl status`: what there is to say now, told whenever it is another.
pub struct Headline {
    live: Arc<report::Live>,
    said: Mutex<String>,
}

impl Headline {
    /// `live` must hear of everything before this one does.
    pub fn of(live: Arc<report::Live>) -> Headline {
        Headline { live, said: Mutex::default() }
    }
}

impl Monitor for Headline {
    fn notice(&self, notice: &Notice) {
        if matches!(notice, Notice::EntryException { .. }) {
            return;
        }
        let mut line = self.live.headline();
        if matches!(notice, Notice::SettingsTaken { .. }) {
            line = format!("Configuration taken; {line}");
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != line {
            tell(NotifyState::Status(&line));
            *said = line;
        }
    }
}

/// Hears from us as long as nothing hangs; then it ends this process, and systemd starts another.
pub struct Watchdog(Option<(Interval, Duration)>);

impl Watchdog {
    /// As the unit says.
    pub fn configured() -> Watchdog {
        Watchdog(sd_notify::watchdog_enabled().map(|limit| {
            // Twice as often as it must.
            let mut due = interval(limit / 2);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (due, limit * STAGE_LIMITS)
        }))
    }

    pub async fn due(&mut self) {
        match &mut self.0 {
            Some((due, _)) => drop(due.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Tells the watchdog that all is well, or the log what is not.
    pub fn feed(&self, stop: &Stop, monitor: &dyn Monitor) {
        let limit = self.0.as_ref().map_or(Duration::MAX, |(_, limit)| *limit);
        let silent = stop.silent(limit, Instant::now());
        if silent.is_empty() {
            return alive();
        }
        for (name, since) in silent {
            let seconds = since.as_secs();
            let what = format!("The {name} has given no sign for {seconds} s: the watchdog ends this process");
            monitor.notice(&Notice::Trouble { trouble: Trouble::Internal, what, retry_in: None });
        }
    }
}
