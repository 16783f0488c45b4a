//! The one place where work is tried again.

use super::{
    backoff::{Backoff, Limit},
    context::{Context, Failure},
};
use crate::{
    fate::{Fate, Trouble},
    notice::Notice,
    upload::chance,
};

pub enum Outcome<R> {
    Done(R),
    /// Told to stop, or given up: whoever called ends, and the next start goes on.
    Stopped,
    /// The piece must be made again; why.
    Rotten(String),
}

/// Failures in a row, and what trouble they were.
#[derive(Debug, Default)]
pub struct Patience {
    backoff: Backoff,
    troubled: Option<Trouble>,
}

impl Patience {
    /// After a failure: tells it and waits, or says that there is nothing to wait for.
    pub fn failed(&mut self, ctx: &Context, failure: &Failure) -> Outcome<()> {
        match failure.fate {
            Fate::Stopped => return Outcome::Stopped,
            Fate::Rotten => return Outcome::Rotten(failure.chain()),
            Fate::Operator | Fate::Retry => {}
        }
        self.troubled = Some(failure.trouble);
        if failure.progressed {
            self.backoff.succeeded();
        }
        let limit = Limit::of(ctx.options.once, ctx.options.give_up_after);
        let Some(wait) = self.backoff.failed(failure.waits, failure.fate, (ctx.clock)(), limit, chance()) else {
            ctx.give_up(failure.trouble, &failure.chain());
            return Outcome::Stopped;
        };
        ctx.tell(Notice::Trouble { trouble: failure.trouble, what: failure.chain(), retry_in: Some(wait) });
        (ctx.wait)(&ctx.stop, wait);
        if ctx.is_stopping() { Outcome::Stopped } else { Outcome::Done(()) }
    }

    /// After a success: tells that the trouble is over, if there was any.
    pub fn succeeded(&mut self, ctx: &Context) {
        self.backoff.succeeded();
        if let Some(trouble) = self.troubled.take() {
            ctx.tell(Notice::Recovered { trouble });
        }
    }
}

/// Works until it is done, told to stop, or found to be in vain. Every attempt is made with what is configured then: that
/// may be what was wrong.
pub fn persist<R>(ctx: &Context, mut work: impl FnMut(&Context) -> Result<R, Failure>) -> Outcome<R> {
    let mut patience = Patience::default();
    loop {
        if ctx.is_stopping() {
            return Outcome::Stopped;
        }
        match work(&ctx.renewed()) {
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
