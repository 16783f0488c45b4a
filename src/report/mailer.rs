//! Keeps mails until the server takes them, on a thread of its own: whoever sends never waits, neither for a
//! server that hangs nor for one that is gone for weeks. What it knows is in a file as well, written by a second
//! thread: a disk that hangs keeps no mail from going out.

use super::{
    digest::Digest,
    letter::{Mail, TEXT_MAX, clean, counted, human},
    mail::{MailError, Options, Post, Stamp},
    spool::{Letter, Memory, Spool},
    times::{Clock, Patience},
};
use crate::{
    fate::Chain,
    notice::{Monitor, Notice},
    pipeline::random_id,
};
use std::{
    collections::{BTreeSet, VecDeque},
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

/// Mails that wait for the server. There is at most one per kind and digest, so this is days of an outage.
const QUEUE_MAX: usize = 50;
/// The thread looks at the clock at least this often: it need not run as the system's does.
const NAP_MAX: Duration = Duration::from_secs(60);
/// Sends mails, at most one per kind and digest. Dropping it gives what is left one quick attempt; what remains then
/// is in the spool, for the next one.
pub struct Mailer {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    patience: Patience,
    state: Mutex<State>,
    /// Something is to be sent, or to stop, or has stopped.
    news: Condvar,
    /// Something is to be written down.
    changed: Condvar,
}

struct State {
    post: Arc<Post>,
    digest: Digest,
    /// The first of them may be on its way.
    queue: VecDeque<Letter>,
    is_sending: bool,
    /// Mails that nobody got; told in the next one that somebody does.
    lost: u64,
    /// Attempts that failed in a row, since when, and when the next one is due.
    failures: u32,
    failing_since: Duration,
    next_attempt: Duration,
    /// Addresses of which it was told that they take nothing.
    refusing: BTreeSet<String>,
    is_unsaved: bool,
    is_stopping: bool,
    /// An attempt failed after the stop.
    gave_up: bool,
    has_stopped: bool,
    /// There is nothing that is to be written down, nor will there be.
    is_kept: bool,
}

impl Mailer {
    /// `host` is the name of this machine in subjects; `spool` the directory in which it remembers what it knows.
    pub fn start(
        options: &Options,
        host: &str,
        spool: Option<&Path>,
        clock: Clock,
        patience: Patience,
    ) -> Result<Mailer, StartError> {
        let post = Arc::new(Post::new(options, host, patience.timeout)?);
        let mut digest = Digest::new(options.digest);
        let (spool, memory) = spool.map(Spool::open).unzip();
        let memory = memory.unwrap_or_default();
        let now = (clock.elapsed)();
        digest.recall(memory.digest, now, clock.calendar());
        let state = State {
            post,
            digest,
            queue: memory.letters.into_iter().take(QUEUE_MAX).collect(),
            is_sending: false,
            lost: memory.lost,
            failures: 0,
            failing_since: now,
            next_attempt: Duration::ZERO,
            refusing: BTreeSet::new(),
            is_unsaved: false,
            is_stopping: false,
            gave_up: false,
            has_stopped: false,
            is_kept: spool.is_none(),
        };
        let (news, changed) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { clock, patience, state: Mutex::new(state), news, changed });
        if let Some(spool) = spool {
            let of_thread = Arc::clone(&shared);
            start("mail spool", move || of_thread.keep(spool))?;
        }
        let of_thread = Arc::clone(&shared);
        start("mailer", move || of_thread.run())?;
        Ok(Mailer { shared })
    }

    /// From now on by these settings; they may be what was wrong, so what waits is tried at once.
    pub fn change(&self, options: &Options, host: &str) -> Result<(), StartError> {
        let post = Post::new(options, host, self.shared.patience.timeout)?;
        let mut state = self.shared.lock();
        state.post = Arc::new(post);
        state.digest.set_every(options.digest);
        (state.failures, state.next_attempt) = (0, Duration::ZERO);
        state.refusing.clear();
        self.shared.news.notify_all();
        Ok(())
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(StartError::Thread)
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] MailError),
    #[error("Cannot start the thread that sends mails")]
    Thread(#[source] io::Error),
}

/// Mails go out in the background, or are kept for the next digest. Never blocks.
impl Monitor for Mailer {
    fn notice(&self, notice: &Notice) {
        let now = (self.shared.clock.elapsed)();
        let mut state = self.shared.lock();
        let heard = state.digest.hear(notice, now);
        if !heard.is_news {
            return;
        }
        for mail in heard.now {
            state.enqueue(mail, &self.shared.clock);
            self.shared.news.notify_all();
        }
        self.shared.to_save(&mut state);
    }
}

impl Drop for Mailer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_stopping = true;
        self.shared.news.notify_all();
        self.shared.changed.notify_all();
        // Not joined: a server that hangs would hold us. The threads own all they need and end with the process.
        let working = |state: &mut State| !state.has_stopped || !state.is_kept;
        let waited = self.shared.news.wait_timeout_while(state, self.shared.patience.farewell, working);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let left = state.queue.len();
        if left > 0 {
            tracing::warn!(mails = left, "Mails were not sent before the end: {left}");
        }
    }
}

impl State {
    /// The oldest goes when there is no room: what is wrong now matters more.
    fn enqueue(&mut self, mail: Mail, clock: &Clock) {
        if self.queue.len() >= QUEUE_MAX {
            // Not the one that may be arriving just now.
            self.queue.remove(usize::from(self.is_sending));
            self.lost += 1;
        }
        let (id, written) = (random_id(), clock.calendar());
        self.queue.push_back(Letter { id, mail, written, arrived: false, told: 0, done: Vec::new() });
    }

    fn memory(&self, clock: &Clock) -> Memory {
        let digest = self.digest.remember((clock.elapsed)(), clock.calendar());
        Memory { lost: self.lost, letters: self.queue.iter().cloned().collect(), digest }
    }
}

impl Shared {
    /// A panic elsewhere leaves the state as good as it was: every change of it is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to_save(&self, state: &mut State) {
        if !std::mem::replace(&mut state.is_unsaved, true) {
            self.changed.notify_all();
        }
    }

    /// Writes down what is new, every now and then.
    fn keep(&self, mut spool: Spool) {
        let mut state = self.lock();
        loop {
            let idle = |state: &mut State| !state.is_unsaved && !state.has_stopped;
            state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            if !state.is_unsaved {
                break;
            }
            state.is_unsaved = false;
            let memory = state.memory(&self.clock);
            drop(state);
            spool.save(memory);
            state = self.lock();
            let resting = |state: &mut State| !state.is_stopping;
            let rested = self.changed.wait_timeout_while(state, self.patience.rest, resting);
            state = rested.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(spool);
        state.is_kept = true;
        self.news.notify_all();
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let now = (self.clock.elapsed)();
            for mail in state.digest.due(now) {
                state.enqueue(mail, &self.clock);
                self.to_save(&mut state);
            }
            let may_try = (now >= state.next_attempt || state.is_stopping) && !state.gave_up;
            if let Some(letter) = may_try.then(|| state.queue.front().cloned()).flatten() {
                let (post, lost) = (state.post.clone(), state.lost);
                state.is_sending = true;
                drop(state);
                let tried = attempt(&post, letter, lost);
                state = self.lock();
                state.is_sending = false;
                // Where the settings became others meanwhile, it tells nothing of them.
                let is_of_now = Arc::ptr_eq(&post, &state.post);
                self.settle(&mut state, tried, is_of_now);
                self.to_save(&mut state);
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
        self.changed.notify_all();
    }

    fn settle(&self, state: &mut State, tried: Tried, is_of_now: bool) {
        let Tried { letter, outcome, refused } = tried;
        for (to, why) in &refused {
            if state.refusing.insert(to.clone()) {
                tracing::error!(subject = letter.mail.subject(), "Mail was refused: {why}");
            }
        }
        let now = (self.clock.elapsed)();
        match outcome {
            Outcome::Later(why) => {
                if let Some(waits) = state.queue.front_mut() {
                    *waits = letter;
                }
                if !is_of_now {
                    return;
                }
                if state.failures == 0 {
                    state.failing_since = now;
                    let waiting = counted(state.queue.len() as u64, "mail");
                    tracing::warn!("Mail cannot be sent yet, and is tried again and again; {waiting} waiting: {why}");
                }
                // One failure is all there is time for: what is left is for the next start.
                state.gave_up = state.is_stopping;
                let delay = self.patience.first.saturating_mul(1 << state.failures.min(20)).min(self.patience.most);
                state.failures = state.failures.saturating_add(1);
                state.next_attempt = now.saturating_add(delay);
                return;
            }
            Outcome::Arrived => {
                let refuses = |to: &String| refused.iter().any(|(other, _)| other == to);
                state.refusing.retain(|to| refuses(to) || !letter.done.contains(to));
                state.lost = state.lost.saturating_sub(letter.told);
            }
            Outcome::Refused => state.lost += 1,
        }
        state.queue.pop_front();
        if std::mem::take(&mut state.failures) > 0 {
            let after = human(now.saturating_sub(state.failing_since));
            tracing::info!("Mail goes out again, after {after}");
        }
    }
}

/// What came of an attempt, with the letter as it is now.
struct Tried {
    letter: Letter,
    outcome: Outcome,
    /// Who will not have it, and why.
    refused: Vec<(String, String)>,
}

enum Outcome {
    Arrived,
    Refused,
    /// Why.
    Later(String),
}

/// On one line: servers may say anything.
fn said(err: &MailError) -> String {
    clean(&Chain(err).to_string(), TEXT_MAX)
}

/// Tries to send one letter; `lost` is how many never arrived before it.
fn attempt(post: &Post, mut letter: Letter, lost: u64) -> Tried {
    // Whoever has got it must not be the only one who got it like this.
    if !letter.arrived {
        letter.told = lost;
    }
    let written = SystemTime::from(letter.written);
    let stamp = Stamp { id: &letter.id, written, arrived: letter.arrived, done: &letter.done };
    let mut parcel = match post.compose(&with_lost(&letter.mail, letter.told), &stamp) {
        Ok(parcel) => parcel,
        Err(err) => {
            let refused = vec![(String::new(), said(&err))];
            return Tried { letter, outcome: Outcome::Refused, refused };
        }
    };
    let mut refused = Vec::new();
    let delivered = post.deliver(&mut parcel, &mut refused);
    let outcome = match delivered {
        Ok(()) if parcel.arrived => Outcome::Arrived,
        Ok(()) => Outcome::Refused,
        Err(err) => Outcome::Later(said(&err)),
    };
    (letter.arrived, letter.done) = (parcel.arrived, parcel.done);
    let told = |err: &MailError| (err.to().unwrap_or_default().to_owned(), said(err));
    Tried { letter, outcome, refused: refused.iter().map(told).collect() }
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
