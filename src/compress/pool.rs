//! The threads that encode blocks. They live as long as one `apply`.

use super::{CompressError, block::Encoded, crew::Crew, probe::Halt};
use crate::panics;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TryRecvError},
    },
    thread::{self, Scope},
    time::Duration,
};

/// How long to wait before looking at the stop again.
pub const PATIENCE: Duration = Duration::from_millis(100);

pub struct Work {
    pub number: u64,
    pub clear: Vec<u8>,
}

pub struct Done {
    pub number: u64,
    /// Given back, to be filled again.
    pub clear: Vec<u8>,
    pub outcome: Result<Encoded, CompressError>,
}

/// Dropping it lets the threads go; each ends after the slice in hand when `halt` says so.
pub struct Pool {
    work: SyncSender<Work>,
    done: Receiver<Done>,
}

impl Pool {
    /// Takes at most `slots` blocks at once; with that promise kept, neither side ever blocks on a full channel.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        crew: &'scope Crew,
        slots: usize,
        halt: Halt<'scope>,
    ) -> Result<Pool, CompressError> {
        let (work, inbox) = mpsc::sync_channel::<Work>(slots);
        let (outbox, done) = mpsc::sync_channel(slots);
        let inbox = Arc::new(Mutex::new(inbox));
        for number in 0..crew.threads {
            let (inbox, outbox) = (inbox.clone(), outbox.clone());
            thread::Builder::new()
                .name(format!("compress-{number}"))
                .spawn_scoped(scope, move || serve(&inbox, &outbox, crew, halt))
                .map_err(|err| CompressError::codec("start a thread", err))?;
        }
        Ok(Pool { work, done })
    }

    pub fn send(&self, work: Work) -> Result<(), CompressError> {
        self.work.send(work).map_err(|_| gone())
    }

    /// A block that is encoded, if there is one. The crew rings when there is another.
    pub fn poll(&self) -> Result<Option<Done>, CompressError> {
        match self.done.try_recv() {
            Ok(done) => Ok(Some(done)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }
}

fn gone() -> CompressError {
    CompressError::codec("encode a block", "all threads have ended")
}

fn serve(inbox: &Mutex<Receiver<Work>>, outbox: &SyncSender<Done>, crew: &Crew, halt: Halt) {
    loop {
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Work { number, clear }) = next else { return };
        // A panic must come back as an outcome, or the block would be waited for until the end of days.
        let outcome = panics::caught(|| crew.seat(halt)?.encoder().encode(&clear, halt))
            .unwrap_or_else(|panicked| Err(CompressError::codec("encode a block", panicked)));
        if outbox.send(Done { number, clear, outcome }).is_err() {
            return;
        }
        crew.ring();
    }
}
