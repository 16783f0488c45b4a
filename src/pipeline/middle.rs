//! The middle stages: take a piece from one shelf to the next, each with the same guarantees.
//!
//! The input is checked against the digest that was recorded when it was made: if it differs, the piece is
//! rotten and is made again from the source. The output is read back from the disk and proven equal before the
//! input goes: if it differs, the stage works again.

use super::{
    context::{Context, Failure},
    inbox::tell_next,
    retry::{Outcome, persist},
};
use crate::{
    durable::{Growing, at, is_lost},
    fate::{Fate, Trouble},
    name::PieceName,
    notice::{Monitor, Step},
    stage::{Job, Mark, Transform},
    staging::{
        Digest, Draft, HashingWriter, Packed, Piece, Reservation, Shelf, Source, Tally, drop_pages, read_record,
        write_record,
    },
    vault::checksum::{BlockSummer, BlockSums},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::mpsc::SyncSender,
};

/// Where a draft goes on after a restart, and what must stand before that place in it. The input needs no such
/// digest: all of it is read again, and held against its own at the end.
#[derive(Debug, Serialize, Deserialize)]
struct MarkRecord<S> {
    mark: Mark<S>,
    output: Digest,
}

/// What a stage made.
#[derive(Debug)]
pub struct Made<S> {
    pub summary: S,
    pub digest: Digest,
    pub sums: BlockSums,
}

/// Away with the old, now that the new is safe, and on with the news. A crash leaves two copies, never none.
pub(super) fn hand_on<A: Shelf, B: Shelf>(
    ctx: &Context,
    old: &Piece<A>,
    new: Piece<B>,
    out: &SyncSender<Piece<B>>,
) -> Outcome<()> {
    let gone = persist(ctx, |_| Ok(old.discard()?));
    if !matches!(gone, Outcome::Done(())) {
        return gone;
    }
    let list_len = list_len(ctx, new.name());
    ctx.staging.budget().shrink(&new.name().id(), Reservation::standing(new.len(), list_len));
    tell_next(ctx, out, new)
}

/// Bytes of a piece's member list.
pub(super) fn list_len(ctx: &Context, name: &PieceName) -> u64 {
    std::fs::metadata(ctx.staging.list_file(name, Packed::RECORD)).map_or(0, |meta| meta.len())
}

/// Opens what a stage is given. What is not there any more is lost, unless it was moved on as it is by an attempt
/// before this one.
pub(super) fn open_input<A: Shelf, B: Shelf>(ctx: &Context, piece: &Piece<A>) -> Result<File, Failure> {
    match File::open(piece.path()).or_else(|_| File::open(ctx.staging.forwarded::<A, B>(piece))) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            Err(Failure::rotten(format!("It is not on its shelf any more: {:?}", piece.path())))
        }
        opened => Ok(opened.map_err(at("open", piece.path()))?),
    }
}

/// Bytes of the input behind the mark of a draft, if it has one.
pub(super) fn resumed_at(ctx: &Context, file_name: &str) -> u64 {
    let record = read_record::<MarkRecord<serde_json::Value>>(&ctx.staging.mark_file(file_name));
    record.map_or(0, |record| record.mark.input)
}

/// Reads a file whole and checks that it is what was recorded; gives its block checksums.
pub(super) fn check(ctx: &Context, file: &File, expect: &Digest, step: Step) -> Result<BlockSums, Failure> {
    let progress = |bytes| ctx.monitor.progress(step, bytes);
    let mut input = Source::new(file, &ctx.stop, &progress);
    let tally = input.tally();
    let mut sums = BlockSummer::new();
    io::copy(&mut input, &mut sums).map_err(read_failure)?;
    same(&tally.digest(), expect, "The input")?;
    Ok(sums.finish())
}

fn same(found: &Digest, expect: &Digest, what: &str) -> Result<(), Failure> {
    if found == expect {
        return Ok(());
    }
    Err(Failure::rotten(format!(
        "{what} is not what was recorded: {} bytes with SHA-256 {}, not {} bytes with {}",
        found.len, found.sha256, expect.len, expect.sha256
    )))
}

fn read_failure(err: io::Error) -> Failure {
    let fate = match () {
        () if crate::fate::Stopped::caused(&err) => Fate::Stopped,
        () if is_lost(&err) => Fate::Rotten,
        () => Fate::Retry,
    };
    Failure { fate, trouble: Trouble::Staging, waits: fate.into(), progressed: false, error: Box::new(err) }
}

/// Runs a transform from a file to a draft, from the draft's mark if there is one, and proves the draft by
/// opening it again. A draft that can go on survives a failure.
pub(super) fn convert<T: Transform, B: Shelf>(
    ctx: &Context,
    transform: &mut T,
    input: &File,
    expect: &Digest,
    file_name: &str,
    proves: bool,
) -> Result<(Draft<B>, Made<T::Summary>), Failure> {
    let (draft, from) = begin::<T::Summary, B>(ctx, input, file_name)?;
    let made = apply(ctx, transform, input, expect, &draft, from).and_then(|(summary, digest)| {
        let sums = prove(ctx, transform, &draft, expect, &digest, proves)?;
        Ok(Made { summary, digest, sums })
    });
    match made {
        Ok(made) => Ok((draft, made)),
        Err(failure) => {
            if failure.fate == Fate::Stopped {
                draft.keep_if_marked();
            }
            Err(failure)
        }
    }
}

/// Where a stage begins: the tallies of what is behind it already.
struct From<S> {
    mark: Mark<S>,
    input: Tally,
    output: Tally,
}

/// Opens the draft at its mark when everything before the mark still stands on both sides, else a new one.
fn begin<S: Clone + for<'de> Deserialize<'de>, B: Shelf>(
    ctx: &Context,
    input: &File,
    file_name: &str,
) -> Result<(Draft<B>, Option<From<S>>), Failure> {
    let none = |_: u64| {};
    if let Ok(record) = read_record::<MarkRecord<S>>(&ctx.staging.mark_file(file_name))
        && let Ok(draft) = ctx.staging.reopen_draft::<B>(file_name)
    {
        let mut read = Source::new(input, &ctx.stop, &none);
        let mut written = Source::new(draft.file(), &ctx.stop, &none);
        let stands = read.skip(record.mark.input).and_then(|()| written.skip(record.mark.output));
        if let Err(err) = &stands
            && crate::fate::Stopped::caused(err)
        {
            draft.keep_if_marked();
            return Err(read_failure(io::Error::other(crate::fate::Stopped)));
        }
        if stands.is_ok() && written.tally().digest() == record.output {
            draft.file().set_len(record.mark.output).map_err(at("truncate", draft.path()))?;
            let from = From { mark: record.mark, input: read.tally(), output: written.tally() };
            return Ok((draft, Some(from)));
        }
    }
    let mut input = input;
    input.seek(SeekFrom::Start(0)).map_err(read_failure)?;
    crate::durable::remove(&ctx.staging.mark_file(file_name))?;
    Ok((ctx.staging.draft(file_name)?, None))
}

fn apply<T: Transform, B: Shelf>(
    ctx: &Context,
    transform: &mut T,
    input: &File,
    expect: &Digest,
    draft: &Draft<B>,
    from: Option<From<T::Summary>>,
) -> Result<(T::Summary, Digest), Failure> {
    let progress = |bytes| ctx.monitor.progress(T::STEP, bytes);
    let (mark, read_tally, written_tally) = match from {
        Some(from) => (Some(from.mark), from.input, from.output),
        None => (None, Tally::default(), Tally::default()),
    };
    let mut file = draft.file();
    file.seek(SeekFrom::Start(mark.as_ref().map_or(0, |mark| mark.output))).map_err(read_failure)?;
    let mut source = Source::after(input, &ctx.stop, &progress, read_tally.clone());
    let mut writer = HashingWriter::after(Growing(file), written_tally.clone());
    let mut save = |mark: &Mark<T::Summary>| -> io::Result<()> {
        draft.file().sync_data()?;
        let record = MarkRecord { mark: mark.clone(), output: written_tally.digest() };
        debug_assert_eq!(record.output.len, mark.output, "a mark is called when all before it is written");
        write_record(draft.mark_path(), &record).map_err(io::Error::other)
    };
    let summary = transform.apply(Job {
        input: &mut source,
        input_len: expect.len,
        output: &mut writer,
        from: mark,
        mark: &mut save,
        stop: &|| ctx.stop.is_told(),
    })?;
    same(&read_tally.digest(), expect, "The input")?;
    Ok((summary, written_tally.digest()))
}

/// Reads the draft back from the disk, not from the cache, opens it as a reader would years later, and compares.
fn prove<T: Transform, B: Shelf>(
    ctx: &Context,
    transform: &mut T,
    draft: &Draft<B>,
    expect: &Digest,
    made: &Digest,
    proves: bool,
) -> Result<BlockSums, Failure> {
    let mut file = draft.file();
    file.sync_data().map_err(at("flush", draft.path()))?;
    drop_pages(file);
    file.seek(SeekFrom::Start(0)).map_err(at("read", draft.path()))?;
    let none = |_: u64| {};
    let source = Source::new(file, &ctx.stop, &none);
    let read = source.tally();
    let mut tee = Tee { source, sums: BlockSummer::new() };
    let proven = (|| -> Result<(), Failure> {
        if proves {
            let mut clear = HashingWriter::new(io::sink());
            transform.prove(&mut tee, &mut clear, &|| ctx.is_stopping())?;
            same(&clear.tally().digest(), expect, "What comes out of the output")?;
        }
        io::copy(&mut tee, &mut io::sink()).map_err(read_failure)?;
        same(&read.digest(), made, "The output")
    })();
    proven.map_err(|failure| match failure.fate {
        // The input is as it was: the stage works again, from the beginning.
        Fate::Rotten => Failure { fate: Fate::Retry, ..failure },
        _ => failure,
    })?;
    Ok(tee.sums.finish())
}

/// Reads, and records the checksums of what is read.
struct Tee<'a> {
    source: Source<'a>,
    sums: BlockSummer,
}

impl Read for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buf)?;
        self.sums.update(&buf[..len]);
        Ok(len)
    }
}
