//! The one place where work is tried again, be it that it failed or that it panicked.

use super::{
    backoff::{Backoff, Limit},
    context::{Context, Failure},
};
use crate::{
    catalog::{CatalogError, Remedy},
    fate::{Fate, Trouble},
    notice::Notice,
    panics::{self, Panicked},
    upload::chance,
};
use std::{collections::BTreeSet, error::Error, time::Duration};

pub enum Outcome<R> {
    Done(R),
    /// Told to stop, or given up: whoever called ends, and the next start goes on.
    Stopped,
    /// The piece must be made again; why.
    Rotten(String),
}

/// What became of work for which other work need not wait.
pub enum Tried<R> {
    Settled(Outcome<R>),
    /// It panicked, and is not to be tried again before so much time has passed.
    Later(Duration),
    /// It panicked again and again, and is not tried again in this run.
    GivenUp(Failure),
}

impl<R> Tried<R> {
    /// What is done with what came of it.
    pub fn then<T>(self, next: impl FnOnce(R) -> Outcome<T>) -> Tried<T> {
        match self {
            Tried::Settled(Outcome::Done(done)) => Tried::Settled(next(done)),
            Tried::Settled(Outcome::Stopped) => Tried::Settled(Outcome::Stopped),
            Tried::Settled(Outcome::Rotten(why)) => Tried::Settled(Outcome::Rotten(why)),
            Tried::Later(wait) => Tried::Later(wait),
            Tried::GivenUp(failure) => Tried::GivenUp(failure),
        }
    }
}

/// Failures in a row, and what troubles they were.
#[derive(Debug, Default)]
pub struct Patience {
    backoff: Backoff,
    /// Of panics alone: one in the middle of a long outage is a first one.
    panics: Backoff,
    troubled: BTreeSet<Trouble>,
}

impl Patience {
    /// After a failure: tells it and waits, or says that there is nothing to wait for.
    pub fn failed(&mut self, ctx: &Context, failure: &Failure) -> Outcome<()> {
        match failure.fate {
            Fate::Stopped => return Outcome::Stopped,
            Fate::Rotten => return Outcome::Rotten(failure.chain()),
            Fate::Operator | Fate::Retry => {}
        }
        if failure.progressed {
            self.backoff.succeeded();
        }
        // Only a start goes back to the copy.
        let wait = if needs_start(failure) { None } else { weigh(ctx, failure, &mut self.backoff) };
        self.troubled.insert(failure.trouble);
        let Some(wait) = wait else {
            ctx.give_up(failure.trouble, &failure.chain());
            return Outcome::Stopped;
        };
        (ctx.wait)(&ctx.stop, wait);
        if ctx.is_stopping() { Outcome::Stopped } else { Outcome::Done(()) }
    }

    /// After a panic: tells it, and when to try again. It is for the caller to let others go on meanwhile.
    pub fn panicked<R>(&mut self, ctx: &Context, panicked: Panicked) -> Tried<R> {
        let failure = Failure::from(panicked);
        self.troubled.insert(failure.trouble);
        match weigh(ctx, &failure, &mut self.panics) {
            Some(wait) => Tried::Later(wait),
            None => Tried::GivenUp(failure),
        }
    }

    /// After a success: tells that the trouble is over, if there was any.
    pub fn succeeded(&mut self, ctx: &Context) {
        self.backoff.succeeded();
        self.panics.succeeded();
        for trouble in std::mem::take(&mut self.troubled) {
            ctx.tell(Notice::Recovered { trouble });
        }
    }
}

/// Whether a cause is a damaged catalog that has a copy.
fn needs_start(failure: &Failure) -> bool {
    let first: &(dyn Error + 'static) = failure.error.as_ref();
    std::iter::successors(Some(first), |&err| err.source())
        .filter_map(|err| err.downcast_ref::<CatalogError>())
        .any(|err| matches!(err, CatalogError::Damaged { remedy: Remedy::GoBack, .. }))
}

/// How long to wait after a failure, which is told; nothing when it is not to be tried again.
fn weigh(ctx: &Context, failure: &Failure, backoff: &mut Backoff) -> Option<Duration> {
    let limit = Limit::of(ctx.options.once, ctx.options.give_up_after);
    let wait = backoff.failed(failure.waits, failure.fate, (ctx.clock)(), limit, chance())?;
    ctx.tell(Notice::Trouble { trouble: failure.trouble, what: failure.chain(), retry_in: Some(wait) });
    Some(wait)
}

/// Works until it is done, told to stop, found to be in vain, or has panicked. A failure is waited out here: what
/// fails for one piece, as a disk that is full or a vault that is away, would fail for the others, too. A panic may be
/// of this piece alone. Every attempt is made with what is configured then: that may be what was wrong.
pub fn attempt<R>(
    ctx: &Context,
    patience: &mut Patience,
    mut work: impl FnMut(&Context) -> Result<R, Failure>,
) -> Tried<R> {
    loop {
        if ctx.is_stopping() {
            return Tried::Settled(Outcome::Stopped);
        }
        let tried = panics::caught(|| match work(&ctx.renewed()) {
            Ok(done) => {
                patience.succeeded(ctx);
                Some(Outcome::Done(done))
            }
            Err(failure) => match patience.failed(ctx, &failure) {
                Outcome::Done(()) => None,
                Outcome::Stopped => Some(Outcome::Stopped),
                Outcome::Rotten(why) => Some(Outcome::Rotten(why)),
            },
        });
        match tried {
            Ok(Some(outcome)) => return Tried::Settled(outcome),
            Ok(None) => {}
            Err(panicked) => return patience.panicked(ctx, panicked),
        }
    }
}

/// As [`attempt`], of work without which nothing here goes on: a panic is waited out, too.
pub fn persist<R>(ctx: &Context, mut work: impl FnMut(&Context) -> Result<R, Failure>) -> Outcome<R> {
    let mut patience = Patience::default();
    loop {
        match attempt(ctx, &mut patience, &mut work) {
            Tried::Settled(outcome) => return outcome,
            Tried::Later(wait) => drop(panics::caught(|| (ctx.wait)(&ctx.stop, wait))),
            Tried::GivenUp(failure) => {
                ctx.give_up(failure.trouble, &failure.chain());
                return Outcome::Stopped;
            }
        }
    }
}
