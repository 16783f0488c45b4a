//! The threads of a run, from outside: they are started, watched, and in the end waited for, but not for ever. One
//! that waits for an answer of a dead server cannot be interrupted, and must keep neither the others nor the process.

use super::context::Context;
use crate::{archive::tree::Beat, fate::Trouble, notice::Notice};
use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the threads are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A read that takes longer is told.
const STILL_AFTER: Duration = Duration::from_secs(30);
/// How long the threads may take to hear that they are to end. What they leave then is what a crash leaves.
const LEAVE_AFTER: Duration = Duration::from_secs(10);

/// The name of the thread that reads the sources, and so can hang.
pub const ARCHIVER: &str = "archiver";

pub struct Stages {
    ctx: Arc<Context>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
    /// Held by every thread for as long as it lives; nothing is ever sent.
    alive: SyncSender<Infallible>,
    ended: Receiver<Infallible>,
}

impl Stages {
    pub fn new(ctx: Arc<Context>) -> Stages {
        let (alive, ended) = sync_channel(0);
        Stages { ctx, threads: Vec::new(), alive, ended }
    }

    pub fn start(&mut self, name: &'static str, work: impl FnOnce(&Context) + Send + 'static) {
        let (ctx, alive) = (self.ctx.clone(), self.alive.clone());
        let guarded = move || {
            guard(&ctx, name, || work(&ctx));
            drop(ctx);
            drop(alive);
        };
        match thread::Builder::new().name(name.to_owned()).spawn(guarded) {
            Ok(thread) => self.threads.push((name, thread)),
            Err(_) => cannot_start(&self.ctx),
        }
    }

    /// Returns when all have ended, or were told to and do not.
    pub fn wait(self) {
        let Stages { ctx, threads, alive, ended } = self;
        drop(alive);
        let (mut watch, mut told_to_stop) = (Watch::default(), None);
        while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            watch.look(&ctx);
            if ctx.is_stopping()
                && ctx.elapsed().saturating_sub(*told_to_stop.get_or_insert(ctx.elapsed())) >= LEAVE_AFTER
            {
                return leave(&ctx, &threads);
            }
        }
    }
}

/// What another stage hands on, until that one ends or a stop is told: it may hang, and then it never ends.
pub fn until_stopped<T>(ctx: &Context, news: Receiver<T>) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || {
        while !ctx.is_stopping() {
            match news.recv_timeout(LOOK_EVERY) {
                Ok(piece) => return Some(piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        None
    })
}

/// What hangs is no work that could be lost: the state is as after a crash, and the next run goes on from it.
fn leave(ctx: &Context, threads: &[(&'static str, JoinHandle<()>)]) {
    let left: Vec<&str> = threads.iter().filter(|(_, thread)| !thread.is_finished()).map(|(name, _)| *name).collect();
    let what = match ctx.pulse.stands_still(Duration::ZERO) {
        Some(beat) if left == [ARCHIVER] => format!("the archiving of {} in {}", beat.path.display(), beat.source),
        _ => left.join(", "),
    };
    ctx.tell(Notice::LeftBehind { what });
    // It writes nothing for as long as it hangs, and this process ends now.
    if left == [ARCHIVER] {
        ctx.staging.unlock();
    }
}

/// Tells once when a read takes long, and once when it has ended.
#[derive(Default)]
struct Watch {
    told: Option<Beat>,
}

impl Watch {
    fn look(&mut self, ctx: &Context) {
        if let Some(beat) = self.told.take_if(|beat| !ctx.pulse.is_at(beat)) {
            let (source, took) = (beat.source.to_string(), beat.age());
            ctx.tell(Notice::GoesOn { source, path: beat.path, took });
        }
        if self.told.is_none()
            && let Some(beat) = ctx.pulse.stands_still(STILL_AFTER)
        {
            let since = ((ctx.clock)() - beat.age()).round(jiff::Unit::Second);
            let since = since.map_or_else(|_| String::new(), |since| since.to_string());
            ctx.tell(Notice::StandsStill { source: beat.source.to_string(), path: beat.path.clone(), since });
            self.told = Some(beat);
        }
    }
}

/// A panic is a defect of ours: the run ends with it told, and nothing is half made.
fn guard(ctx: &Context, name: &str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        ctx.give_up(Trouble::Internal, &format!("The {name} panicked"));
    }
}

fn cannot_start(ctx: &Context) {
    ctx.give_up(Trouble::Internal, "Cannot start a thread: a limit of the system is reached");
}

/// Starts a thread of a stage that waits for it.
pub fn start_within<'scope>(
    ctx: &'scope Context,
    scope: &'scope thread::Scope<'scope, '_>,
    name: &'static str,
    work: impl FnOnce() + Send + 'scope,
) -> bool {
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, move || guard(ctx, name, work)).is_ok()
}
