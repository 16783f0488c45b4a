//! Thawing ahead: as much as the line can fetch before the thawed copies expire, and no more, in the order in which it
//! is fetched. What expired all the same is thawed again when its turn comes.

use super::{
    bring::{BringError, News, Wanted},
    fetch::{FetchError, patiently},
};
use crate::{
    fate::{Fate, Fateful},
    price::Tier,
    vault::{Cause, Key, Thaw, Vault, VaultError},
};
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// How often it is asked whether a piece has thawed: soon at first, then as often as makes sense for hours.
const POLL_FIRST: Duration = Duration::from_secs(1);
const POLL_LONGEST: Duration = Duration::from_secs(300);

/// How often it is asked whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a line carries of which nothing is known, bytes a second.
const LINE: u64 = 10_000_000;
/// What was fetched in less time than this says nothing of the line.
const MEASURED_AFTER: Duration = Duration::from_secs(60);
const DAY: u64 = 24 * 60 * 60;

pub struct Thawing<'a> {
    pub vault: Arc<dyn Vault>,
    pub runtime: Handle,
    pub tier: Tier,
    /// What was asked for before, and is not done, may be made faster.
    pub hurry: bool,
    /// For which thawed copies are kept.
    pub days: u32,
    /// What the line carries, bytes a second, as far as it is known.
    pub line: Option<u64>,
    /// Whether whoever asked does not want it any more.
    pub is_cancelled: &'a dyn Fn() -> bool,
    pub tell: &'a dyn Fn(News<'_>),
}

/// What was asked for so far of pieces that come in this order.
pub struct Ahead<'a> {
    pieces: Vec<&'a Wanted>,
    /// How many of them were asked for, and how many bytes those have that were not fetched yet.
    asked: usize,
    waiting: u64,
    fetched: (u64, Duration),
    /// The vault has answered for one of them: what it refuses from then on is refused of one object.
    answered: bool,
}

impl<'a> Ahead<'a> {
    pub fn new(pieces: Vec<&'a Wanted>) -> Ahead<'a> {
        Ahead { pieces, asked: 0, waiting: 0, fetched: (0, Duration::ZERO), answered: false }
    }

    /// Whether this says something of one object, and others may be had.
    pub fn is_of_object(&self, err: &BringError) -> bool {
        let is_refused = matches!(err, BringError::Fetch(FetchError::Vault(err)) if err.fate() == Fate::Operator);
        err.is_of_object() || is_refused && self.answered
    }

    /// A piece of so many bytes was fetched, of which so many came over the line in so much time.
    pub fn fetched(&mut self, size: u64, (came, took): (u64, Duration)) {
        self.waiting = self.waiting.saturating_sub(size);
        self.fetched = (self.fetched.0 + came, self.fetched.1 + took);
    }
}

impl Thawing<'_> {
    /// Asks for as many as make sense from here on.
    pub fn go_ahead(&self, ahead: &mut Ahead<'_>) -> Result<(), VaultError> {
        let (bytes, took) = ahead.fetched;
        let measured = (took > MEASURED_AFTER).then(|| (bytes as f64 / took.as_secs_f64()) as u64);
        let most = self.at_once(measured);
        while let Some(piece) = ahead.pieces.get(ahead.asked) {
            let size = piece.object.size;
            if ahead.waiting > 0 && ahead.waiting.saturating_add(size) > most {
                return Ok(());
            }
            match self.ask(&piece.object.key, self.hurry) {
                Ok(_) => ahead.answered = true,
                // Told when its turn comes; what is wrong with the first of all is more likely wrong with all.
                Err(err) if err.cause == Cause::Gone || ahead.answered => {}
                Err(err) => return Err(err),
            }
            ahead.asked += 1;
            ahead.waiting += size;
        }
        Ok(())
    }

    /// Bytes that may be thawed and not fetched. Half of what the line carries while copies are kept: the line is shared,
    /// and what is asked for now is fetched behind all that was asked for before.
    fn at_once(&self, measured: Option<u64>) -> u64 {
        let line = measured.or(self.line).unwrap_or(LINE).max(1);
        line.saturating_mul(u64::from(self.days) * DAY) / 2
    }

    /// Waits until an object can be read. Asked for again when it has frozen meanwhile.
    pub fn wait(&self, key: &Key) -> Result<(), BringError> {
        let mut wait = POLL_FIRST;
        while self.ask(key, false)? != Thaw::Ready {
            (self.tell)(News::Thawing(key));
            self.sleep(wait)?;
            wait = (wait * 2).min(POLL_LONGEST);
        }
        self.go_on()
    }

    fn sleep(&self, time: Duration) -> Result<(), BringError> {
        let mut left = time;
        while !left.is_zero() {
            self.go_on()?;
            let step = left.min(LOOK_EVERY);
            self.runtime.block_on(async { tokio::time::sleep(step).await });
            left -= step;
        }
        Ok(())
    }

    /// When whoever asked does not want it any more.
    pub async fn cancelled(&self) -> BringError {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(cancelled) = self.go_on() {
                return cancelled;
            }
        }
    }

    fn go_on(&self) -> Result<(), BringError> {
        if (self.is_cancelled)() { Err(BringError::Cancelled) } else { Ok(()) }
    }

    fn ask(&self, key: &Key, hurry: bool) -> Result<Thaw, VaultError> {
        self.runtime.block_on(patiently(|| async {
            match hurry {
                true => self.vault.hurry(key, self.days, self.tier).await,
                false => self.vault.thaw(key, self.days, self.tier).await,
            }
        }))
    }
}
