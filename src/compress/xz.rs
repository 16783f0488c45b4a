//! xz in streams of blocks: this thread reads and writes, the pool encodes.

use super::{
    Blocks, CompressError, Sink, Source,
    block::Encoded,
    container::{Record, stream_end, stream_header},
    crew::{Crew, Turn},
    ends,
    plan::{self, Block, Plan},
    pool::{Done, Pool, Work},
};
use crate::stage::Job;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

pub fn apply(job: Job<'_, Blocks>, crew: &Crew) -> Result<Blocks, CompressError> {
    let stop = job.stop;
    let (source, sink, blocks) = ends(job);
    if source.at == source.len && 0 < source.len {
        // Marked at the very end: all streams are there.
        return Ok(blocks);
    }
    let over = AtomicBool::new(false);
    let halt = || over.load(Ordering::Relaxed) || stop();
    thread::scope(|scope| {
        // Whatever ends this, nobody waits for blocks that nobody will write.
        let _over = Over(&over);
        Pool::start(scope, crew, plan::slots(crew.threads), &halt).and_then(|pool| {
            let plan = Plan::new(&crew.options, source.at, source.len);
            let writer = Writer { input: source.at, sink, blocks, records: Vec::new(), is_open: false };
            let queue = Queue { sent: 0, awaited: VecDeque::new(), done: BTreeMap::new() };
            Run { source, plan, reading: None, pool, crew, turn: crew.begin(), queue, writer }.drive()
        })
    })
}

/// Tells the threads that it is over when it is dropped, be it by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Run<'a, 'c> {
    source: Source<'a>,
    plan: Plan,
    reading: Option<Reading>,
    pool: Pool,
    crew: &'c Crew,
    turn: Turn<'c>,
    queue: Queue,
    writer: Writer<'a>,
}

/// A block that is being filled.
struct Reading {
    block: Block,
    clear: Vec<u8>,
    filled: usize,
}

/// What the pool has.
struct Queue {
    /// Blocks sent so far: the number of the next one.
    sent: u64,
    /// Sent and not yet written, in order.
    awaited: VecDeque<Block>,
    /// Encoded before their turn came.
    done: BTreeMap<u64, (Encoded, Vec<u8>)>,
}

impl Run<'_, '_> {
    /// Reads ahead in slices while there are slots, so that a stop is heard, and waits for blocks when there are none.
    fn drive(mut self) -> Result<Blocks, CompressError> {
        loop {
            let events = self.crew.events();
            while let Some(Done { number, clear, outcome }) = self.pool.poll()? {
                self.queue.done.insert(number, (outcome?, clear));
            }
            while let Some((block, encoded, clear)) = self.queue.next() {
                self.writer.block(block, encoded, self.is_read() && self.queue.awaited.is_empty())?;
                self.turn.give(clear);
            }
            if self.read()? {
                continue;
            }
            if self.is_read() && self.queue.awaited.is_empty() {
                break;
            }
            if (self.source.stop)() {
                return Err(CompressError::Stopped);
            }
            self.crew.wait(events);
        }
        self.writer.finish()
    }

    /// Whether all input is with the pool, or through it.
    fn is_read(&self) -> bool {
        self.plan.at == self.plan.end && self.reading.is_none()
    }

    /// Reads a slice of the next block, and sends the block when it is whole; `false` when there is nothing to read
    /// or no slot for it.
    fn read(&mut self) -> Result<bool, CompressError> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None if self.plan.at == self.plan.end => return Ok(false),
            None => {
                let Some(mut clear) = self.turn.take() else { return Ok(false) };
                let block = self.plan.next().expect("the plan is not at its end");
                clear.resize(usize::try_from(block.len).expect("at most three dictionaries"), 0);
                Reading { block, clear, filled: 0 }
            }
        };
        reading.filled += self.source.read(&mut reading.clear[reading.filled..])?;
        if reading.filled < reading.clear.len() {
            self.reading = Some(reading);
            return Ok(true);
        }
        if self.source.left() == 0 {
            self.source.expect_end()?;
        }
        self.pool.send(Work { number: self.queue.sent, clear: reading.clear })?;
        self.queue.sent += 1;
        self.queue.awaited.push_back(reading.block);
        Ok(true)
    }
}

impl Queue {
    /// The next block in order, and the buffer it was in, when it is there.
    fn next(&mut self) -> Option<(Block, Encoded, Vec<u8>)> {
        let number = self.sent - self.awaited.len() as u64;
        let (encoded, clear) = self.done.remove(&number)?;
        Some((self.awaited.pop_front()?, encoded, clear))
    }
}

/// Puts blocks into streams.
struct Writer<'a> {
    /// Offset of the next block in the input.
    input: u64,
    sink: Sink<'a>,
    blocks: Blocks,
    /// Of the stream that is open.
    records: Vec<Record>,
    is_open: bool,
}

impl Writer<'_> {
    fn block(&mut self, block: Block, encoded: Encoded, is_last: bool) -> Result<(), CompressError> {
        if !self.is_open {
            self.sink.write(&stream_header())?;
            self.is_open = true;
        }
        self.blocks.blocks.push([self.input, self.sink.at]);
        self.sink.write(&encoded.header)?;
        self.sink.write(&encoded.body)?;
        self.records.push(encoded.record);
        self.input += block.len;
        if block.ends_stream {
            self.end_stream()?;
            // The end of everything needs no mark: the pipeline makes the whole durable.
            if !is_last {
                self.sink.mark(self.input, &self.blocks)?;
            }
        }
        Ok(())
    }

    fn end_stream(&mut self) -> Result<(), CompressError> {
        self.sink.write(&stream_end(&self.records))?;
        self.records.clear();
        self.is_open = false;
        Ok(())
    }

    /// An empty input is a stream without blocks: a file of 0 bytes would not be an `.xz`.
    fn finish(mut self) -> Result<Blocks, CompressError> {
        if self.sink.at == 0 {
            self.sink.write(&stream_header())?;
            self.end_stream()?;
        }
        assert!(!self.is_open, "the last block ends its stream");
        Ok(self.blocks)
    }
}
