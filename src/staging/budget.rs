//! The cap of the working directory as a true reservation: who wants to write reserves first.
//!
//! The sum of what is reserved never exceeds the cap, and nobody writes more than they reserved, so what is on
//! disk never exceeds it either. A piece reserves for its longest moment, when it stands in two forms at once,
//! before its first byte is written; what it can no longer need is given back at every publish. So nothing
//! behind the archiver ever waits for room, and there is no deadlock.

use crate::fate::Stopped;
use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

/// How often a wait for room looks whether it was told to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Budget {
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    cap: u64,
    base: u64,
    pieces: HashMap<String, u64>,
}

impl Held {
    fn total(&self) -> u64 {
        self.base + self.pieces.values().sum::<u64>()
    }

    fn free(&self) -> u64 {
        self.cap.saturating_sub(self.total())
    }
}

/// What a piece needs, in bytes of allocated blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation(pub u64);

/// Blocks are whole, and every file of a piece has a last one.
const ROUNDING: u64 = 64 << 10;

/// The most that a stage may add to what it is given: 1 %, and something for a small input.
fn grown(len: u64) -> u64 {
    len + len / 100 + 4096
}

/// The most that the manifest of a member list takes, compressed and sealed.
fn manifest(list_len: u64) -> u64 {
    list_len / 4 * 3 + 4096
}

impl Reservation {
    /// Before a piece is packed: a tar of at most `tar_len` bytes and its member list, then the next form beside it.
    pub fn planned(tar_len: u64, list_len: u64) -> Reservation {
        Reservation(grown(tar_len) + grown(tar_len) + list_len + manifest(list_len) + ROUNDING)
    }

    /// An interrupted draft as it lies there, with its member list.
    pub fn draft(tar_len: u64, list_len: u64) -> Reservation {
        Reservation(tar_len + list_len + ROUNDING)
    }

    /// A form of `len` bytes is on its shelf, and the next one will stand beside it.
    pub fn standing(len: u64, list_len: u64) -> Reservation {
        Reservation(len + grown(len) + list_len + manifest(list_len) + ROUNDING)
    }

    /// Sealed: piece and manifest wait for the vault.
    pub fn sealed(len: u64, manifest_len: u64, list_len: u64) -> Reservation {
        Reservation(len + manifest_len + list_len + ROUNDING)
    }
}

impl Budget {
    pub fn new(cap: u64) -> Budget {
        Budget { held: Mutex::new(Held { cap, ..Held::default() }), freed: Condvar::new() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere cannot leave the map half changed.
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What is there apart from pieces.
    pub fn set_base(&self, bytes: u64) {
        self.held().base = bytes;
    }

    pub fn cap(&self) -> u64 {
        self.held().cap
    }

    /// Holds for whatever is reserved from now on. What stands above a smaller one goes as it is delivered.
    pub fn set_cap(&self, cap: u64) {
        self.held().cap = cap;
        self.freed.notify_all();
    }

    /// The most that a piece can have, when nothing else is held.
    pub fn most(&self) -> u64 {
        let held = self.held();
        held.cap.saturating_sub(held.base)
    }

    pub fn free(&self) -> u64 {
        self.held().free()
    }

    /// Takes what a piece needs if there is room for it now.
    pub fn try_reserve(&self, id: &str, need: Reservation) -> bool {
        let mut held = self.held();
        let others = held.total() - held.pieces.get(id).copied().unwrap_or(0);
        let fits = others.saturating_add(need.0) <= held.cap;
        if fits {
            held.pieces.insert(id.to_owned(), need.0);
        }
        fits
    }

    /// Whether nothing else is held, so that waiting for room is in vain.
    pub fn is_alone(&self, id: &str) -> bool {
        self.held().pieces.keys().all(|held| held == id)
    }

    /// Of all that room is held for.
    pub fn ids(&self) -> Vec<String> {
        self.held().pieces.keys().cloned().collect()
    }

    /// Waits until something is given back, or this long.
    pub fn wait(&self, at_most: Duration) {
        let _ = self.freed.wait_timeout(self.held(), at_most);
    }

    /// Waits until there is room; what is behind the archiver goes on meanwhile and makes it.
    pub fn reserve(&self, id: &str, need: Reservation, stop: &dyn Fn() -> bool) -> Result<(), Stopped> {
        while !self.try_reserve(id, need) {
            if stop() {
                return Err(Stopped);
            }
            let held = self.held();
            let _ = self.freed.wait_timeout(held, LOOK_EVERY);
        }
        Ok(())
    }

    /// What a piece found at the start holds already, whether it fits or not.
    pub fn adopt(&self, id: &str, need: Reservation) {
        self.held().pieces.insert(id.to_owned(), need.0);
    }

    /// Gives back what a piece can no longer need. Never takes more.
    pub fn shrink(&self, id: &str, need: Reservation) {
        let mut held = self.held();
        if let Some(bytes) = held.pieces.get_mut(id) {
            *bytes = need.0.min(*bytes);
        }
        drop(held);
        self.freed.notify_all();
    }

    pub fn release(&self, id: &str) {
        self.held().pieces.remove(id);
        self.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_never_exceeds_the_cap() {
        let budget = Budget::new(1000);
        budget.set_base(100);
        assert!(budget.try_reserve("a", Reservation(600)));
        assert!(!budget.try_reserve("b", Reservation(301)));
        assert!(budget.try_reserve("b", Reservation(300)));
        assert_eq!(budget.free(), 0);
        budget.shrink("a", Reservation(200));
        budget.shrink("a", Reservation(500));
        assert_eq!(budget.free(), 400);
        budget.release("b");
        assert_eq!(budget.free(), 700);
    }

    #[test]
    fn another_cap_holds_for_what_comes() {
        let budget = Budget::new(1000);
        assert!(budget.try_reserve("a", Reservation(900)));
        budget.set_cap(500);
        assert_eq!((budget.cap(), budget.free()), (500, 0));
        assert!(!budget.try_reserve("b", Reservation(1)));
        budget.set_cap(1100);
        assert!(budget.try_reserve("b", Reservation(200)));
    }

    #[test]
    fn a_wait_for_room_ends_with_room_or_a_stop() {
        let budget = Budget::new(1000);
        assert!(budget.try_reserve("a", Reservation(900)));
        assert!(budget.reserve("b", Reservation(200), &|| true).is_err());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| budget.reserve("b", Reservation(200), &|| false));
            budget.release("a");
            assert!(waits.join().unwrap().is_ok());
        });
    }

    #[test]
    fn the_smallest_legal_cap_has_room_for_the_largest_piece() {
        // As the configuration demands it: 3 × max_size + 1 %. The list of a piece of the smallest members
        // (an empty file with a short name) is the largest that there is for its size.
        for max_size in [1u64 << 20, 1 << 30, 512 << 30] {
            let cap = 3 * max_size + 3 * max_size / 100;
            let members = max_size / 1536;
            let need = Reservation::planned(max_size, members * (420 + 2 * 20));
            assert!(need.0 + super::super::BASE_BYTES <= cap, "max_size {max_size}: {} of {cap}", need.0);
        }
    }
}
