//! Tells a dead-man service that the work goes on: a request, every so often, after something has moved or while
//! nothing has to. Whoever does not hear of it any more is told by that service, also when this machine is gone.
//!
//! The only door to HTTP outside of the vault. It works on a thread of its own, and holds nobody.

use super::{
    letter::{TEXT_MAX, clean},
    times::Clock,
};
use crate::notice::{Monitor, Notice, Step};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

/// For one request, from looking the name up to the answer, redirects included.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: u32 = 3;
/// After a start that long before the first one: a daemon that ends at once, again and again, is not alive.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// Before a request that failed is made again; doubles, up to the time between two of them.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Between two looks at whether something has moved.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// At the end of a process.
const FAREWELL: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// `https://…` or `http://…`. Who knows its path can say that all is well.
    pub url: String,
    pub every: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("url", &shown(&self.url)).field("every", &self.every).finish()
    }
}

/// What may be told of a URL: not its path.
pub fn shown(url: &str) -> String {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find(['/', '?', '#']).map_or(url.len(), |at| after + at);
    let host = url[after..end].rsplit('@').next().unwrap_or_default();
    format!("{}{host}/…", &url[..after])
}

pub struct Heartbeat {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    /// Since the last request, or nothing had to.
    moved: AtomicBool,
    /// Sources whose pass is held.
    held: Mutex<BTreeSet<String>>,
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    has_thread: bool,
    options: Option<Options>,
    next: Duration,
    failures: u32,
    is_stopping: bool,
    /// All went well: one more before the end.
    is_complete: bool,
    has_stopped: bool,
}

impl Heartbeat {
    /// Silent until it is told whereto.
    pub fn new(clock: Clock) -> Heartbeat {
        let state = State {
            has_thread: false,
            options: None,
            next: Duration::ZERO,
            failures: 0,
            is_stopping: false,
            is_complete: false,
            has_stopped: false,
        };
        let shared = Arc::new(Shared {
            clock,
            moved: AtomicBool::new(false),
            held: Mutex::default(),
            state: Mutex::new(state),
            news: Condvar::new(),
        });
        Heartbeat { shared }
    }

    /// From now on like this, or not at all.
    pub fn set(&self, options: Option<Options>) {
        let now = (self.shared.clock.elapsed)();
        let mut state = self.shared.lock();
        if state.options == options {
            return;
        }
        let is_first = state.options.is_none();
        state.failures = 0;
        if let Some(Options { every, .. }) = options {
            // Another URL is told at once.
            state.next = if is_first { now.saturating_add(FIRST_AFTER.min(every)) } else { now };
        }
        state.options = options;
        if state.options.is_some() && !state.has_thread {
            let of_thread = Arc::clone(&self.shared);
            match thread::Builder::new().name("heartbeat".to_owned()).spawn(move || of_thread.run()) {
                Ok(_) => state.has_thread = true,
                Err(err) => tracing::warn!("The heartbeat cannot start: {err}"),
            }
        }
        self.shared.news.notify_all();
    }

    /// A run that brought everything to its end tells that; waits a little for it to get out.
    pub fn complete(&self) {
        let mut state = self.shared.lock();
        if !state.has_thread {
            return;
        }
        (state.is_stopping, state.is_complete) = (true, true);
        self.shared.news.notify_all();
        let waited = self.shared.news.wait_timeout_while(state, FAREWELL, |state| !state.has_stopped);
        drop(waited);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.news.notify_all();
    }
}

impl Monitor for Heartbeat {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::PassHeld { source, .. } => drop(self.shared.held().insert(source.clone())),
            Notice::PassStarted { source, .. } | Notice::NothingDue { source, .. } | Notice::GoesOn { source, .. } => {
                self.shared.held().remove(source);
            }
            Notice::SettingsTaken { changes, .. } => {
                let gone = |source: &String| {
                    changes.iter().any(|change| change.new.is_none() && change.key == format!("source.{source}.name"))
                };
                self.shared.held().retain(|source| !gone(source));
            }
            _ => {}
        }
        // Not that a pass is under way: that is told at every start.
        if matches!(notice, Notice::StepEnded { .. } | Notice::PassEnded { .. }) {
            self.shared.moved.store(true, Ordering::Relaxed);
        }
    }

    fn progress(&self, _: Step, _: u64) {
        self.shared.moved.store(true, Ordering::Relaxed);
    }

    fn rests(&self) {
        // A pass that is due and cannot begin is no rest.
        if self.shared.held().is_empty() {
            self.shared.moved.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let now = (self.clock.elapsed)();
            let is_due = state.next <= now && self.moved.load(Ordering::Relaxed) && !state.is_stopping;
            let options = state.options.clone().filter(|_| is_due || state.is_complete);
            if let Some(options) = options {
                state.is_complete = false;
                self.moved.store(false, Ordering::Relaxed);
                drop(state);
                let made = request(&options.url);
                state = self.lock();
                self.settle(&mut state, &options, made);
            } else if state.is_stopping {
                break;
            } else {
                let look = state.options.as_ref().map_or(FIRST_AFTER, |options| options.every.min(LOOK_EVERY));
                let nap = state.next.saturating_sub(now).clamp(look, FIRST_AFTER);
                state = self.news.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.has_stopped = true;
        self.news.notify_all();
    }

    fn settle(&self, state: &mut State, options: &Options, made: Result<(), String>) {
        // Of other settings, which hold no more.
        if state.options.as_ref() != Some(options) {
            return;
        }
        let (now, url) = ((self.clock.elapsed)(), shown(&options.url));
        let wait = match made {
            Ok(()) => {
                if std::mem::take(&mut state.failures) > 0 {
                    tracing::info!("The heartbeat is heard again by {url}");
                }
                options.every
            }
            Err(why) => {
                // What moved before was not told.
                self.moved.store(true, Ordering::Relaxed);
                if state.failures == 0 {
                    tracing::warn!("The heartbeat is not heard by {url}, and is sent again and again: {why}");
                }
                let wait = AGAIN_AFTER.saturating_mul(1 << state.failures.min(10)).min(options.every);
                state.failures = state.failures.saturating_add(1);
                wait
            }
        };
        state.next = now.saturating_add(wait);
    }
}

/// Made for each request, so that new root certificates are taken up: those of the system, or of `SSL_CERT_FILE`.
fn agent(url: &str) -> Agent {
    let certificates = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
    Agent::config_builder()
        .timeout_global(Some(REQUEST_WITHIN))
        .max_redirects(REDIRECTS_MAX)
        // What began in secret does not go on in the open.
        .https_only(url.starts_with("https:"))
        .user_agent(concat!("archiver/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build()
        .new_agent()
}

/// Errors do not say the URL.
fn request(url: &str) -> Result<(), String> {
    match agent(url).get(url).call() {
        Ok(_) => Ok(()),
        Err(ureq::Error::BadUri(_)) => Err("a redirect leads nowhere".to_owned()),
        Err(ureq::Error::RequireHttpsOnly(_)) => Err("a redirect leads out of https".to_owned()),
        Err(err) => Err(clean(&err.to_string(), TEXT_MAX)),
    }
}

/// Whether the server is there and can be trusted; asks for `/`, which no service takes for a heartbeat.
pub fn reach(url: &str) -> Result<(), String> {
    let shown = shown(url);
    let root = shown.trim_end_matches('…');
    match agent(url).get(root).call() {
        Ok(_) | Err(ureq::Error::StatusCode(_) | ureq::Error::TooManyRedirects) => Ok(()),
        Err(err) => Err(clean(&err.to_string(), TEXT_MAX)),
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
