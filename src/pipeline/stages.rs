//! The threads of a run, from outside: they are started, watched, and in the end waited for, but not for ever. One
//! that waits for an answer of a dead server cannot be interrupted, and must keep neither the others nor the process.

use super::{
    context::Context,
    silence::{Rest, Silence},
    spec::SourceSpec,
};
use crate::{
    archive::tree::{Beat, Pulse},
    fate::Trouble,
    notice::{Monitor, Notice},
    panics,
};
use jiff::{Timestamp, Unit};
use std::{
    convert::Infallible,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often the threads are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A read that takes longer is told, and keeps other sources no longer.
pub const STILL_AFTER: Duration = Duration::from_secs(30);
/// After this long it is a matter for somebody: the pass is as good as held, and a mail says so.
const HELD_AFTER: Duration = Duration::from_secs(60 * 60);
/// How long the threads may take to hear that they are to end. What they leave then is what a crash leaves.
const LEAVE_AFTER: Duration = Duration::from_secs(10);

/// The name of the thread that reads the sources, and so can hang.
pub const ARCHIVER: &str = "archiver";
pub const COMPRESSOR: &str = "compressor";

pub struct Stages {
    ctx: Context,
    threads: Vec<(&'static str, JoinHandle<()>)>,
    /// Held by every thread for as long as it lives; nothing is ever sent.
    alive: SyncSender<Infallible>,
    ended: Receiver<Infallible>,
}

impl Stages {
    pub fn new(ctx: Context) -> Stages {
        let (alive, ended) = sync_channel(0);
        Stages { ctx, threads: Vec::new(), alive, ended }
    }

    pub fn start(&mut self, name: &'static str, work: impl FnOnce(&Context) + Send + 'static) {
        let (ctx, alive) = (self.ctx.watched(name), self.alive.clone());
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
        let (mut silence, mut rest) = (Silence::default(), Rest::default());
        while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let _ = panics::caught(|| {
                watch.look(&ctx.pulse, (ctx.clock)(), &mut |notice| ctx.tell(notice));
                listen(&ctx.renewed(), &mut silence, &mut rest);
            });
            if ctx.is_stopping()
                && !ctx.is_complete()
                && ctx.elapsed().saturating_sub(*told_to_stop.get_or_insert(ctx.elapsed())) >= LEAVE_AFTER
            {
                return leave(&ctx, &threads);
            }
        }
    }
}

/// Tells when nothing moves although something waits, and when nothing has to.
fn listen(ctx: &Context, silence: &mut Silence, rest: &mut Rest) {
    let (now, moved) = ((ctx.clock)(), ctx.monitor.moved());
    if rest.look(now, moved, ctx.uploader.may_send(), || is_work_waiting(ctx)) {
        ctx.monitor.rests();
    }
    let Some(limit) = ctx.options.silence else { return };
    if let Some(quiet) = silence.look(now, moved, ctx.uploader.may_send(), limit, || is_work_waiting(ctx)) {
        ctx.tell(Notice::Silent { quiet });
    }
}

/// Asked on a thread of its own: the catalog may be what hangs, and then something waits for sure.
fn is_work_waiting(ctx: &Context) -> bool {
    let (tell, told) = sync_channel(1);
    let ctx = ctx.clone();
    let ask = move || {
        let is_open = |spec: &SourceSpec| matches!(ctx.catalog.open_pass(&spec.name), Ok(Some(_)));
        let pieces = ctx.catalog.undelivered();
        let _ = tell.send(pieces.is_ok_and(|all| !all.is_empty()) || ctx.options.sources.iter().any(is_open));
    };
    let started = thread::Builder::new().name("silence".to_owned()).spawn(ask);
    started.is_err() || told.recv_timeout(LEAVE_AFTER).unwrap_or(true)
}

/// What hangs is no work that could be lost: the state is as after a crash, and the next run goes on from it.
fn leave(ctx: &Context, threads: &[(&'static str, JoinHandle<()>)]) {
    let left: Vec<&str> = threads.iter().filter(|(_, thread)| !thread.is_finished()).map(|(name, _)| *name).collect();
    let hung = ctx.pulse.all_that_stand_still(Duration::ZERO);
    let archiving = |beat: &Beat| format!("the archiving of {} in {}", beat.path.display(), beat.source);
    let what = match left == [ARCHIVER] && !hung.is_empty() {
        true => hung.iter().map(archiving).collect::<Vec<_>>(),
        false => left.iter().map(|&name| name.to_owned()).collect(),
    };
    ctx.tell(Notice::LeftBehind { what: what.join(", ") });
    // It writes nothing for as long as it hangs, and this process ends now; if it wakes before, it publishes nothing.
    if left == [ARCHIVER] {
        ctx.leave_staging();
    }
}

/// Tells once when something of a source takes long, once when it takes very long, and once when it is over.
struct Watch {
    still_after: Duration,
    held_after: Duration,
    /// At most one of each source.
    told: Vec<Told>,
}

struct Told {
    beat: Beat,
    since: String,
    as_held: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { still_after: STILL_AFTER, held_after: HELD_AFTER, told: Vec::new() }
    }
}

impl Watch {
    fn look(&mut self, pulse: &Pulse, now: Timestamp, tell: &mut dyn FnMut(Notice)) {
        for Told { beat, .. } in self.told.extract_if(.., |told| !pulse.is_at(&told.beat)) {
            tell(Notice::GoesOn { source: beat.source.to_string(), took: beat.age(), path: beat.path });
        }
        for beat in pulse.all_that_stand_still(self.still_after) {
            if self.told.iter().any(|told| told.beat.source == beat.source) {
                continue;
            }
            let since =
                (now - beat.age()).round(Unit::Second).map_or_else(|_| String::new(), |since| since.to_string());
            let (source, path) = (beat.source.to_string(), beat.path.clone());
            tell(Notice::StandsStill { source, path, since: since.clone() });
            self.told.push(Told { beat, since, as_held: false });
        }
        for told in self.told.iter_mut().filter(|told| !told.as_held && told.beat.age() >= self.held_after) {
            told.as_held = true;
            let why = format!("{} gives no answer since {}", told.beat.path.display(), told.since);
            tell(Notice::PassHeld { source: told.beat.source.to_string(), why });
        }
    }
}

/// A panic around which nobody else stands ends the run in order, with it told, and nothing is half made.
fn guard(ctx: &Context, name: &str, work: impl FnOnce()) {
    if let Err(panicked) = panics::caught(work) {
        ctx.give_up(Trouble::Internal, &format!("The {name} cannot go on: {panicked}"));
    }
}

pub fn cannot_start(ctx: &Context) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::SourcePath;

    /// What is told at one look.
    fn look(watch: &mut Watch, pulse: &Pulse) -> Vec<String> {
        let mut told = Vec::new();
        watch.look(pulse, Timestamp::UNIX_EPOCH, &mut |notice| {
            told.push(match notice {
                Notice::StandsStill { source, path, since } => format!("still {source} {} {since}", path.display()),
                Notice::PassHeld { source, why } => format!("held {source} {why}"),
                Notice::GoesOn { source, path, .. } => format!("on {source} {}", path.display()),
                other => format!("{other:?}"),
            });
        });
        told
    }

    #[test]
    fn what_stands_still_is_told_once_and_again_when_it_is_long_and_when_it_is_over() {
        let path = |text: &str| SourcePath::parse(text.as_bytes()).unwrap();
        let pulse = Pulse::default().of("data");
        let mut watch = Watch { still_after: Duration::ZERO, held_after: Duration::MAX, told: Vec::new() };
        assert!(look(&mut watch, &pulse).is_empty(), "Nothing is asked of it");
        pulse.beat(&path("a\nb"));
        assert_eq!(look(&mut watch, &pulse), [r"still data a\nb 1970-01-01T00:00:00Z"]);
        assert!(look(&mut watch, &pulse).is_empty());
        watch.held_after = Duration::ZERO;
        assert_eq!(look(&mut watch, &pulse), [r"held data a\nb gives no answer since 1970-01-01T00:00:00Z"]);
        assert!(look(&mut watch, &pulse).is_empty());
        pulse.beat(&path("c"));
        watch.still_after = Duration::MAX;
        assert_eq!(look(&mut watch, &pulse), [r"on data a\nb"]);
        watch.still_after = Duration::ZERO;
        watch.held_after = Duration::MAX;
        assert_eq!(look(&mut watch, &pulse), ["still data c 1970-01-01T00:00:00Z"]);
        pulse.rest();
        assert_eq!(look(&mut watch, &pulse), ["on data c"]);
        assert!(look(&mut watch, &pulse).is_empty());
    }
}
