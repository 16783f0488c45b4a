//! Keeps mails until the server takes them, on a thread of its own: whoever sends never waits, neither for a
//! server that hangs nor for one that is gone for weeks.

use super::{
    digest::Digest,
    letter::Mail,
    mail::{MailError, Options, Parcel, Post},
};
use crate::{
    fate::Chain,
    notice::{Monitor, Notice},
};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Mails that wait for the server. There is at most one per kind and digest, so this is days of an outage.
const QUEUE_MAX: usize = 50;
/// The thread looks at the clock at least this often: it need not run as the system's does.
const NAP_MAX: Duration = Duration::from_secs(60);

/// Where times come from.
pub struct Clock {
    /// Time since some fixed moment; never goes back.
    pub elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
    /// For the dates of mails.
    pub wall: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Clock {
    pub fn system() -> Clock {
        let start = Instant::now();
        Clock { elapsed: Box::new(move || start.elapsed()), wall: Box::new(SystemTime::now) }
    }
}

/// How long to wait for a server.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before the second attempt; doubles with each failure.
    pub first: Duration,
    /// The longest time between two attempts.
    pub most: Duration,
    /// For each step of a conversation.
    pub timeout: Duration,
    /// For what is still to be sent when the mailer is dropped.
    pub farewell: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            first: Duration::from_secs(60),
            most: Duration::from_secs(3600),
            timeout: Duration::from_secs(30),
            farewell: Duration::from_secs(5),
        }
    }
}

/// The mailer of a daemon, which may become another one, or none, while others tell it what happens.
#[derive(Default)]
pub struct Mailers(Mutex<Option<Mailer>>);

impl Mailers {
    /// Gives back the one before, whose end may take as long as its farewell.
    pub fn set(&self, mailer: Option<Mailer>) -> Option<Mailer> {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), mailer)
    }
}

impl Monitor for Mailers {
    fn notice(&self, notice: &Notice) {
        if let Some(mailer) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            mailer.notice(notice);
        }
    }
}

/// Sends mails, at most one per kind and digest. Dropping it gives what is left one quick attempt.
pub struct Mailer {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    patience: Patience,
    state: Mutex<State>,
    /// Something is to be sent, or to stop, or has stopped.
    news: Condvar,
}

struct State {
    digest: Digest,
    queue: VecDeque<Letter>,
    /// Mails that nobody got; told in the next one that somebody does.
    lost: u64,
    /// Attempts that failed in a row, and when the next one is due.
    failures: u32,
    next_attempt: Duration,
    is_stopping: bool,
    /// An attempt failed after the stop.
    gave_up: bool,
    has_stopped: bool,
}

struct Letter {
    mail: Mail,
    written: SystemTime,
    /// Once it was tried.
    parcel: Option<Parcel>,
    /// How many lost mails the parcel tells of.
    told: u64,
}

impl Letter {
    fn new(mail: Mail, clock: &Clock) -> Letter {
        Letter { mail, written: (clock.wall)(), parcel: None, told: 0 }
    }
}

impl Mailer {
    /// `host` is the name of this machine in subjects.
    pub fn start(options: &Options, host: &str, clock: Clock, patience: Patience) -> Result<Mailer, StartError> {
        let post = Post::new(options, host, patience.timeout)?;
        let state = State {
            digest: Digest::new(options.digest),
            queue: VecDeque::new(),
            lost: 0,
            failures: 0,
            next_attempt: Duration::ZERO,
            is_stopping: false,
            gave_up: false,
            has_stopped: false,
        };
        let shared = Arc::new(Shared { clock, patience, state: Mutex::new(state), news: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let run = move || of_thread.run(&post);
        thread::Builder::new().name("mailer".to_owned()).spawn(run).map_err(StartError::Thread)?;
        Ok(Mailer { shared })
    }

    /// Sends a mail in the background, or keeps it for the next digest. Never blocks.
    pub fn send(&self, mail: Mail) {
        let now = (self.shared.clock.elapsed)();
        let mut state = self.shared.lock();
        if let Some(mail) = state.digest.offer(mail, now) {
            state.enqueue(Letter::new(mail, &self.shared.clock));
            self.shared.news.notify_all();
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] MailError),
    #[error("Cannot start the thread that sends mails")]
    Thread(#[source] io::Error),
}

impl Monitor for Mailer {
    fn notice(&self, notice: &Notice) {
        if let Some(mail) = Mail::of(notice) {
            self.send(mail);
        }
    }
}

impl Drop for Mailer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_stopping = true;
        self.shared.news.notify_all();
        // Not joined: a server that hangs would hold us. The thread owns all it needs and ends with the process.
        let working = |state: &mut State| !state.has_stopped;
        let waited = self.shared.news.wait_timeout_while(state, self.shared.patience.farewell, working);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let left = state.queue.len() + usize::from(!state.has_stopped);
        if left > 0 {
            tracing::warn!(mails = left, "Mails were not sent before the end: {left}");
        }
    }
}

impl State {
    /// The oldest goes when there is no room: what is wrong now matters more.
    fn enqueue(&mut self, letter: Letter) {
        if self.queue.len() >= QUEUE_MAX {
            self.queue.pop_front();
            self.lost += 1;
        }
        self.queue.push_back(letter);
    }
}

impl Shared {
    /// A panic elsewhere leaves the state as good as it was: every change of it is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, post: &Post) {
        let mut state = self.lock();
        loop {
            let now = (self.clock.elapsed)();
            for mail in state.digest.due(now) {
                state.enqueue(Letter::new(mail, &self.clock));
            }
            let may_try = (now >= state.next_attempt || state.is_stopping) && !state.gave_up;
            if let Some(letter) = may_try.then(|| state.queue.pop_front()).flatten() {
                let lost = state.lost;
                drop(state);
                let outcome = attempt(post, letter, lost);
                state = self.lock();
                self.settle(&mut state, outcome);
            } else if state.is_stopping {
                break;
            } else {
                let next_attempt = (!state.queue.is_empty()).then_some(state.next_attempt);
                let next = [next_attempt, state.digest.next_due()].into_iter().flatten().min();
                let nap = next.map_or(NAP_MAX, |next| next.saturating_sub(now).min(NAP_MAX));
                state = self.news.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.has_stopped = true;
        self.news.notify_all();
    }

    fn settle(&self, state: &mut State, outcome: Outcome) {
        match outcome {
            Outcome::Arrived { told } => {
                state.lost = state.lost.saturating_sub(told);
                state.failures = 0;
            }
            Outcome::Refused => {
                state.lost += 1;
                state.failures = 0;
            }
            // One failure is all there is time for: what is left stays in the queue of a thread that ends.
            Outcome::Later(letter) if state.is_stopping => {
                state.queue.push_front(letter);
                state.gave_up = true;
            }
            Outcome::Later(letter) => {
                if state.queue.len() < QUEUE_MAX {
                    state.queue.push_front(letter);
                } else {
                    state.lost += 1;
                }
                let delay = self.patience.first.saturating_mul(1 << state.failures.min(20)).min(self.patience.most);
                state.failures = state.failures.saturating_add(1);
                state.next_attempt = (self.clock.elapsed)().saturating_add(delay);
            }
        }
    }
}

enum Outcome {
    Arrived { told: u64 },
    Refused,
    Later(Letter),
}

/// Tries to send one letter; `lost` is how many never arrived before it.
fn attempt(post: &Post, mut letter: Letter, lost: u64) -> Outcome {
    let mut parcel = match letter.parcel.take() {
        Some(parcel) if parcel.arrived || letter.told == lost => parcel,
        before => match post.compose(&with_lost(&letter.mail, lost), letter.written) {
            Ok(parcel) => {
                letter.told = lost;
                parcel.for_those_left_of(before)
            }
            Err(err) => {
                tracing::error!(subject = letter.mail.subject(), "Mail cannot be composed: {}", Chain(&err));
                return Outcome::Refused;
            }
        },
    };
    let mut refused = Vec::new();
    let outcome = post.deliver(&mut parcel, &mut refused);
    for err in refused {
        tracing::error!(subject = parcel.subject, "Mail was refused: {}", Chain(&err));
    }
    match outcome {
        Ok(()) if parcel.arrived => Outcome::Arrived { told: letter.told },
        Ok(()) => Outcome::Refused,
        Err(err) => {
            tracing::warn!(subject = parcel.subject, "Mail cannot be sent yet: {}", Chain(&err));
            letter.parcel = Some(parcel);
            Outcome::Later(letter)
        }
    }
}

fn with_lost(mail: &Mail, lost: u64) -> Mail {
    let mut mail = mail.clone();
    if lost > 0 {
        mail.append(&format!(
            "Mails that could not be sent before this one: {lost}. `journalctl -u archiver` has more."
        ));
    }
    mail
}

#[cfg(test)]
#[path = "mailer_tests.rs"]
mod tests;
