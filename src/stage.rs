//! The contract of a middle stage: bytes to bytes, on its own thread.
//!
//! A stage neither waits, nor retries, nor touches shelves; that happens once, in the pipeline, which hands it
//! a reader that fails once told to stop ([`crate::fate::Stopped`]) and hashes what goes in and out. A stage can
//! open again what it made ([`Transform::prove`]), and a slow one can go on from a mark in its own output.

use crate::fate::Fateful;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// A place from which a stage can go on after a restart: everything before it is complete on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark<S> {
    /// Bytes of input worked through.
    pub input: u64,
    /// Bytes of output written.
    pub output: u64,
    /// The summary up to here.
    pub summary: S,
}

/// One piece on its way through a stage.
pub struct Job<'a, S> {
    /// Positioned at `from.input`, or at the beginning.
    pub input: &'a mut (dyn Read + Send),
    /// Bytes of the whole input.
    pub input_len: u64,
    /// Positioned at `from.output`, or at the beginning.
    pub output: &'a mut (dyn Write + Send),
    pub from: Option<Mark<S>>,
    /// To be called at places from which the stage can go on. It makes the output durable, so not too often.
    pub mark: &'a mut (dyn FnMut(&Mark<S>) -> io::Result<()> + Send),
    /// Whether it was told to stop. A stage whose threads work while nothing is read asks every 100 ms or so, from
    /// any of them, and ends with an error whose fate is [`crate::fate::Fate::Stopped`].
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

pub trait Transform: Send {
    /// For logs: `compress`.
    const STEP: crate::notice::Step;
    /// What a manifest must know of the output beyond sizes and digests.
    type Summary: Clone + Send + Serialize + DeserializeOwned + 'static;
    type Error: Fateful;

    /// Turns the whole input into output. A failed read of `input` that carries `Stopped` comes back as an
    /// error whose fate is [`crate::fate::Fate::Stopped`].
    fn apply(&mut self, job: Job<'_, Self::Summary>) -> Result<Self::Summary, Self::Error>;

    /// Opens again what the last [`apply`](Self::apply) made, as a reader would years later, and writes the
    /// clear bytes to `clear`; the caller compares. Errors of `output` that come from its content have the fate
    /// [`crate::fate::Fate::Rotten`]. `stop` is as that of a [`Job`]: to be asked where nothing is read for long.
    fn prove(
        &mut self,
        output: &mut (dyn Read + Send),
        clear: &mut (dyn Write + Send),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Self::Error>;
}
