//! Drafts of the archiver that were interrupted and go on: after a restart, and after a failure in the same run.
//!
//! A mark beside a draft says how far it is durable and for which range it was begun. Who opens a lane looks for
//! the draft of its range, so whatever else had to be done first, no draft is taken for another or overwritten.

use super::{
    context::{Context, Failure},
    lane::ResumedDraft,
};
use crate::{
    archive::pack::Mark,
    catalog::PieceState,
    durable::{self, DurableError},
    name::{PassId, PieceName, SourceName},
    staging::{RecordError, Reservation, read_record, write_record},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Ids of drafts that somebody is writing, be it that a read for them hangs.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<BTreeSet<String>>);

/// A draft is being written for as long as this lives.
pub struct Writing<'a> {
    all: &'a UnderWay,
    id: &'a str,
}

impl UnderWay {
    fn ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin<'a>(&'a self, id: &'a str) -> Writing<'a> {
        self.ids().insert(id.to_owned());
        Writing { all: self, id }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.all.ids().remove(self.id);
    }
}

/// What stands in the mark of a draft.
#[derive(Debug, Serialize, Deserialize)]
struct DraftRecord {
    mark: Mark,
    /// The seq of the lost piece whose range this is.
    replaces: Option<u32>,
}

/// Records how far a draft has come.
pub fn write_mark(path: &Path, mark: &Mark, replaces: Option<u32>) -> Result<(), DurableError> {
    write_record(path, &DraftRecord { mark: mark.clone(), replaces })
}

/// The mark of the draft of this id, if it has one.
pub fn read_mark(ctx: &Context, id: &str) -> Option<Mark> {
    let record: DraftRecord = read_record(&ctx.staging.mark_file(&format!("{id}.tar"))).ok()?;
    Some(record.mark)
}

/// A draft in `tmp/`.
struct Found {
    id: String,
    source: SourceName,
    pass: PassId,
    seq: u32,
    record: Result<DraftRecord, RecordError>,
}

/// The draft of this range, if one was interrupted.
pub fn find(
    ctx: &Context,
    source: &SourceName,
    pass: PassId,
    replaces: Option<u32>,
) -> Result<Option<ResumedDraft>, Failure> {
    for found in all(ctx)? {
        if found.source == *source
            && found.pass == pass
            && let Ok(record) = found.record
            && record.replaces == replaces
        {
            if replaces.is_none() && is_laid_out_larger(&record.mark, ctx.options.pack.max_size) {
                remove(ctx, &found.id)?;
                ctx.staging.budget().release(&found.id);
                continue;
            }
            return Ok(Some(ResumedDraft { seq: found.seq, mark: record.mark }));
        }
    }
    Ok(None)
}

/// Whether this is the first segment of a file, of which no other stands yet, in a layout that does not fit any more.
fn is_laid_out_larger(mark: &Mark, max_size: u64) -> bool {
    let first = mark.member.as_ref().filter(|member| member.segment.is_some_and(|segment| segment.index == 1));
    first.is_some_and(|member| member.len >= max_size)
}

/// At a start: keeps the room of drafts that will go on, and removes the others. `here`: ids of pieces on shelves,
/// whose drafts were committed.
pub fn recover(ctx: &Context, here: &BTreeSet<String>) -> Result<(), Failure> {
    for found in all(ctx)? {
        match &found.record {
            Ok(record) if !here.contains(&found.id) && goes_on(ctx, &found, record)? => {
                keep(ctx, &found.id, &record.mark);
            }
            _ => remove(ctx, &found.id)?,
        }
    }
    Ok(())
}

/// Removes all drafts that nobody is writing but this one, whose room is needed by who would otherwise wait for ever.
pub fn remove_others(ctx: &Context, id: &str) -> Result<(), Failure> {
    for found in all(ctx)? {
        if found.id != id && !ctx.packing.ids().contains(&found.id) {
            remove(ctx, &found.id)?;
            ctx.staging.budget().release(&found.id);
        }
    }
    Ok(())
}

/// After a panic in the turn of a source: what is left of its pieces that were not committed is as after a start. A
/// draft stays at its mark, and everything else goes, with the room that was held for it.
pub fn settle(ctx: &Context, source: &SourceName) -> Result<(), Failure> {
    ctx.check_staging_is_ours()?;
    for id in ctx.staging.budget().ids() {
        let Ok(name) = id.parse::<PieceName>() else { continue };
        if name.source != *source || ctx.catalog.piece(source, name.pass, name.seq)?.is_some() {
            continue;
        }
        match read_mark(ctx, &id) {
            Some(mark) => keep(ctx, &id, &mark),
            None => ctx.staging.forget(&name)?,
        }
    }
    Ok(())
}

/// Removes a draft: its mark first, without which the rest is nothing.
pub fn remove(ctx: &Context, id: &str) -> Result<(), Failure> {
    let tar = format!("{id}.tar");
    for path in [ctx.staging.mark_file(&tar), ctx.staging.tmp_file(&tar), ctx.staging.tmp_file(&format!("{id}.jsonl"))]
    {
        durable::remove(&path)?;
    }
    Ok(())
}

/// Holds no more room for an interrupted draft than it takes. More would be waited for by others, while it waits
/// for its turn behind them.
pub fn keep(ctx: &Context, id: &str, mark: &Mark) {
    let tar = ctx.staging.tmp_file(&format!("{id}.tar"));
    let len = std::fs::metadata(tar).map_or(mark.tar_len, |meta| meta.len());
    ctx.staging.budget().adopt(id, Reservation::draft(len, mark.list_len));
}

/// Whether somebody will ask for the draft.
fn goes_on(ctx: &Context, found: &Found, record: &DraftRecord) -> Result<bool, Failure> {
    if !ctx.staging.tmp_file(&format!("{}.jsonl", found.id)).exists()
        || !ctx.options.sources.iter().any(|spec| spec.name == found.source)
    {
        return Ok(false);
    }
    let open = ctx.catalog.open_pass(&found.source)?.filter(|pass| pass.pass == found.pass);
    Ok(match (open, record.replaces) {
        (None, _) => false,
        (Some(pass), None) => pass.seen.is_none(),
        (Some(_), Some(seq)) => {
            let lost = ctx.catalog.piece(&found.source, found.pass, seq)?;
            lost.is_some_and(|row| row.state == PieceState::Retired && !row.replaced_done)
        }
    })
}

fn all(ctx: &Context) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for file_name in ctx.staging.marks()? {
        let Some(id) = file_name.strip_suffix(".tar.mark") else { continue };
        let mut words = id.splitn(3, '.');
        let (Some(source), Some(pass), Some(seq)) = (words.next(), words.next(), words.next()) else { continue };
        // The draft of another stage has a label and more suffixes.
        let (Ok(source), Ok(pass), Ok(seq)) = (source.parse(), pass.parse(), seq.parse()) else { continue };
        let record = read_record(&ctx.staging.tmp_file(&file_name));
        found.push(Found { id: id.to_owned(), source, pass, seq, record });
    }
    Ok(found)
}
