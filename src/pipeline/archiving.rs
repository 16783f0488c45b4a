//! The archiver: what one source does in its turn, for as long as there is something due.

use super::{
    context::{Context, Failure},
    drafts, kept,
    lane::{Again, Lane, NotNow, Range, SegmentState, segment_of},
    naming::Naming,
    packing::{self, Packed as PackedNow},
    retry::{Outcome, Patience, Tried},
    spec::{Options, SourceSpec},
};
use crate::{
    archive::pack::SegmentChain,
    catalog::{NewPass, PieceRow, PieceState},
    name::{PassId, PieceName, SourceName},
    notice::Notice,
    panics::{self, Panicked},
    staging::{Packed, Piece},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

/// How often a held source is looked at again.
const HELD_WAIT: Duration = Duration::from_secs(60);

/// A source and how far this run is with it.
pub struct Turn {
    spec: SourceSpec,
    /// The options of the lane.
    options: Arc<Options>,
    lane: Option<Lane>,
    pass_now: bool,
    held: Option<(String, Duration)>,
    patience: Patience,
    /// After a panic: not before this, on the clock of the run.
    later: Option<Duration>,
    /// Of what a panic left behind nothing is in anybody's way.
    is_settled: bool,
    /// It panicked again and again, and has no turns any more.
    is_abandoned: bool,
    /// It was told that no pass is due.
    is_idle: bool,
}

/// What a turn did.
pub enum Turned {
    /// Packed a piece, or made other headway.
    Worked,
    /// Nothing is due.
    Idle,
    Held,
    /// It panicked, and is to be tried again when some time has passed.
    Later,
    Stopped,
}

impl Turn {
    pub fn new(spec: &SourceSpec, options: &Arc<Options>) -> Turn {
        Turn {
            spec: spec.clone(),
            options: options.clone(),
            lane: None,
            pass_now: spec.pass_now,
            held: None,
            patience: Patience::default(),
            later: None,
            is_settled: true,
            is_abandoned: false,
            is_idle: false,
        }
    }

    pub fn source(&self) -> &SourceName {
        &self.spec.name
    }

    /// Goes on with other options. The walk begins anew behind the last piece only if it would not be the same: it
    /// reads the source.
    fn renew(&mut self, options: &Arc<Options>) {
        if Arc::ptr_eq(&self.options, options) {
            return;
        }
        let Some(spec) = options.sources.iter().find(|spec| spec.name == self.spec.name) else { return };
        let before = SourceSpec { pass_now: spec.pass_now, repeat: spec.repeat, ..self.spec.clone() };
        let is_same = |a: &Options, b: &Options| {
            (a.pack.max_size, a.pack.max_members, &a.own) == (b.pack.max_size, b.pack.max_members, &b.own)
        };
        if before != *spec || !is_same(&self.options, options) {
            self.lane = None;
        }
        // What held it, or kept it idle, may be what was changed.
        self.held = None;
        self.is_idle = false;
        self.spec.clone_from(spec);
        self.options.clone_from(options);
    }

    /// Packs at most one piece, so that sources take turns. A panic is of this source alone: the others have their
    /// turns until it is tried again.
    pub fn take(&mut self, ctx: &Context, out: &SyncSender<Piece<Packed>>) -> Turned {
        self.renew(&ctx.options);
        match () {
            () if self.is_abandoned => return Turned::Idle,
            () if self.later.is_some_and(|until| ctx.elapsed() < until) => return Turned::Later,
            () if self.held.as_ref().is_some_and(|(_, until)| ctx.elapsed() < *until) => return Turned::Held,
            () => self.later = None,
        }
        let taken = panics::caught(|| self.work(ctx, out));
        ctx.rest(&self.spec.name);
        taken.unwrap_or_else(|panicked| self.panicked(ctx, panicked))
    }

    fn work(&mut self, ctx: &Context, out: &SyncSender<Piece<Packed>>) -> Turned {
        let stepped = self.step(ctx, out);
        ctx.rest(&self.spec.name);
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

    fn panicked(&mut self, ctx: &Context, panicked: Panicked) -> Turned {
        self.lane = None;
        self.is_settled = matches!(panics::caught(|| drafts::settle(ctx, &self.spec.name)), Ok(Ok(())));
        match self.patience.panicked::<()>(ctx, panicked) {
            Tried::GivenUp(failure) => {
                ctx.abandon_source(&self.spec.name, &failure);
                self.is_abandoned = true;
                Turned::Idle
            }
            Tried::Later(wait) => {
                self.later = Some(ctx.elapsed() + wait);
                Turned::Later
            }
            Tried::Settled(_) => Turned::Worked,
        }
    }

    fn step(&mut self, ctx: &Context, out: &SyncSender<Piece<Packed>>) -> Result<Turned, NotNow> {
        if !self.is_settled {
            drafts::settle(ctx, &self.spec.name)?;
            self.is_settled = true;
        }
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
            self.lane = Some(Lane::open(ctx, &self.spec, pass, Range::Rest { draft: draft.map(Box::new) })?);
            ctx.tell(Notice::PassStarted { source: self.spec.name.to_string(), pass: pass.to_string(), resumed });
        }
        let Some(lane) = &mut self.lane else { return Ok(Turned::Idle) };
        match packing::pack_next(ctx, &self.spec, lane, None, out)? {
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
        let lane = Lane::open(ctx, &self.spec, pass, Range::Rest { draft: None })?;
        ctx.catalog.begin_pass(&NewPass {
            source: source.clone(),
            pass,
            host: ctx.host.clone(),
            source_id: Naming::next(ctx, source)?.source_id,
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
            let mut lane = Lane::open(ctx, &self.spec, pass, range)?;
            while matches!(packing::pack_next(ctx, &self.spec, &mut lane, Some(seq), out)?, PackedNow::One) {
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
