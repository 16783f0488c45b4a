//! Where a stage takes its pieces from: what stood on its shelf at the start, then the news. A piece on which the stage
//! panicked waits here for its next turn, and the others go on.

use super::{
    context::Context,
    kept,
    retry::{Outcome, Patience, Tried, persist},
};
use crate::{
    name::PieceName,
    notice::{Notice, Step},
    staging::{Piece, Shelf},
};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    time::Duration,
};

/// How often a wait for news looks whether a stop is told: the stage before may hang, and then it never ends.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a lane looks whether it may be the one that waits for news.
const TURN_WAIT: Duration = Duration::from_millis(100);

/// Several lanes may take from it.
pub struct Inbox<S> {
    /// Nothing is taken while it is paused.
    step: Step,
    coming: Mutex<Coming<S>>,
    aside: Mutex<Vec<Aside<S>>>,
}

struct Coming<S> {
    backlog: VecDeque<Piece<S>>,
    news: Receiver<Piece<S>>,
}

/// A piece that is worked on, with the failures that it had in a row.
struct Taken<S> {
    piece: Piece<S>,
    patience: Patience,
}

struct Aside<S> {
    taken: Taken<S>,
    /// On the clock of the run.
    until: Duration,
}

impl<S: Shelf> Inbox<S> {
    pub fn new(step: Step, backlog: Vec<Piece<S>>, news: Receiver<Piece<S>>) -> Inbox<S> {
        Inbox { step, coming: Mutex::new(Coming { backlog: backlog.into(), news }), aside: Mutex::default() }
    }

    /// Works on pieces until there are no more or a stop is told.
    pub fn each(&self, ctx: &Context, work: impl FnMut(&Piece<S>, &mut Patience) -> Tried<()>) {
        self.each_while(ctx, || true, work);
    }

    /// As [`each`](Self::each), for as long as `goes_on`. What is left waits for whoever comes next.
    pub fn each_while(
        &self,
        ctx: &Context,
        goes_on: impl Fn() -> bool,
        mut work: impl FnMut(&Piece<S>, &mut Patience) -> Tried<()>,
    ) {
        while let Some(mut taken) = self.next(ctx, &goes_on) {
            let name = taken.piece.name().clone();
            match work(&taken.piece, &mut taken.patience) {
                Tried::Settled(Outcome::Done(())) => {}
                Tried::Settled(Outcome::Stopped) => return,
                Tried::Settled(Outcome::Rotten(why)) => match lose(ctx, &name, &why) {
                    Outcome::Done(()) => {}
                    _ => return,
                },
                Tried::Later(wait) => self.aside().push(Aside { taken, until: ctx.elapsed() + wait }),
                Tried::GivenUp(failure) => ctx.abandon_piece(&name, &failure),
            }
        }
    }

    fn coming(&self) -> MutexGuard<'_, Coming<S>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aside(&self) -> MutexGuard<'_, Vec<Aside<S>>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, ctx: &Context, goes_on: &impl Fn() -> bool) -> Option<Taken<S>> {
        let is_paused = || ctx.paused().stage_rests(self.step);
        while !ctx.is_stopping() && goes_on() {
            if is_paused() {
                ctx.stop.wait(LOOK_EVERY);
                continue;
            }
            let wait = match self.due(ctx.elapsed()) {
                Ok(taken) => return Some(taken),
                Err(wait) => wait,
            };
            let Some(come) = self.come(wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)) else {
                ctx.stop.wait(TURN_WAIT);
                continue;
            };
            match come {
                Ok(piece) if goes_on() && !is_paused() => {
                    return Some(Taken { piece, patience: Patience::default() });
                }
                // It came while it was waited for.
                Ok(piece) => self.coming().backlog.push_front(piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ctx.stop.wait(wait?.min(LOOK_EVERY)),
            }
        }
        None
    }

    /// What was put aside and is to be tried again now, or how long it takes until there is something, if ever.
    fn due(&self, now: Duration) -> Result<Taken<S>, Option<Duration>> {
        let mut aside = self.aside();
        let first = aside.iter().enumerate().min_by_key(|(_, aside)| aside.until);
        match first.map(|(at, aside)| (at, aside.until)) {
            Some((at, until)) if until <= now => Ok(aside.swap_remove(at).taken),
            first => Err(first.map(|(_, until)| until - now)),
        }
    }

    /// Nothing when another lane waits for news: in its place this one would wait for ever, and nobody would see it.
    fn come(&self, at_most: Duration) -> Option<Result<Piece<S>, RecvTimeoutError>> {
        let mut coming = match self.coming.try_lock() {
            Ok(coming) => coming,
            Err(TryLockError::Poisoned(coming)) => coming.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(match coming.backlog.pop_front() {
            Some(piece) => Ok(piece),
            None => coming.news.recv_timeout(at_most),
        })
    }
}

/// Tells the next stage of a piece; it may be busy with another for days. Whether it heard of it, or will at its next start.
pub fn tell_next<S>(ctx: &Context, out: &SyncSender<Piece<S>>, piece: Piece<S>) -> Outcome<()> {
    let mut news = piece;
    while !ctx.is_stopping() {
        match out.try_send(news) {
            Ok(()) => return Outcome::Done(()),
            Err(TrySendError::Full(back)) => news = back,
            // It is on its shelf for the next one.
            Err(TrySendError::Disconnected(_)) => break,
        }
        ctx.stop.wait(TURN_WAIT);
    }
    Outcome::Stopped
}

/// Gives a piece up whose local form is lost or rotten: its range is packed again from the source.
pub fn lose(ctx: &Context, name: &PieceName, why: &str) -> Outcome<()> {
    ctx.tell(Notice::PieceRotten { piece: name.clone(), why: why.to_owned() });
    let lost = persist(ctx, |ctx| {
        kept::retire(ctx, name, why)?;
        Ok(ctx.staging.forget(name)?)
    });
    ctx.bell.ring();
    lost
}
