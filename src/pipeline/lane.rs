//! One source on its way through a pass: the walk, the cut, and where the last run left off.

use super::{
    context::{Context, Failure},
    spec::{Options, SourceSpec},
};
use crate::{
    archive::{
        cut::{Cut, Limits, Plan},
        entry::{Entry, Walked},
        filter::Filter,
        header,
        items::Items,
        manifest::Segment,
        pack::{Mark, MemberMark, PathField, SegmentChain},
        tree::{self, Pulse, SourceError, Tree},
        walk::{self, Position, Walk},
    },
    catalog::{Catalog, PieceRow, SegmentRow},
    name::PassId,
    path::SourcePath,
};
use serde::{Deserialize, Serialize};
use std::{os::unix::fs::MetadataExt, sync::Arc};

/// A source that is being walked.
pub struct Lane {
    pub pass: PassId,
    pub tree: Arc<Tree>,
    pub filter: Arc<Filter>,
    pub cut: Cut<Walk>,
    /// The draft that goes on with the first plan.
    pub draft: Option<ResumedDraft>,
    /// What the next segment of the file under way must know of those before.
    pub chain: Option<SegmentChain>,
    /// Entries that the pass had seen before this walk began.
    seen_before: u64,
    /// The last plan did not fit into the room that was kept for it: the next one gets all that a piece may have.
    pub roomy: bool,
}

/// A source that is there, and how it is walked and cut.
pub struct Ground {
    pub tree: Arc<Tree>,
    pub filter: Arc<Filter>,
    walk: walk::Options,
    limits: Limits,
}

impl Ground {
    /// Opens the source, or says why it must be held: an archive of a source that is not there would say that
    /// everything in it was deleted.
    pub fn open(
        options: &Options,
        spec: &SourceSpec,
        pulse: Pulse,
        had_entries: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<Ground, NotNow> {
        pulse.beat(&SourcePath::root());
        let tree = Tree::open(&spec.path).map_err(|err| NotNow::Held(crate::fate::Chain(&err).to_string()))?;
        let held = |why: String| Err(NotNow::Held(why));
        if spec.require_mount {
            match tree::why_no_mount(&spec.path) {
                Ok(None) => {}
                Ok(Some(why)) => return held(format!("{:?} {why}, and require_mount is set", spec.path)),
                Err(err) => return held(format!("Cannot see whether {:?} is a mount point: {err}", spec.path)),
            }
        }
        match tree::is_empty_dir(&spec.path) {
            Ok(true) if had_entries()? => return held(format!("{:?} is empty, and was not before", spec.path)),
            Ok(_) => {}
            Err(err) => return held(format!("Cannot list {:?}: {err}", spec.path)),
        }
        let own = options.own.iter().filter_map(|dir| std::fs::metadata(dir).ok());
        let own = own.map(|meta| (meta.dev(), meta.ino())).collect();
        Ok(Ground {
            tree: Arc::new(tree.with_pulse(pulse)),
            filter: Arc::new(Filter::new(&spec.filter)?),
            walk: walk::Options { one_file_system: spec.one_file_system, own },
            limits: Limits {
                max_size: options.pack.max_size,
                max_members: options.pack.max_members,
                estimate: header::estimate,
                ancestor: header::ancestor,
            },
        })
    }

    pub fn cut(&self, from: Position) -> Cut<Walk> {
        Cut::new(Walk::new(self.tree.clone(), self.filter.clone(), self.walk.clone(), from), self.limits)
    }
}

/// A draft that was interrupted, to go on with.
#[derive(Clone, Debug)]
pub struct ResumedDraft {
    pub seq: u32,
    pub mark: Mark,
}

/// Why a source cannot be worked on now; not an error of ours.
#[derive(Debug)]
pub enum NotNow {
    Held(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for NotNow {
    fn from(err: E) -> NotNow {
        NotNow::Failed(err.into())
    }
}

/// The range of a lost piece.
pub struct Again {
    pub lost: PieceRow,
    /// The piece behind which what is still missing of the range begins.
    pub before: Option<PieceRow>,
    /// What the segment before a lost one left for it.
    pub chain: Option<SegmentChain>,
    pub draft: Option<ResumedDraft>,
}

/// What of the walk is to be packed.
pub enum Range {
    /// On from where the pass is.
    Rest { draft: Option<Box<ResumedDraft>> },
    /// What a lost piece held, once more.
    Again(Box<Again>),
}

impl Lane {
    pub fn open(ctx: &Context, spec: &SourceSpec, pass: PassId, range: Range) -> Result<Lane, NotNow> {
        let pulse = ctx.pulse.of(spec.name.as_str());
        let ground = Ground::open(&ctx.options, spec, pulse, || had_entries(&ctx.catalog, spec))?;
        let walk = |from| ground.cut(from);
        let chain;
        let mut seen_before = ctx.catalog.totals(&spec.name, pass)?.walked;
        let (cut, draft) = match range {
            Range::Rest { draft } => {
                let last = ctx.catalog.resume_point(&spec.name, pass)?;
                chain = last.as_ref().and_then(segment_of).and_then(|(state, _)| state.chain);
                match draft {
                    Some(draft) => {
                        seen_before += draft.mark.range.counts.seen;
                        (go_on(&draft, walk)?, Some(*draft))
                    }
                    None => (resume(last.as_ref(), walk), None),
                }
            }
            Range::Again(range) => {
                chain = range.chain;
                let mut cut = match &range.draft {
                    Some(draft) => go_on(draft, walk)?,
                    None => again(&range.lost, range.before.as_ref(), walk),
                };
                cut.stop_after(range.lost.packed.position.clone());
                (cut, range.draft)
            }
        };
        let Ground { tree, filter, .. } = ground;
        Ok(Lane { pass, tree, filter, cut, draft, chain, seen_before, roomy: false })
    }

    /// Entries that the pass has seen, counted by the walk itself.
    pub fn seen(&self) -> u64 {
        self.seen_before + self.cut.walk().seen() + self.cut.missed()
    }

    /// The next piece to be packed. What the source itself refuses holds it.
    pub fn next_plan(&mut self) -> Result<Option<Plan>, NotNow> {
        self.cut.next_plan().map_err(|err: SourceError| NotNow::Held(crate::fate::Chain(&err).to_string()))
    }

    /// Takes back a plan of which not even the first entry fitted; `had_all`: into all the room that there is.
    pub fn too_large(&mut self, items: Items, had_all: bool) {
        let first = items.iter().find_map(|item| match item {
            Walked::Entry(entry) => Some(entry.path),
            _ => None,
        });
        self.hand_back(items);
        if had_all && let Some(first) = first {
            self.cut.force_segments(first);
        }
        self.roomy = true;
    }

    pub fn hand_back(&mut self, items: Items) {
        self.cut.hand_back(items);
    }
}

/// What is kept of a segment beside where it lies: the file as it was at the first one, and what the next must know.
#[derive(Debug, Serialize, Deserialize)]
pub struct SegmentState {
    pub file: Entry,
    pub chain: Option<SegmentChain>,
}

pub fn segment_of(row: &PieceRow) -> Option<(SegmentState, SegmentRow)> {
    let state = serde_json::from_str(row.packed.segment_state.as_deref()?).ok()?;
    Some((state, row.packed.segment?))
}

/// Bytes of every segment of the file but the last, which is shorter, but lies where their length has put it.
fn segment_len(segment: SegmentRow) -> u64 {
    segment.offset.checked_div(u64::from(segment.index.saturating_sub(1))).unwrap_or(segment.len)
}

fn path(field: &Option<PathField>) -> Result<SourcePath, Failure> {
    field.as_ref().and_then(PathField::get).ok_or_else(|| Failure::rotten("The mark of a draft names no path"))
}

/// Goes on with a draft, to the end of the plan that it was begun for.
fn go_on(draft: &ResumedDraft, walk: impl FnOnce(Position) -> Cut<Walk>) -> Result<Cut<Walk>, Failure> {
    let mark = &draft.mark;
    let mut cut = match &mark.member {
        // What appeared between the last item and this file meanwhile is not of this pass.
        Some(member) => walk(Position::At(member.file.path.clone())),
        None => walk(Position::After(path(&mark.range.position)?)),
    };
    match &mark.member {
        Some(MemberMark { file, segment: Some(Segment { index, count, offset, file_size }), len, .. }) => {
            let segment =
                SegmentRow { index: *index, count: *count, offset: *offset, len: *len, file_size: *file_size };
            cut.resume_segments(file.clone(), segment.count, segment_len(segment), segment.index);
        }
        _ => cut.resume_draft(path(&Some(mark.plan_last.clone()))?),
    }
    Ok(cut)
}

/// Goes on behind the farthest piece of the pass.
fn resume(last: Option<&PieceRow>, walk: impl FnOnce(Position) -> Cut<Walk>) -> Cut<Walk> {
    let Some(last) = last else { return walk(Position::Start) };
    match segment_of(last) {
        Some((SegmentState { file, .. }, segment)) if segment.index < segment.count => {
            let mut cut = walk(Position::At(file.path.clone()));
            cut.resume_segments(file, segment.count, segment_len(segment), segment.index + 1);
            cut
        }
        _ => walk(Position::After(last.packed.position.clone())),
    }
}

/// Goes over the range of a lost piece again, behind what already stands for part of it.
fn again(lost: &PieceRow, before: Option<&PieceRow>, walk: impl FnOnce(Position) -> Cut<Walk>) -> Cut<Walk> {
    if let Some((SegmentState { file, .. }, segment)) = segment_of(lost) {
        let mut cut = walk(Position::At(file.path.clone()));
        cut.resume_segments(file, segment.count, segment_len(segment), segment.index);
        return cut;
    }
    resume(before, walk)
}

/// Whether an earlier pass found something in the source.
pub fn had_entries(catalog: &Catalog, spec: &SourceSpec) -> Result<bool, Failure> {
    for pass in catalog.passes(Some(&spec.name))? {
        if catalog.pieces(&spec.name, pass.pass)?.iter().any(|piece| piece.packed.last != SourcePath::root()) {
            return Ok(true);
        }
    }
    Ok(false)
}
