//! What compressors that work side by side share: room for blocks, encoders, and the right to prove.
//!
//! A piece has few blocks at its end, and while it is proven none, so a lone compressor leaves most cores idle then;
//! pieces of one block never need more than one. Side by side, the next piece fills the gaps, and yet no more
//! threads encode and no more memory is taken than by one: both are counted here, for all.

use super::{CompressError, Options, block::Encoder, plan, pool::PATIENCE, probe::Halt};
use crate::name::Compression;
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

pub struct Crew {
    pub options: Options,
    pub threads: u32,
    slots: usize,
    next_rank: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    /// Held by whoever compresses with threads that cannot be shared.
    floor: Mutex<()>,
    /// Held by whoever proves: the memory that is left is enough for one.
    proof: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Grows with everything that somebody may wait for.
    events: u64,
    /// Ranks of those at work; a lower one began earlier and goes first.
    at_work: BTreeSet<u64>,
    /// Ranks of those that found no slot.
    wanting: BTreeSet<u64>,
    slots_taken: usize,
    /// Buffers of slots that are free.
    spare: Vec<Vec<u8>>,
    encoding: u32,
    idle: Vec<Encoder>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("options", &self.options).field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Crew {
    pub fn new(options: &Options) -> Crew {
        let threads = plan::threads(options);
        Crew {
            options: options.clone(),
            threads,
            slots: plan::slots(threads),
            next_rank: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
            floor: Mutex::default(),
            proof: Mutex::default(),
        }
    }

    /// How many may work side by side without taking more threads or memory than was allowed: with blocks of their
    /// own three, so that one can end and one be proven while one is in full work.
    pub fn lanes(&self) -> usize {
        match self.options.method {
            _ if self.threads < 2 || self.proof_memory() < plan::proof_memory(&self.options) => 1,
            Compression::Xz => 3,
            Compression::Zstd => 2,
            Compression::None => 1,
        }
    }

    /// Bytes that a proof may take while others compress.
    pub fn proof_memory(&self) -> u64 {
        self.options.memory.saturating_sub(plan::memory_of(&self.options, self.threads))
    }

    /// Waits for the right to compress with threads that cannot be shared.
    pub fn floor(&self, halt: Halt) -> Result<MutexGuard<'_, ()>, CompressError> {
        self.lock(&self.floor, halt)
    }

    /// Waits for the right to prove.
    pub fn proof(&self, halt: Halt) -> Result<MutexGuard<'_, ()>, CompressError> {
        self.lock(&self.proof, halt)
    }

    /// Whoever holds it may do so for hours, and who waits must hear a stop, and be seen to wait.
    fn lock<'a>(&self, right: &'a Mutex<()>, halt: Halt) -> Result<MutexGuard<'a, ()>, CompressError> {
        loop {
            let events = self.events();
            match right.try_lock() {
                Ok(held) => return Ok(held),
                Err(TryLockError::Poisoned(held)) => return Ok(held.into_inner()),
                Err(TryLockError::WouldBlock) if halt() => return Err(CompressError::Stopped),
                Err(TryLockError::WouldBlock) => self.wait(events),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let made = change(&mut state);
        state.events += 1;
        drop(state);
        self.changed.notify_all();
        made
    }

    /// Begins one compression.
    pub fn begin(&self) -> Turn<'_> {
        let rank = self.next_rank.fetch_add(1, Ordering::Relaxed);
        self.state().at_work.insert(rank);
        Turn { crew: self, rank, held: 0 }
    }

    /// Something happened that somebody may wait for.
    pub fn ring(&self) {
        self.change(|_| ());
    }

    /// To be asked before looking for work, so that what happens meanwhile is not slept through.
    pub fn events(&self) -> u64 {
        self.state().events
    }

    /// Waits for something to happen after `events`, but not longer than [`PATIENCE`].
    pub fn wait(&self, events: u64) {
        let state = self.state();
        let _ = self.changed.wait_timeout_while(state, PATIENCE, |state| state.events == events);
    }

    /// Waits for the right to encode a block.
    pub fn seat(&self, halt: Halt) -> Result<Seat<'_>, CompressError> {
        let mut state = self.state();
        while self.threads <= state.encoding {
            if halt() {
                return Err(CompressError::Stopped);
            }
            state = self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.encoding += 1;
        let encoder = state.idle.pop();
        drop(state);
        // From here on the seat is given back whatever happens.
        let mut seat = Seat { crew: self, encoder };
        if seat.encoder.is_none() {
            seat.encoder = Some(Encoder::new(self.options.level)?);
        }
        Ok(seat)
    }
}

/// One compression under way. Dropping it gives back what it held.
pub struct Turn<'a> {
    crew: &'a Crew,
    rank: u64,
    held: usize,
}

impl Turn<'_> {
    /// Takes a slot, and a buffer with it, unless none is free or an older one waits for it.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let mut state = self.crew.state();
        if self.crew.slots <= state.slots_taken || state.wanting.first().is_some_and(|oldest| *oldest < self.rank) {
            state.wanting.insert(self.rank);
            return None;
        }
        state.slots_taken += 1;
        self.held += 1;
        let buffer = state.spare.pop().unwrap_or_default();
        let was_wanting = state.wanting.remove(&self.rank);
        drop(state);
        if was_wanting {
            // Whoever stood behind may have a slot now.
            self.crew.ring();
        }
        Some(buffer)
    }

    /// Gives a slot back: its block is written.
    pub fn give(&mut self, buffer: Vec<u8>) {
        self.held -= 1;
        self.crew.change(|state| {
            state.slots_taken -= 1;
            state.spare.push(buffer);
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.crew.change(|state| {
            state.slots_taken -= self.held;
            state.wanting.remove(&self.rank);
            state.at_work.remove(&self.rank);
            if state.at_work.is_empty() {
                // Days may pass until the next piece.
                (state.spare, state.idle) = (Vec::new(), Vec::new());
            }
        });
    }
}

/// The right to encode, and what to encode with.
pub struct Seat<'a> {
    crew: &'a Crew,
    encoder: Option<Encoder>,
}

impl Seat<'_> {
    pub fn encoder(&mut self) -> &mut Encoder {
        self.encoder.as_mut().expect("a seat is handed out with an encoder")
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // After a panic nobody knows what state it is in.
        let encoder = self.encoder.take().filter(|_| !thread::panicking());
        self.crew.change(|state| {
            state.encoding -= 1;
            state.idle.extend(encoder);
        });
    }
}
