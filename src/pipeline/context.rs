//! What all stages share: the disk, the catalog, the vault, and how they learn of each other.

use super::{
    Options, Parts, Paused,
    bell::Bell,
    drafts::UnderWay,
    finish::{Ended, Finish},
    ledger::CatalogLedger,
    live::{Live, Orders},
    silence::Movement,
};
use crate::{
    archive::tree::Pulse,
    catalog::Catalog,
    encrypt::{self, Encrypter},
    fate::{Chain, Fate, Fateful, Stopped, Trouble, Waits},
    name::{PieceName, SourceName},
    notice::{Monitor, Notice, Step},
    panics,
    staging::{Staging, Stop},
    upload::Uploader,
    vault::Vault,
};
use std::{
    collections::BTreeSet,
    error::Error,
    ops::Deref,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often a wait for the async workers shows that it goes on.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The time, which comes in by the parameter list.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Waits before something is tried again, or until it is told to stop. With a clock that is not the system's, this is
/// where its time passes.
pub type Wait = Arc<dyn Fn(&Stop, Duration) + Send + Sync>;

/// A failure, whatever room it comes from, with what must happen next.
#[derive(Debug)]
pub struct Failure {
    pub fate: Fate,
    pub trouble: Trouble,
    pub waits: Waits,
    /// It came further than ever before it failed, so it is not the next failure in a row.
    pub progressed: bool,
    pub error: Box<dyn Error + Send + Sync>,
}

impl<E: Fateful> From<E> for Failure {
    fn from(err: E) -> Failure {
        Failure {
            fate: err.fate(),
            trouble: err.trouble(),
            waits: err.waits(),
            progressed: false,
            error: Box::new(err),
        }
    }
}

impl Failure {
    /// The piece as it stands here is not what it was when it was made.
    pub fn rotten(what: impl Into<String>) -> Failure {
        Failure::new(Fate::Rotten, Trouble::Staging, what)
    }

    pub fn new(fate: Fate, trouble: Trouble, what: impl Into<String>) -> Failure {
        Failure { fate, trouble, waits: fate.into(), progressed: false, error: what.into().into() }
    }

    /// The disk that failed is not that of staging, but where catalog and manifests stay.
    pub fn in_state(self) -> Failure {
        let trouble = if self.trouble == Trouble::Staging { Trouble::State } else { self.trouble };
        Failure { trouble, ..self }
    }

    pub fn chain(&self) -> String {
        Chain(self.error.as_ref()).to_string()
    }
}

/// What a unit of work is done with: what all share, and the options and the vault as they were when it began.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
    /// Of whoever works here, so that it is seen if that hangs.
    pub stop: Stop,
    pub options: Arc<Options>,
    pub vault: Arc<dyn Vault>,
    pub uploader: Arc<Uploader>,
}

pub struct Shared {
    live: Arc<Live>,
    /// The version of what `live` says, and who uploads by it.
    present: Mutex<(u64, Arc<Uploader>)>,
    pub staging: Staging,
    pub catalog: Catalog,
    pub monitor: Movement,
    pub clock: Clock,
    pub wait: Wait,
    pub runtime: tokio::runtime::Handle,
    pub bell: Bell,
    /// Cancels what runs on the async workers; told together with `stop`.
    pub cancel: CancellationToken,
    pub host: String,
    /// The object under way, and the most bytes of it that the vault has held.
    pub reached: Mutex<(String, u64)>,
    /// What the archiver waits for, where it reads a source.
    pub pulse: Pulse,
    /// Drafts that the archiver is writing.
    pub packing: UnderWay,
    abandoned: Mutex<Abandoned>,
    /// The staging directory is not ours any more: another process may work in it.
    is_left: AtomicBool,
    began: Instant,
    ended: Mutex<Option<Ended>>,
    lost: AtomicU64,
}

/// What this run does not try any more, because it panicked again and again, although all else goes on.
#[derive(Default)]
struct Abandoned {
    /// Ids of pieces that stay where they are.
    pieces: BTreeSet<String>,
    /// Sources whose pass does not end in this run: one of its pieces is abandoned, or its walk, or its end.
    sources: BTreeSet<SourceName>,
    trouble: Option<Trouble>,
}

impl Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Context {
    /// Checks the keys and settles the names under which this host's pieces stand.
    pub fn new(parts: Parts, staging: Staging) -> Result<Context, Failure> {
        let Parts { live, catalog, monitor, clock, wait, stop, cancel, gate, runtime, .. } = parts;
        let Orders { version, options, vault, .. } = live.get();
        staging.budget().set_cap(options.cap);
        if let Some(encrypt) = &options.encrypt {
            Encrypter::open(encrypt, system_clock(&clock))?;
        }
        let host = catalog.setting_or("host", || options.host.clone())?;
        let ledger = Arc::new(CatalogLedger(catalog.clone()));
        let uploader = Arc::new(Uploader::new(vault.clone(), ledger, gate, options.upload.clone()));
        let shared = Arc::new(Shared {
            live,
            present: Mutex::new((version, uploader.clone())),
            staging,
            catalog,
            monitor: Movement::new(monitor),
            clock,
            wait,
            runtime,
            bell: Bell::default(),
            cancel,
            host,
            reached: Mutex::default(),
            pulse: Pulse::default(),
            packing: UnderWay::default(),
            abandoned: Mutex::default(),
            is_left: AtomicBool::new(false),
            began: Instant::now(),
            ended: Mutex::new(None),
            lost: AtomicU64::new(0),
        });
        Ok(Context { shared, stop, options, vault, uploader })
    }

    /// For the next unit of work: with the options and the vault that hold now.
    pub fn renewed(&self) -> Context {
        let Orders { version, options, vault, .. } = self.live.get();
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.0 != version {
            self.staging.budget().set_cap(options.cap);
            *present = (version, Arc::new(present.1.with(vault.clone(), options.upload.clone())));
        }
        let uploader = present.1.clone();
        drop(present);
        Context { shared: self.shared.clone(), stop: self.stop.clone(), options, vault, uploader }
    }

    /// What is to rest as things are now.
    pub fn paused(&self) -> Arc<Paused> {
        self.live.paused()
    }

    /// For another who works, and is seen if he hangs.
    pub fn watched(&self, name: &'static str) -> Context {
        self.with_stop(self.stop.watched(name, None))
    }

    pub fn with_stop(&self, stop: Stop) -> Context {
        Context { stop, ..self.clone() }
    }

    /// Waits for what runs on the async workers. That is not seen to hang: all that it asks of others has its limits.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let mut work = pin!(work);
            loop {
                match tokio::time::timeout(LOOK_EVERY, &mut work).await {
                    Ok(done) => return done,
                    Err(_) => drop(self.is_stopping()),
                }
            }
        })
    }

    /// Waits for an answer of the vault, or until it is told to stop: a server that never answers keeps nobody.
    pub fn ask<T, E: Into<Failure>>(&self, question: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        self.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err(Stopped.into()),
                answer = question => answer.map_err(Into::into),
            }
        })
    }

    /// That a listener panics is no reason for what it is told to fail.
    pub fn tell(&self, notice: Notice) {
        let _ = panics::caught(|| self.monitor.notice(&notice));
    }

    fn abandoned(&self) -> MutexGuard<'_, Abandoned> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a piece where it is for this run; the next start goes on with it. So does the run with all others, and
    /// ends in this trouble.
    pub fn abandon_piece(&self, name: &PieceName, failure: &Failure) {
        self.abandoned().pieces.insert(name.id());
        self.abandon_source(&name.source, failure);
    }

    /// The pass of this source does not end in this run.
    pub fn abandon_source(&self, source: &SourceName, failure: &Failure) {
        self.tell(Notice::Trouble { trouble: failure.trouble, what: failure.chain(), retry_in: None });
        let mut abandoned = self.abandoned();
        abandoned.sources.insert(source.clone());
        abandoned.trouble.get_or_insert(failure.trouble);
        drop(abandoned);
        self.bell.ring();
    }

    /// The run goes on, and ends in this trouble, as if something were abandoned.
    pub fn ends_in(&self, trouble: Trouble) {
        self.abandoned().trouble.get_or_insert(trouble);
    }

    pub fn is_abandoned(&self, source: &SourceName) -> bool {
        self.abandoned().sources.contains(source)
    }

    pub fn is_piece_abandoned(&self, name: &PieceName) -> bool {
        self.abandoned().pieces.contains(&name.id())
    }

    /// The trouble in which a run ends that has abandoned something.
    pub fn abandoned_in(&self) -> Option<Trouble> {
        self.abandoned().trouble
    }

    /// Nothing is asked of this source for now.
    pub fn rest(&self, source: &SourceName) {
        self.pulse.of(source.as_str()).rest();
    }

    /// Since the run began; for measuring and for drafts that are made durable by time.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Gives the staging directory up, although a thread that hangs may still come back to it.
    pub fn leave_staging(&self) {
        self.is_left.store(true, Ordering::SeqCst);
        self.staging.unlock();
    }

    /// To be asked before anything in the staging directory gets its name.
    pub fn check_staging_is_ours(&self) -> Result<(), Stopped> {
        if self.is_left.load(Ordering::SeqCst) { Err(Stopped) } else { Ok(()) }
    }

    /// It ends by itself, and nothing hangs: the rest may take its time.
    pub fn is_complete(&self) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) == Some(Ended::Complete)
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_told()
    }

    /// Ends the run. What ended it first counts, but trouble that shows on the way out is never covered up.
    pub fn end(&self, how: Ended) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none_or(|ended| !matches!(ended, Ended::Trouble(_)) && matches!(how, Ended::Trouble(_))) {
            *ended = Some(how);
        }
        drop(ended);
        self.stop.tell();
        self.cancel.cancel();
        self.bell.ring();
    }

    /// Ends the run because of trouble that will not pass.
    pub fn give_up(&self, trouble: Trouble, what: &str) {
        self.tell(Notice::Trouble { trouble, what: what.to_owned(), retry_in: None });
        self.end(Ended::Trouble(trouble));
    }

    pub fn finish_with(&self, failure: &Failure) -> Finish {
        self.give_up(failure.trouble, &failure.chain());
        self.finish()
    }

    pub fn count_lost(&self, lost: u64) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    pub fn finish(&self) -> Finish {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Ended::Stopped);
        Finish { ended, lost: self.lost.load(Ordering::Relaxed) }
    }

    /// What a step is told to have begun and ended with, around the work itself. `resumed_at`: bytes of the input
    /// that were worked through before.
    pub fn timed<R>(
        &self,
        step: Step,
        piece: &PieceName,
        len: u64,
        resumed_at: u64,
        work: impl FnOnce() -> Result<(R, u64), Failure>,
    ) -> Result<R, Failure> {
        self.tell(Notice::StepStarted { step, piece: piece.clone(), len, resumed_at });
        let began = Instant::now();
        let (made, output_len) = work()?;
        self.tell(Notice::StepEnded { step, piece: piece.clone(), input_len: len, output_len, took: began.elapsed() });
        Ok(made)
    }
}

/// The same time, for those who speak of `SystemTime`.
pub fn system_clock(clock: &Clock) -> encrypt::Clock {
    let clock = clock.clone();
    Arc::new(move || clock().into())
}

/// Whether a text looks like one of [`random_id`].
pub fn is_random_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// 64 bits from the system's random numbers, in hex.
pub fn random_id() -> String {
    let mut bytes = [0u8; 8];
    // Asked at most a few times in the life of a catalog; a system without random numbers cannot encrypt either.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(bytes.len()), "the system has random numbers");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
