//! The daemon: puts the rooms together as the configuration says, and turns signals into ends.

mod configured;
mod control;
mod doctor;
mod failure;
mod metrics;
mod on_disk;
mod options;
mod running;
mod signals;
mod systemd;
mod vault;
mod waiting;

use crate::{
    catalog::Catalog,
    config::Settings,
    encrypt::Encrypter,
    fate::{Chain, Fate, Fateful, Trouble},
    log::Fan,
    notice::{Monitor, Notice},
    panics,
    pipeline::{self, Backoff, Clock, Ended, Finish, Limit, Live, Part, Parts, Paused, WindowGate},
    report,
    staging::Stop,
    upload::chance,
};
use configured::{Configured, Speakers};
use control::{Asked, Control};
use metrics::Metrics;
use running::{Running, window};
use signals::{Signals, StopSignal, Told};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use vault::Opened;
use waiting::{Ears, Woken};

pub use control::{Question, ask, ask_any};
pub use doctor::doctor;
pub use failure::LAST_GOOD;
pub use options::{foreseen, host, load, mail_options, pipeline, system_host};
pub use running::SETTINGS_REFUSED;
pub use systemd::own_directory;
pub use vault::{open_vault, s3_options};

/// How long calls to a disk may take at the end of the process.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long it may take to begin, once what was waited for is there.
const START_WITHIN: Duration = Duration::from_secs(15 * 60);

/// A thread that blocked once is kept: there may be none to be had later.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// How long the first of them may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// What the command line says about a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub once: bool,
    /// With `once`: how long to try again what fails; absent: not for long.
    pub give_up_after: Option<Duration>,
    pub ignore_window: bool,
    /// Sources of which a pass is due now.
    pub pass_now: Vec<String>,
    /// The level of the log is what the command line says, not the configuration.
    pub log_level_is_given: bool,
}

/// A run that could not begin: exit code, and what to say.
pub type CannotRun = (u8, String);

fn cannot(err: &impl Fateful) -> CannotRun {
    (err.trouble().exit_code(), Chain(err).to_string())
}

/// Exit code of what may go on later.
const HELD: u8 = 75;
/// Exit code of a configuration error.
const USAGE: u8 = 2;

/// Everything that can wake the daemon.
enum Event {
    Told(Told),
    WatchdogDue,
    Finished(Finish),
}

/// Runs until everything is done, if `run.once`, or until a signal ends it. Gives the exit code.
pub fn run(settings: &Settings, run: &Run, mut monitors: Vec<Arc<dyn Monitor>>) -> Result<u8, CannotRun> {
    let (speakers, watched) = (Speakers::new(), Arc::<report::Live>::default());
    monitors.extend(speakers.monitors());
    monitors.extend([watched.clone() as Arc<dyn Monitor>, Arc::new(systemd::Headline::of(watched.clone()))]);
    let monitor: Arc<dyn Monitor> = Arc::new(Fan(monitors));
    let configured = Configured::new(settings, run, monitor.clone(), speakers.clone()).map_err(|what| (USAGE, what))?;
    let runtime = workers()?;
    monitor.notice(&Notice::Started { version: env!("CARGO_PKG_VERSION") });
    let served = panics::caught(|| runtime.block_on(serve(configured, run, monitor.clone(), watched)))
        .unwrap_or_else(|panicked| Err((1, panicked.to_string())));
    // A disk call that hangs must not keep the process.
    runtime.shutdown_timeout(FAREWELL);
    if let Err((code, what)) = &served {
        // One mail about it is enough.
        if failure::is_mailed(*code) {
            drop(speakers.mailers.set(None));
        }
        let trouble = Trouble::of_exit_code(*code);
        monitor.notice(&Notice::Trouble { trouble, what: what.clone(), retry_in: None });
    }
    let is_complete = |finish: &Finish| run.once && finish.ended == Ended::Complete;
    speakers.fall_silent(served.as_ref().is_ok_and(|(finish, _)| is_complete(finish)));
    let (finish, signal) = served?;
    systemd::stopping();
    Ok(match (finish.ended, signal) {
        // Who waits for the end of all that is due must not take this for it. A daemon ends by nothing else.
        (Ended::Stopped, Some(signal)) if run.once => signal.exit_code(),
        _ => finish.exit_code(),
    })
}

/// What serves uploads, signals and the watchdog, with a thread for calls that block: without one they would wait for
/// ever, and nobody would hear of it.
fn workers() -> Result<tokio::runtime::Runtime, CannotRun> {
    let cannot = |why: String| (1, format!("Cannot start the workers: {why}"));
    // Where a limit of the system is reached, building panics.
    let build = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_keep_alive(FOR_EVER).enable_all().build()
    };
    let built = panics::caught(build).map_err(|panicked| cannot(panicked.text))?;
    let runtime = built.map_err(|err| cannot(err.to_string()))?;
    let begins = || runtime.block_on(async { timeout(BEGINS_WITHIN, tokio::task::spawn_blocking(|| ())).await });
    match panics::caught(begins) {
        Ok(Ok(Ok(()))) => Ok(runtime),
        _ => {
            runtime.shutdown_background();
            Err(cannot("a limit of the system on threads is reached".to_owned()))
        }
    }
}

/// Gives the signal as well by which it was told to stop.
async fn serve(
    mut configured: Configured,
    run: &Run,
    monitor: Arc<dyn Monitor>,
    watched: Arc<report::Live>,
) -> Result<(Finish, Option<StopSignal>), CannotRun> {
    let signals = Signals::listen().map_err(|err| (1, format!("Cannot listen to signals: {err}")))?;
    let mut ears = Ears { signals, control: None };
    let (catalog, vault) = match open(&mut configured, run, monitor.as_ref(), &watched, &mut ears).await? {
        Ok(opened) => opened,
        Err(signal) => return Ok((Finish { ended: Ended::Stopped, lost: 0 }, Some(signal))),
    };
    let (stop, cancel) = (Stop::default(), CancellationToken::new());
    let clock: Clock = Arc::new(jiff::Timestamp::now);
    let settings = &configured.settings;
    let live = Live::new(options::pipeline(settings, run), vault.vault());
    let paused = Paused::load(&catalog).map_err(|err| cannot(&err))?;
    if let Some(stage) = paused.parts().iter().find(|part| run.once && !matches!(part, Part::Source(_))) {
        return Err((HELD, format!("Paused: {stage}; `archiver resume` lets it go on")));
    }
    let hours = (window(settings, run), settings.time_zone.now());
    let gate = Arc::new(WindowGate::new(hours.0, hours.1, clock.clone(), monitor.clone()));
    let (ready, reload) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let is_ready = ready.clone();
    let parts = Parts {
        live: live.clone(),
        catalog: catalog.clone(),
        monitor: monitor.clone(),
        clock,
        wait: Arc::new(Stop::wait),
        stop: stop.clone(),
        cancel: cancel.clone(),
        gate: gate.clone(),
        runtime: tokio::runtime::Handle::current(),
        ready: Box::new(move || is_ready.notify_one()),
    };
    let Ears { mut signals, control } = ears;
    let control = control.or_else(|| listen(&settings.state));
    let metrics = Metrics::tell(settings, &catalog, &watched).await;
    let running = Running {
        configured,
        run: run.clone(),
        vault,
        catalog,
        live,
        gate,
        watched,
        metrics,
        stop: stop.clone(),
        on_disk: None,
        is_ready: false,
    };
    running.rest(paused);
    let work = pipeline_thread(parts)?;
    // Beside what follows: it asks disks, and signals and the watchdog must not wait for those.
    let serving = tokio::spawn(running.serve(control, reload.clone(), ready));
    let ended = attend(work, &mut signals, &reload, &monitor, (&stop, &cancel)).await;
    serving.abort();
    ended
}

/// Until the work has ended: that is told to stop by a signal, and watched.
async fn attend(
    mut work: oneshot::Receiver<Result<Finish, CannotRun>>,
    signals: &mut Signals,
    reload: &Notify,
    monitor: &Arc<dyn Monitor>,
    (stop, cancel): (&Stop, &CancellationToken),
) -> Result<(Finish, Option<StopSignal>), CannotRun> {
    let mut watchdog = systemd::Watchdog::configured();
    let mut stopped_by = None;
    loop {
        let event = tokio::select! {
            finished = &mut work => Event::Finished(finished.map_err(|_| (1, "The pipeline ended badly".to_owned()))??),
            told = signals.next() => Event::Told(told),
            () = watchdog.due() => Event::WatchdogDue,
        };
        match event {
            Event::Finished(finish) => return Ok((finish, stopped_by)),
            Event::Told(Told::Stop(signal)) => {
                monitor.notice(&Notice::Stopping { why: signal.name().to_owned() });
                stopped_by.get_or_insert(signal);
                systemd::stopping();
                stop.tell();
                cancel.cancel();
            }
            Event::Told(Told::Reload) => reload.notify_one(),
            Event::WatchdogDue => watchdog.feed(stop, monitor.as_ref()),
        }
    }
}

/// Where nobody can be listened to, the work goes on all the same.
fn listen(state: &Path) -> Option<Control> {
    let cannot = |err| tracing::warn!("Cannot be asked by other commands, only by signals: {}", Chain(&err));
    Control::listen(state).map_err(cannot).ok()
}

/// Runs the pipeline on a thread of its own, and not on one of those that wait for calls that block: those are lent.
fn pipeline_thread(parts: Parts) -> Result<oneshot::Receiver<Result<Finish, CannotRun>>, CannotRun> {
    let (ended, work) = oneshot::channel();
    let run = move || {
        let finish = panics::caught(|| pipeline::run(parts));
        let _ = ended.send(finish.map_err(|panicked| (1, panicked.to_string())));
    };
    match std::thread::Builder::new().name("pipeline".to_owned()).spawn(run) {
        Ok(_) => Ok(work),
        Err(err) => Err((1, format!("Cannot start the pipeline: {err}"))),
    }
}

/// Opens what a run needs, and reads the configuration again when it is told to: what is waited for may be what was
/// wrong in it. Gives the signal that ended the waiting.
async fn open(
    configured: &mut Configured,
    run: &Run,
    monitor: &dyn Monitor,
    watched: &report::Live,
    ears: &mut Ears,
) -> Result<Result<(Catalog, Opened), StopSignal>, CannotRun> {
    loop {
        match open_as(&configured.settings, run, monitor, ears).await? {
            Ok(opened) => return Ok(Ok(opened)),
            Err(Woken::Told(Told::Stop(signal))) => return Ok(Err(signal)),
            Err(Woken::Told(Told::Reload)) => drop(waiting::reload(configured).await),
            Err(Woken::Asked(Asked { question, answer })) => {
                // Who asked may have gone.
                let _ = answer.send(waiting::answer(question, configured, watched).await);
            }
        }
    }
}

/// Opens catalog and vault. Once something went there, a vault that is not there must never be made anew: it may only be
/// unmounted.
async fn open_as(
    settings: &Settings,
    run: &Run,
    monitor: &dyn Monitor,
    ears: &mut Ears,
) -> Result<Result<(Catalog, Opened), Woken>, CannotRun> {
    let (catalog, is_known) = match open_catalog(settings, run, monitor, ears).await? {
        Ok(opened) => opened,
        Err(why) => return Ok(Err(why)),
    };
    // A vault may be waited for: what is wrong here is told before.
    if let Some(keys) = options::encrypt(settings) {
        Encrypter::open(&keys, Arc::new(std::time::SystemTime::now)).map_err(|err| cannot(&err))?;
    }
    let opening = vault::Opening { run, monitor, is_known };
    Ok(vault::open(settings, &opening, ears).await?.map(|vault| (catalog, vault)))
}

/// Opens the catalog, and asks it whether the vault is known. What may pass by itself, as a disk that is full, is
/// waited for until a signal ends the waiting.
async fn open_catalog(
    settings: &Settings,
    run: &Run,
    monitor: &dyn Monitor,
    ears: &mut Ears,
) -> Result<Result<(Catalog, bool), Woken>, CannotRun> {
    let (mut backoff, limit) = (Backoff::default(), Limit::of(run.once, run.give_up_after));
    loop {
        let opened = Catalog::open_or_go_back(&settings.catalog_file(), jiff::Timestamp::now());
        let asked = opened.and_then(|catalog| {
            pipeline::is_vault_known(&catalog, &settings.state).map(|is_known| (catalog, is_known))
        });
        let err = match asked {
            Ok(asked) => return Ok(Ok(asked)),
            Err(err) if err.fate() == Fate::Operator => return Err(cannot(&err)),
            Err(err) => err,
        };
        let wait = backoff.failed(err.waits(), err.fate(), jiff::Timestamp::now(), limit, chance());
        let Some(wait) = wait else { return Err(cannot(&err)) };
        if let Some(why) = ears.tell_and_wait(&settings.state, monitor, &err, wait).await {
            return Ok(Err(why));
        }
    }
}
