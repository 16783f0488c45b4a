//! The one place where work is tried again.

use super::context::{Context, Failure};
use crate::{
    fate::{Fate, Trouble},
    notice::Notice,
};
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// An operator must act; looking more often would not help.
const OPERATOR_WAIT: Duration = Duration::from_secs(60);
/// A run that somebody waits for gives up after so many failures in a row, with the queue kept.
const TRIES_ONCE: u32 = 4;

pub enum Outcome<R> {
    Done(R),
    /// Told to stop, or given up: whoever called ends, and the next start goes on.
    Stopped,
    /// The piece must be made again; why.
    Rotten(String),
}

/// How often in a row something failed, and how long to wait before the next try.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
    troubled: Option<Trouble>,
}

impl Patience {
    /// After a failure: tells it and waits, or says that there is nothing to wait for.
    pub fn failed(&mut self, ctx: &Context, failure: &Failure) -> Outcome<()> {
        let wait = match failure.fate {
            Fate::Stopped => return Outcome::Stopped,
            Fate::Rotten => return Outcome::Rotten(failure.chain()),
            Fate::Operator => OPERATOR_WAIT,
            Fate::Retry => FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT),
        };
        self.failures += 1;
        self.troubled = Some(failure.trouble);
        let in_vain = failure.fate == Fate::Operator || self.failures >= TRIES_ONCE;
        if ctx.options.once && in_vain {
            ctx.give_up(failure.trouble, &failure.chain());
            return Outcome::Stopped;
        }
        ctx.tell(Notice::Trouble { trouble: failure.trouble, what: failure.chain(), retry_in: Some(wait) });
        pause(ctx, wait);
        if ctx.is_stopping() { Outcome::Stopped } else { Outcome::Done(()) }
    }

    /// After a success: tells that the trouble is over, if there was any.
    pub fn succeeded(&mut self, ctx: &Context) {
        self.failures = 0;
        if let Some(trouble) = self.troubled.take() {
            ctx.tell(Notice::Recovered { trouble });
        }
    }
}

/// Works until it is done, told to stop, or found to be in vain.
pub fn persist<R>(ctx: &Context, mut work: impl FnMut() -> Result<R, Failure>) -> Outcome<R> {
    let mut patience = Patience::default();
    loop {
        if ctx.is_stopping() {
            return Outcome::Stopped;
        }
        match work() {
            Ok(done) => {
                patience.succeeded(ctx);
                return Outcome::Done(done);
            }
            Err(failure) => match patience.failed(ctx, &failure) {
                Outcome::Done(()) => {}
                Outcome::Stopped => return Outcome::Stopped,
                Outcome::Rotten(why) => return Outcome::Rotten(why),
            },
        }
    }
}

/// Waits, unless told to stop.
pub fn pause(ctx: &Context, wait: Duration) {
    let until = ctx.elapsed() + wait;
    while !ctx.is_stopping() {
        let left = until.saturating_sub(ctx.elapsed());
        if left.is_zero() {
            return;
        }
        ctx.bell.wait(ctx.bell.rings(), left.min(Duration::from_millis(200)));
    }
}
