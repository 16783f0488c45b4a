//! A pass of the vault that has not ended, made one that a walk can go on with.

use super::{Finding, Told};
use crate::{
    catalog::{Adopted, PieceRow, PieceState},
    name::PieceName,
    pipeline::is_kept,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Makes a pass that has not ended one that a walk can go on with: what may be missing is to be packed again.
pub fn leave_open(told: &mut Told, state: &Path) {
    retire_cut_files(told);
    let present: BTreeSet<u32> = told.pieces.iter().map(|piece| piece.row.name().seq).collect();
    let is_kept = |seq: u32| {
        // The records beside the catalog tell what became of it.
        is_kept(state, &PieceName { source: told.row.source.clone(), pass: told.row.pass, seq, label: None })
    };
    let most = present.last().copied().unwrap_or(0);
    let Some(missing) = (1..most).find(|seq| !present.contains(seq) && !is_kept(*seq)) else { return };
    // The walk cuts in the order of numbers; what was packed again has a number of its own, higher than all that come
    // behind it. So nothing is missing before a piece behind which no higher number comes than those that are there.
    told.pieces.sort_by_key(|piece| order(&piece.row));
    let mut lowest_behind = u32::MAX;
    let mut ranges = Vec::new();
    for at in (0..told.pieces.len()).rev() {
        let row = &told.pieces[at].row;
        lowest_behind = lowest_behind.min(row.name().seq);
        let before = at.checked_sub(1).map(|at| &told.pieces[at].row.packed);
        let is_of_same = before.is_some_and(|before| before.last == row.packed.first);
        if missing < lowest_behind && !is_of_same {
            ranges.extend(told.pieces[at].row.packed.first.before().map(|end| (told.pieces[at].clone(), end)));
        }
    }
    told.findings.push(Finding::Gap { pass: told.row.pass, seq: missing, ranges: ranges.len() });
    for (mut gap, end) in ranges.into_iter().rev() {
        told.last_seq += 1;
        let packed = &mut gap.row.packed;
        packed.name = PieceName { seq: told.last_seq, label: None, ..packed.name.clone() };
        (packed.first, packed.last, packed.position, packed.segment) = (end.clone(), end.clone(), end, None);
        (packed.members, packed.seen, packed.archived, packed.lost) = (0, 0, 0, 0);
        (gap.row.delivered, gap.exceptions) = (None, Vec::new());
        retire(&mut gap, "A piece before it was not in the vault when the catalog was made anew");
        told.pieces.push(gap);
    }
}

/// Of pieces in the walk.
pub fn order(row: &PieceRow) -> (Vec<u8>, u32, u32) {
    (row.packed.first.order_key(), row.packed.segment.map_or(0, |segment| segment.index), row.packed.name.seq)
}

/// A file of which segments are missing is packed again as a whole.
fn retire_cut_files(told: &mut Told) {
    let mut files: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (at, piece) in told.pieces.iter().enumerate().filter(|(_, piece)| piece.row.packed.segment.is_some()) {
        files.entry(piece.row.packed.first.order_key()).or_default().push(at);
    }
    for pieces in files.into_values() {
        let segments: BTreeSet<(u32, u32)> = pieces
            .iter()
            .filter_map(|at| told.pieces[*at].row.packed.segment.map(|segment| (segment.index, segment.count)))
            .collect();
        let count = segments.first().map_or(0, |(_, count)| *count);
        if segments.len() as u32 == count && pieces.len() as u32 == count {
            continue;
        }
        for (n, at) in pieces.into_iter().enumerate() {
            let piece = &mut told.pieces[at];
            if let Some(key) = piece.row.delivered.take().and_then(|delivered| delivered.key.parse().ok()) {
                told.findings.push(Finding::Segments { key });
            }
            retire(piece, "Some segments of its file are not in the vault");
            (piece.row.packed.segment, piece.row.replaced_done) = (None, n > 0);
        }
    }
}

fn retire(piece: &mut Adopted, why: &str) {
    piece.row.state = PieceState::Retired;
    piece.row.retired = Some(why.to_owned());
}
