//! One piece, from its plan to its place on the shelf of packed ones.

use super::{
    context::{Context, Failure},
    drafts,
    inbox::tell_next,
    kept,
    lane::{Lane, NotNow, SegmentState},
    middle::list_len,
    naming::Naming,
    retry::Outcome as Told,
    spec::{Names as KeyNames, SourceSpec},
};
use crate::{
    archive::{
        cut::{Plan, SegmentPlan},
        entry::{Kind, Walked},
        items::Items,
        manifest::ExceptionLine,
        names::Names,
        pack::{self, Mark, MemberMark, Outcome, PackError, PackJob, PathField},
        tree::{SourceError, Tree},
    },
    catalog::{PackedRow, SegmentRow},
    durable::{self, at},
    fate::{Fate, Stopped, Trouble},
    name::{Label, PassId, PieceName},
    notice::{Monitor, Notice, Reason, Severity, Step},
    path::SourcePath,
    staging::{Draft, Packed as PackedState, Piece, Reservation, Shelf, write_record},
};
use std::{cell::Cell, fs::File, path::Path, sync::mpsc::SyncSender, time::Duration};

/// Suffix of the record from which the catalog's row of a packed piece is made again after a crash.
pub(super) const ROW_RECORD: &str = ".row.json";

/// How often a wait for room looks whether it is in vain.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came of it.
pub enum Packed {
    One,
    /// The walk is at its end.
    End,
}

/// Bytes of a member list that one entry can take: the line without its path, and the path with its escapes.
fn list_bound(plan: &Plan) -> u64 {
    let target = |item: &Walked| match item {
        Walked::Entry(entry) if entry.meta.kind == Kind::Symlink => entry.meta.size,
        _ => 0,
    };
    let line = |item: Walked| 420 + 2 * (item.path().as_bytes().len() as u64 + target(&item));
    plan.items.iter().map(line).sum::<u64>() + 64 * 1024
}

/// The largest tar that this plan may become: metadata is larger than stat tells, and files grow.
fn tar_bound(plan: &Plan, max_size: u64) -> u64 {
    (plan.tar_size + plan.tar_size / 20 + plan.members.saturating_mul(512).min(64 << 20) + (1 << 20)).min(max_size)
}

/// A piece of nothing but metadata has a member list and a manifest nearly as large as its tar. Where all of it would
/// not fit below the smallest caps, the last members are handed back.
fn within_cap(ctx: &Context, lane: &mut Lane, mut plan: Plan) -> Plan {
    let most = ctx.staging.budget().most();
    let mut handed_back = Items::default();
    while plan.segment.is_none()
        && plan.items.len() > 1
        && Reservation::planned(tar_bound(&plan, ctx.options.pack.max_size), list_bound(&plan)).0 > most
    {
        let mut last = plan.items.split_off(plan.items.len() - plan.items.len().div_ceil(8));
        last.extend(handed_back);
        handed_back = last;
    }
    if !handed_back.is_empty() {
        plan.members = plan.items.iter().filter(|item| matches!(item, Walked::Entry(_))).count() as u64;
        lane.hand_back(handed_back);
    }
    plan
}

/// Packs the next plan of a lane. `replaces`: the seq of the lost piece whose range this is.
pub fn pack_next(
    ctx: &Context,
    spec: &SourceSpec,
    lane: &mut Lane,
    replaces: Option<u32>,
    out: &SyncSender<Piece<PackedState>>,
) -> Result<Packed, NotNow> {
    let Some(plan) = lane.next_plan()? else { return Ok(Packed::End) };
    ctx.rest(&spec.name);
    let draft = lane.draft.take();
    let plan = if draft.is_none() { within_cap(ctx, lane, plan) } else { plan };
    let seq = match &draft {
        Some(draft) => draft.seq,
        None => free_seq(ctx, spec, lane.pass)?,
    };
    let name = PieceName { source: spec.name.clone(), pass: lane.pass, seq, label: None };
    let id = name.id();
    let _writing = ctx.packing.begin(&id);
    let max_size = ctx.options.pack.max_size;
    let tar_max = if std::mem::take(&mut lane.roomy) { max_size } else { tar_bound(&plan, max_size) };
    let tar_max = draft.as_ref().map_or(tar_max, |draft| tar_max.saturating_add(draft.mark.tar_len).min(max_size));
    // The layout of segments is older than the limit that holds now.
    let tar_max = if plan.segment.is_some() { tar_max.max(plan.tar_size) } else { tar_max };
    let need = Reservation::planned(tar_max, list_bound(&plan) + draft.as_ref().map_or(0, |draft| draft.mark.list_len));
    reserve(ctx, &id, need)?;
    let planned = plan.tar_size;
    ctx.tell(Notice::StepStarted {
        step: Step::Pack,
        piece: name.clone(),
        len: planned,
        resumed_at: draft.as_ref().map_or(0, |draft| draft.mark.tar_len),
    });
    let began = ctx.elapsed();
    let done = pack_plan(ctx, lane, &name, plan, tar_max, draft.map(|draft| draft.mark), replaces);
    ctx.rest(&spec.name);
    match done {
        Ok((piece, handed_back)) => {
            ctx.tell(Notice::StepEnded {
                step: Step::Pack,
                piece: piece.name().clone(),
                input_len: planned,
                output_len: piece.len(),
                took: ctx.elapsed().saturating_sub(began),
            });
            let standing = Reservation::standing(piece.len(), list_len(ctx, piece.name()));
            ctx.staging.budget().shrink(&id, standing);
            // Whatever is wrong from now on, a piece that has a row must be known to the next stage.
            let told = tell_next(ctx, out, piece);
            lane.hand_back(handed_back);
            match told {
                Told::Done(()) => Ok(Packed::One),
                _ => Err(NotNow::Failed(Stopped.into())),
            }
        }
        Err(Cannot::TooLarge(items)) => {
            // The cut now knows the true size. If not even all the room of a piece was enough, it makes segments.
            ctx.staging.budget().release(&id);
            lane.too_large(*items, tar_max == max_size);
            Ok(Packed::One)
        }
        Err(Cannot::Failed(failure)) => {
            // What is kept of the draft takes room until it goes on.
            match drafts::read_mark(ctx, &id) {
                Some(mark) => drafts::keep(ctx, &id, &mark),
                None => ctx.staging.budget().release(&id),
            }
            Err(NotNow::Failed(failure))
        }
    }
}

/// The next seq that no row has, and no draft that waits for its turn.
fn free_seq(ctx: &Context, spec: &SourceSpec, pass: PassId) -> Result<u32, Failure> {
    let mut seq = ctx.catalog.next_seq(&spec.name, pass)?;
    let is_draft = |seq| {
        let name = PieceName { source: spec.name.clone(), pass, seq, label: None };
        ctx.staging.mark_file(&format!("{}.tar", name.id())).exists()
    };
    while is_draft(seq) {
        seq += 1;
    }
    Ok(seq)
}

fn reserve(ctx: &Context, id: &str, need: Reservation) -> Result<(), Failure> {
    let budget = ctx.staging.budget();
    if budget.try_reserve(id, need) {
        return Ok(());
    }
    // However long it waited; others give nothing up for it.
    if budget.most() < need.0 {
        return Err(no_room(ctx, need));
    }
    ctx.tell(Notice::WaitingForSpace { step: Step::Pack, wanted: need.0, free: budget.free() });
    while !budget.try_reserve(id, need) {
        if ctx.is_stopping() {
            return Err(Stopped.into());
        }
        if budget.is_alone(id) {
            return Err(no_room(ctx, need));
        }
        let pieces = ctx.catalog.undelivered()?;
        if pieces.is_empty() {
            // Nothing behind the archiver will make room. Drafts could, but wait for their turn after this one.
            drafts::remove_others(ctx, id)?;
        } else if pieces.iter().all(|row| ctx.is_piece_abandoned(row.name())) {
            let what = "All room of staging is taken by pieces that are not worked on in this run any more";
            return Err(Failure::new(Fate::Operator, Trouble::Internal, what));
        }
        budget.wait(LOOK_EVERY);
    }
    Ok(())
}

fn no_room(ctx: &Context, need: Reservation) -> Failure {
    let budget = ctx.staging.budget();
    let what = "A piece needs {need} bytes of staging, of which only {free} are not taken by files of somebody else";
    let what = what.replace("{need}", &need.0.to_string()).replace("{free}", &budget.free().to_string());
    Failure::new(Fate::Operator, Trouble::Staging, what)
}

enum Cannot {
    TooLarge(Box<Items>),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Cannot {
    fn from(err: E) -> Cannot {
        Cannot::Failed(err.into())
    }
}

/// What of a plan its row needs when the plan is used up.
struct Planned {
    begins_at: SourcePath,
    segment: Option<SegmentPlan>,
    replaces: Option<u32>,
}

fn pack_plan(
    ctx: &Context,
    lane: &mut Lane,
    name: &PieceName,
    plan: Plan,
    tar_max: u64,
    from: Option<Mark>,
    replaces: Option<u32>,
) -> Result<(Piece<PackedState>, Items), Cannot> {
    let begins_at = plan.items.first().map(|item| item.path().clone());
    let begins_at = begins_at.or_else(|| from.as_ref()?.place()).unwrap_or_else(SourcePath::root);
    let planned = Planned { begins_at, segment: plan.segment.clone(), replaces };
    let is_resumed = from.is_some();
    let (draft, list) = open_draft(ctx, name, &format!("{}.tar", name.id()), is_resumed)?;
    let options = pack::Options { max_size: tar_max, ..ctx.options.pack.clone() };
    let mark_path = draft.mark_path().to_owned();
    let told = Cell::new(from.as_ref().map_or(0, |mark| mark.tar_len));
    let packed = pack::pack(PackJob {
        content: lane.tree.as_ref(),
        plan,
        options: &options,
        tar: draft.file().try_clone().map_err(at("open", draft.path()))?,
        list,
        from,
        mark: &mut |mark: &Mark| {
            // A member that was taken back, or is partly lost.
            let is_doubtful = |member: &MemberMark| member.copied.as_ref().is_none_or(|copied| copied.lost > 0);
            let doubts = mark.member.as_ref().is_some_and(is_doubtful);
            still_there(&lane.tree, &mark.range, doubts).map_err(std::io::Error::other)?;
            drafts::write_mark(&mark_path, mark, replaces).map_err(std::io::Error::other)
        },
        rule: &|number| lane.filter.rule(number).to_owned(),
        stop: &|| ctx.is_stopping(),
        progress: &|len| ctx.monitor.progress(Step::Pack, len.saturating_sub(told.replace(len))),
        now: &|| ctx.elapsed(),
        names: &Names::load(),
        chain: lane.chain.take(),
    });
    let Outcome { packed, handed_back } = match packed {
        Ok(outcome) => outcome,
        // What a resumed draft has consumed besides stands in its mark alone: its range is walked again.
        Err(PackError::TooLarge { handed_back, .. }) if !is_resumed => return Err(Cannot::TooLarge(handed_back)),
        Err(err) => {
            let list = ctx.staging.tmp_file(&format!("{}.jsonl", name.id()));
            return Err(Cannot::Failed(interrupted(err, draft, &list)?));
        }
    };
    if let Err(err) = still_there(&lane.tree, &packed.range, false) {
        draft.keep_if_marked();
        return Err(err.into());
    }
    lane.chain.clone_from(&packed.chain);
    let piece = commit(ctx, name, &packed, planned, draft)?;
    Ok((piece, handed_back))
}

/// What vanished or failed says nothing of the entries when the whole source went away under them: then nothing
/// of it may become durable. `doubts`: so does what became of the member under way.
fn still_there(tree: &Tree, range: &pack::Range, doubts: bool) -> Result<(), SourceError> {
    let is_doubtful = |reason| !matches!(reason, Reason::Socket | Reason::Mount | Reason::Deep | Reason::Metadata);
    let doubts = doubts || range.exceptions.iter().any(|line| is_doubtful(line.reason));
    if doubts { tree.check() } else { Ok(()) }
}

/// The commit of a piece: records are durable first, then the tar gets its name, then the row.
fn commit(
    ctx: &Context,
    name: &PieceName,
    packed: &pack::Packed,
    planned: Planned,
    draft: Draft<PackedState>,
) -> Result<Piece<PackedState>, Failure> {
    let mut row = row(ctx, name, packed, planned);
    if Naming::of(ctx, &name.source, name.pass)?.names == KeyNames::Plain {
        row.name.label = Some(Label::of(&row.first, &row.last));
    }
    let exceptions: Vec<_> = packed.range.exceptions.iter().filter_map(ExceptionLine::exception).collect();
    ctx.check_staging_is_ours()?;
    let list_path = ctx.staging.tmp_file(&format!("{}.jsonl", name.id()));
    write_record(&ctx.staging.list_file(&row.name, ROW_RECORD), &row)?;
    durable::rename(&list_path, &ctx.staging.list_file(&row.name, PackedState::RECORD))?;
    let piece = ctx.staging.publish(draft, &row.name, ".tar")?;
    kept::add_piece(ctx, &row, &packed.range.exceptions)?;
    for exception in exceptions {
        ctx.tell(Notice::EntryException { source: name.source.to_string(), exception });
    }
    Ok(piece)
}

/// What of an interrupted draft is worth going on with, stays. What is durable behind a mark is, whatever went
/// wrong after it.
fn interrupted(err: PackError, draft: Draft<PackedState>, list: &Path) -> Result<Failure, Failure> {
    let failure = Failure::from(err);
    let is_rotten = failure.fate == Fate::Rotten;
    let is_kept = !is_rotten && draft.keep_if_marked();
    if !is_kept {
        durable::remove(list)?;
    }
    // Of a rotten draft nothing is left: it is begun again.
    Ok(Failure { fate: if is_rotten { Fate::Retry } else { failure.fate }, ..failure })
}

/// The tar and its member list, new or as a run before left them.
fn open_draft(
    ctx: &Context,
    name: &PieceName,
    file_name: &str,
    resumed: bool,
) -> Result<(Draft<PackedState>, File), Failure> {
    let list_path = ctx.staging.tmp_file(&format!("{}.jsonl", name.id()));
    if resumed {
        let list = File::options().read(true).write(true).open(&list_path).map_err(at("open", &list_path))?;
        return Ok((ctx.staging.reopen_draft(file_name)?, list));
    }
    durable::remove(&list_path)?;
    Ok((ctx.staging.draft(file_name)?, durable::create(&list_path)?))
}

/// The row of a packed piece.
fn row(
    ctx: &Context,
    name: &PieceName,
    packed: &pack::Packed,
    Planned { begins_at, segment, replaces }: Planned,
) -> PackedRow {
    // Of a range of which nothing could be archived its own ends are all there is.
    let path = |field: &Option<PathField>, or: &SourcePath| {
        field.as_ref().and_then(PathField::get).unwrap_or_else(|| or.clone())
    };
    let first = path(&packed.range.first, &begins_at);
    let last = path(&packed.range.last, &first);
    let position = path(&packed.range.position, &last);
    let segment_row = segment.as_ref().map(|segment| SegmentRow {
        index: segment.index,
        count: segment.count,
        offset: segment.offset,
        len: segment.len,
        file_size: segment.file.meta.size,
    });
    let chain = packed.chain.clone();
    let segment_state =
        segment.and_then(|segment| serde_json::to_string(&SegmentState { file: segment.file, chain }).ok());
    PackedRow {
        name: name.clone(),
        first,
        last,
        position,
        segment: segment_row,
        segment_state,
        members: packed.range.members,
        tar_size: packed.tar_size,
        tar_sha256: packed.tar_sha256.clone(),
        counts: serde_json::to_string(&packed.range.counts).unwrap_or_default(),
        seen: packed.range.counts.seen,
        archived: packed.range.counts.clean + packed.range.counts.changed,
        lost: packed.range.exceptions.iter().filter(|line| line.severity == Severity::Loss).count() as u64,
        replaces,
        packed_at: (ctx.clock)(),
    }
}
