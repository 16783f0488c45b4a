//! The archiver: packs one piece after the other, sources taking turns, for as long as there is something due.
//!
//! It ends last of all in a run that ends by itself, because a piece that is found rotten farther down comes
//! back to it.

use super::{
    context::{Context, Ended, Failure},
    drafts, kept,
    lane::{Again, Lane, NotNow, Range, SegmentState, segment_of},
    packing::{self, Packed as PackedNow},
    retry::{Outcome, Patience},
    spec::SourceSpec,
};
use crate::{
    archive::pack::SegmentChain,
    catalog::{NewPass, PieceRow, PieceState},
    name::{PassId, PieceName},
    notice::Notice,
    staging::{Packed, Piece},
};
use std::{collections::BTreeMap, sync::mpsc::SyncSender, time::Duration};

/// How often a held source is looked at again.
const HELD_WAIT: Duration = Duration::from_secs(60);
/// How often an idle archiver looks around by itself; a ring of the bell wakes it at once.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// A source and how far this run is with it.
struct Turn<'a> {
    spec: &'a SourceSpec,
    lane: Option<Lane>,
    pass_now: bool,
    held: Option<(String, Duration)>,
    patience: Patience,
    /// It was told that no pass is due.
    is_idle: bool,
}

/// What a turn did.
enum Turned {
    /// Packed a piece, or made other headway.
    Worked,
    /// Nothing is due.
    Idle,
    Held,
    Stopped,
}

pub fn run(ctx: &Context, out: SyncSender<Piece<Packed>>) {
    let turn = |spec| Turn {
        spec,
        lane: None,
        pass_now: spec.pass_now,
        held: None,
        patience: Patience::default(),
        is_idle: false,
    };
    let mut turns: Vec<Turn> = ctx.options.sources.iter().map(turn).collect();
    loop {
        let rings = ctx.bell.rings();
        let (mut worked, mut held) = (false, false);
        for turn in &mut turns {
            match turn.take(ctx, &out) {
                Turned::Worked => worked = true,
                Turned::Idle => {}
                Turned::Held => held = true,
                Turned::Stopped => return,
            }
            if ctx.is_stopping() {
                return;
            }
        }
        if worked {
            continue;
        }
        if ctx.options.once && !is_busy(ctx, &turns) {
            ctx.end(if held { Ended::Held } else { Ended::Complete });
            return;
        }
        ctx.bell.wait(rings, IDLE_WAIT);
    }
}

/// Whether anything is still on its way: pieces behind the archiver, or passes that have not ended. The pass of
/// a held source does not count.
fn is_busy(ctx: &Context, turns: &[Turn]) -> bool {
    let under_way = ctx.catalog.undelivered().map_or(true, |pieces| !pieces.is_empty());
    let open =
        |turn: &Turn| turn.held.is_none() && ctx.catalog.open_pass(&turn.spec.name).map_or(true, |pass| pass.is_some());
    under_way || turns.iter().any(open)
}

impl Turn<'_> {
    /// Packs at most one piece, so that sources take turns.
    fn take(&mut self, ctx: &Context, out: &SyncSender<Piece<Packed>>) -> Turned {
        if let Some((_, until)) = &self.held
            && ctx.elapsed() < *until
        {
            return Turned::Held;
        }
        let stepped = self.step(ctx, out);
        ctx.pulse.rest();
        match stepped {
            Ok(turned) => {
                self.held = None;
                self.patience.succeeded(ctx);
                turned
            }
            Err(NotNow::Held(why)) => {
                self.lane = None;
                if self.held.as_ref().is_none_or(|(told, _)| *told != why) {
                    ctx.tell(Notice::PassHeld { source: self.spec.name.to_string(), why: why.clone() });
                }
                self.held = Some((why, ctx.elapsed() + HELD_WAIT));
                Turned::Held
            }
            Err(NotNow::Failed(failure)) => self.failed(ctx, &failure),
        }
    }

    /// Whatever failed, the lane is opened anew from what is durable: a restart and a normal day are one path.
    fn failed(&mut self, ctx: &Context, failure: &Failure) -> Turned {
        self.lane = None;
        match self.patience.failed(ctx, failure) {
            Outcome::Stopped => Turned::Stopped,
            _ => Turned::Worked,
        }
    }

    fn step(&mut self, ctx: &Context, out: &SyncSender<Piece<Packed>>) -> Result<Turned, NotNow> {
        if let Some(lost) = ctx.catalog.to_repack()?.into_iter().find(|row| row.packed.name.source == self.spec.name) {
            return self.again(ctx, lost, out);
        }
        let Some(pass) = self.due(ctx)? else { return Ok(Turned::Idle) };
        if self.lane.is_none() {
            if let Some(row) = ctx.catalog.pass(&self.spec.name, pass)? {
                kept::keep_pass(ctx, &row)?;
            }
            let draft = drafts::find(ctx, &self.spec.name, pass, None)?;
            let resumed = ctx.catalog.resume_point(&self.spec.name, pass)?.is_some() || draft.is_some();
            self.lane = Some(Lane::open(ctx, self.spec, pass, Range::Rest { draft: draft.map(Box::new) })?);
            ctx.tell(Notice::PassStarted { source: self.spec.name.to_string(), pass: pass.to_string(), resumed });
        }
        let Some(lane) = &mut self.lane else { return Ok(Turned::Idle) };
        match packing::pack_next(ctx, self.spec, lane, None, out)? {
            PackedNow::One => Ok(Turned::Worked),
            PackedNow::End => {
                let seen = lane.seen();
                kept::end_walk(ctx, &self.spec.name, pass, seen)?;
                self.lane = None;
                ctx.bell.ring();
                Ok(Turned::Worked)
            }
        }
    }

    /// The pass that is to be walked on, begun if it is time.
    fn due(&mut self, ctx: &Context) -> Result<Option<PassId>, NotNow> {
        let source = &self.spec.name;
        if let Some(pass) = ctx.catalog.open_pass(source)? {
            return Ok(pass.seen.is_none().then_some(pass.pass));
        }
        let now = (ctx.clock)();
        let last = ctx.catalog.passes(Some(source))?.first().map(|row| row.pass);
        let is_due = match (last, self.spec.repeat) {
            (None, _) => true,
            _ if self.pass_now => true,
            (Some(last), Some(repeat)) => {
                now.duration_since(last.started())
                    >= jiff::SignedDuration::try_from(repeat).unwrap_or(jiff::SignedDuration::MAX)
            }
            (Some(_), None) => false,
        };
        if !is_due {
            if let Some(last) = last.filter(|_| !std::mem::replace(&mut self.is_idle, true)) {
                let repeat = self.spec.repeat.and_then(|repeat| jiff::SignedDuration::try_from(repeat).ok());
                let next = repeat.and_then(|repeat| last.started().checked_add(repeat).ok());
                ctx.tell(Notice::NothingDue {
                    source: source.to_string(),
                    last: last.to_string(),
                    next: next.map(|next| next.to_string()),
                });
            }
            return Ok(None);
        }
        self.is_idle = false;
        // Two passes never share an id, even if the clock was set back.
        let pass = match last {
            Some(last) if PassId::at(now) <= last => PassId::at(last.started() + jiff::SignedDuration::from_secs(1)),
            _ => PassId::at(now),
        };
        // A source that must be held now does not even begin.
        let lane = Lane::open(ctx, self.spec, pass, Range::Rest { draft: None })?;
        ctx.catalog.begin_pass(&NewPass {
            source: source.clone(),
            pass,
            host: ctx.host.clone(),
            source_id: ctx.source_id(source)?,
            filter_sha256: lane.filter.sha256(),
        })?;
        self.pass_now = false;
        Ok(Some(pass))
    }

    /// Packs the range of a lost piece again, all of it in one turn.
    fn again(&mut self, ctx: &Context, lost: PieceRow, out: &SyncSender<Piece<Packed>>) -> Result<Turned, NotNow> {
        let PieceName { source, pass, seq, .. } = lost.packed.name.clone();
        let rows = ctx.catalog.pieces(&source, pass)?;
        let replaced = rows.iter().filter(|row| row.packed.replaces == Some(seq));
        let done = replaced.max_by_key(|row| (row.packed.position.clone(), index_of(row)));
        let only_one = lost.packed.segment.is_some();
        // Its last file may have grown into segments, which all have the same position.
        let is_whole = |row: &PieceRow| row.packed.segment.is_none_or(|segment| segment.index == segment.count);
        let is_done = done.is_some_and(|row| only_one || row.packed.position >= lost.packed.position && is_whole(row));
        if !is_done {
            let before = done.or_else(|| before(&rows, &lost)).cloned();
            let left = || before.as_ref().and_then(segment_of).and_then(|(state, _)| state.chain);
            let chain = chain_before(&rows, &lost).or_else(left);
            let draft = drafts::find(ctx, &source, pass, Some(seq))?;
            let range = Range::Again(Box::new(Again { lost: lost.clone(), before, chain, draft }));
            let mut lane = Lane::open(ctx, self.spec, pass, range)?;
            while matches!(packing::pack_next(ctx, self.spec, &mut lane, Some(seq), out)?, PackedNow::One) {
                if only_one {
                    break;
                }
            }
        }
        ctx.catalog.set_replaced(&lost.packed.name)?;
        ctx.bell.ring();
        Ok(Turned::Worked)
    }
}

/// The piece behind which the range of a lost one begins: the farthest before its end, be it of the walk or made
/// again itself. Those that stand for parts of the lost one lie within its range.
fn before<'a>(rows: &'a [PieceRow], lost: &PieceRow) -> Option<&'a PieceRow> {
    let lost = &lost.packed;
    let replaces: BTreeMap<u32, u32> =
        rows.iter().filter_map(|row| Some((row.packed.name.seq, row.packed.replaces?))).collect();
    let is_within = |row: &PieceRow| {
        std::iter::successors(Some(row.packed.name.seq), |seq| replaces.get(seq).copied())
            .any(|seq| seq == lost.name.seq)
    };
    rows.iter()
        .filter(|row| row.packed.position < lost.position && !is_within(row))
        .max_by_key(|row| (row.packed.position.clone(), index_of(row)))
}

fn index_of(row: &PieceRow) -> Option<u32> {
    row.packed.segment.map(|segment| segment.index)
}

/// What the segment before a lost one has left for it, so that the last one tells the digest of the whole file.
fn chain_before(rows: &[PieceRow], lost: &PieceRow) -> Option<SegmentChain> {
    let (SegmentState { file, .. }, segment) = segment_of(lost)?;
    rows.iter().filter(|row| row.state != PieceState::Retired).find_map(|row| {
        let (state, of) = segment_of(row)?;
        (of.index + 1 == segment.index && state.file.path == file.path).then_some(state.chain)?
    })
}
