//! Trees, limits and a naive model for the tests of the cut.

mod cases;
mod properties;

use super::*;
use crate::{
    archive::entry::{Meta, Stamp},
    notice::{Exception, Reason},
};
use proptest::prelude::*;
use std::{cell::Cell, collections::BTreeMap};

pub type Walk = Vec<Walked>;

pub fn path(text: &str) -> SourcePath {
    SourcePath::parse(text.as_bytes()).unwrap()
}

pub fn entry(at: &SourcePath, kind: Kind, size: u64, extra: u32) -> Walked {
    let stamp = Stamp::default();
    let (mode, uid, gid) = (0o644, extra, 0);
    let meta = Meta { kind, mode, uid, gid, size, mtime: stamp, ctime: stamp, dev: 1, ino: 1, nlink: 1, rdev: 0 };
    Walked::Entry(Entry { path: at.clone(), meta })
}

pub fn skipped(at: &SourcePath) -> Walked {
    let detail = String::new();
    Walked::Skipped(Box::new(Exception { path: at.clone(), reason: Reason::Socket, errno: None, detail }))
}

pub fn excluded(last: &SourcePath) -> Walked {
    Walked::Excluded { rule: 7, count: 3, last: last.clone() }
}

thread_local! {
    /// How often the cut asked for an estimate: every bit of its work is bounded by this.
    pub static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// Directories of uneven headers, and more of them as a member than as an ancestor.
fn ancestor(dir: &SourcePath) -> u64 {
    ASKED.set(ASKED.get() + 1);
    512 * (1 + dir.name().len() as u64 % 2)
}

fn estimate(entry: &Entry) -> u64 {
    ASKED.set(ASKED.get() + 1);
    let extra = 512 * u64::from(entry.meta.uid);
    match entry.meta.kind {
        Kind::Dir => 512 * (1 + entry.path.name().len() as u64 % 2) + extra,
        _ => entry.meta.size.checked_next_multiple_of(512).unwrap_or(u64::MAX).saturating_add(512 + extra),
    }
}

pub fn limits(max_size: u64, max_members: u64) -> Limits {
    Limits { max_size, max_members, estimate, ancestor }
}

#[derive(Clone, Debug)]
pub enum Node {
    File { size: u64, extra: u32 },
    Link,
    Skipped,
    Excluded,
    Dir { extra: u32, inside: BTreeMap<&'static str, Node> },
}

pub fn flatten(at: &SourcePath, node: &Node, into: &mut Walk) {
    match node {
        Node::File { size, extra } => into.push(entry(at, Kind::File, *size, *extra)),
        Node::Link => into.push(entry(at, Kind::Symlink, 0, 0)),
        Node::Skipped => into.push(skipped(at)),
        Node::Excluded => into.push(excluded(at)),
        Node::Dir { extra, inside } => {
            into.push(entry(at, Kind::Dir, 0, *extra));
            for (name, node) in inside {
                flatten(&at.join(name.as_bytes()), node, into);
            }
        }
    }
}

fn nodes() -> impl Strategy<Value = Node> {
    // Names whose joined order differs from their order as paths, among others.
    let name = prop::sample::select(vec!["a", "a!", "a (old)", "a-b", "ab", "b", "b.c", "c", "\u{e9}", "zz"]);
    let size = prop_oneof![
        4 => 0_u64..3000,
        2 => prop::sample::select(vec![0, 1, 511, 512, 513, 1024, 8192]),
        2 => 0_u64..60_000,
        1 => 60_000_u64..400_000,
        1 => Just(u64::MAX),
    ];
    let leaf = prop_oneof![
        10 => (size, 0..3_u32).prop_map(|(size, extra)| Node::File { size, extra }),
        1 => Just(Node::Link),
        1 => Just(Node::Skipped),
        1 => Just(Node::Excluded),
    ];
    leaf.prop_recursive(6, 80, 8, move |inner| {
        (0..3_u32, prop::collection::btree_map(name.clone(), inner, 0..8))
            .prop_map(|(extra, inside)| Node::Dir { extra, inside })
    })
}

/// A whole walk and limits: random caps, and such at which one entry with all that is in it fits just so.
pub fn trees() -> impl Strategy<Value = (Walk, Limits)> {
    let tree = prop::collection::btree_map(prop::sample::select(vec!["a", "a!", "b", "c", "d"]), nodes(), 0..6);
    let exact = (any::<prop::sample::Index>(), 0_u64..5);
    let cap = prop_oneof![(1024_u64..50_000).prop_map(Ok), (200_u64..9000).prop_map(Ok), exact.prop_map(Err)];
    let members = prop_oneof![4 => Just(1_000_000_u64), 3 => 1_u64..12, 1 => 0_u64..2];
    (tree, cap, members).prop_map(|(inside, cap, members)| {
        let mut walk = Walk::new();
        flatten(&SourcePath::root(), &Node::Dir { extra: 0, inside }, &mut walk);
        let cap = cap.unwrap_or_else(|(index, delta)| {
            let at = entries(&walk)[index.index(entries(&walk).len())];
            // Whatever holds a file of 2^64 bytes fits nowhere, and its segments would be too many to list.
            let all = alone(&walk, at, subtree(&walk, at), &limits(0, 0));
            let size = if all < 10_000_000 { all as u64 } else { 9_000 };
            (size + delta).saturating_sub(2)
        });
        // Nor do more than a few hundred segments prove anything more.
        for item in &mut walk {
            if let Walked::Entry(entry) = item
                && entry.meta.size > 400_000
            {
                entry.meta.size = cap.saturating_mul(40);
            }
        }
        (walk, limits(cap, members))
    })
}

/// Numbers of the entries in a walk.
pub fn entries(walk: &[Walked]) -> Vec<usize> {
    (0..walk.len()).filter(|i| matches!(walk[*i], Walked::Entry(_))).collect()
}

pub fn the_entry(item: &Walked) -> &Entry {
    match item {
        Walked::Entry(entry) => entry,
        _ => panic!("not an entry"),
    }
}

/// The numbers of all entries in the tree that begins with entry `at`, itself among them.
pub fn subtree(walk: &[Walked], at: usize) -> Vec<usize> {
    let top = walk[at].path();
    entries(walk).into_iter().filter(|i| *i >= at && walk[*i].path().is_within(top)).collect()
}

pub fn above(path: &SourcePath, limits: &Limits) -> u128 {
    path.ancestors().iter().map(|dir| u128::from((limits.ancestor)(dir))).sum()
}

pub fn sum(walk: &[Walked], which: &[usize], limits: &Limits) -> u128 {
    which.iter().map(|i| u128::from((limits.estimate)(the_entry(&walk[*i])))).sum()
}

/// Bytes of a piece of its own for these entries, the first of which is `at`.
pub fn alone(walk: &[Walked], at: usize, which: Vec<usize>, limits: &Limits) -> u128 {
    above(walk[at].path(), limits) + u128::from(TAR_END) + sum(walk, &which, limits)
}

pub fn fits(size: u128, members: usize, limits: &Limits) -> bool {
    size <= u128::from(limits.max_size) && members as u64 <= limits.max_members.max(1)
}

pub fn fits_alone(walk: &[Walked], at: usize, limits: &Limits) -> bool {
    let all = subtree(walk, at);
    fits(alone(walk, at, all.clone(), limits), all.len(), limits)
}

/// Bytes of every segment but the last; `None` where a file is not parted.
pub fn segment_len(file: &Entry, limits: &Limits) -> Option<u128> {
    let padded = u128::from(file.meta.size).div_ceil(512) * 512;
    let header = u128::from((limits.estimate)(file)).saturating_sub(padded);
    let spare = u128::from(limits.max_size / 16).min(1 << 20);
    let room = u128::from(limits.max_size).checked_sub(above(&file.path, limits) + 1024 + header + spare)?;
    let len = if room >= 65536 { room / 65536 * 65536 } else { room / 512 * 512 };
    (file.meta.kind == Kind::File && len > 0).then_some(len)
}

/// The rules as they are written down, over a walk that is all there: for each plan what it holds, its size, and
/// the index and count of its segment.
pub type Naive = (Walk, u128, usize, Option<(u32, u32)>);

pub fn model(walk: &[Walked], limits: &Limits) -> Vec<Naive> {
    let mut plans: Vec<Naive> = Vec::new();
    let mut at = 0;
    while at < walk.len() {
        let (mut items, mut size, mut members) = (Walk::new(), 0, 0);
        while at < walk.len() {
            if !matches!(walk[at], Walked::Entry(_)) {
                items.push(walk[at].clone());
                at += 1;
                continue;
            }
            let whole = fits_alone(walk, at, limits);
            if !whole && let Some(len) = segment_len(the_entry(&walk[at]), limits) {
                if members == 0 {
                    at = model_segments(walk, at, len, items, limits, &mut plans);
                    items = Walk::new();
                }
                break;
            }
            let unit = if whole { subtree(walk, at) } else { vec![at] };
            let start = if members == 0 { above(walk[at].path(), limits) + 1024 } else { size };
            let grown = start + sum(walk, &unit, limits);
            if members > 0 && !fits(grown, members + unit.len(), limits) {
                break;
            }
            (size, members) = (grown, members + unit.len());
            let end = unit.last().unwrap() + 1;
            items.extend_from_slice(&walk[at..end]);
            at = end;
        }
        if members == 0 {
            size = u128::from((limits.ancestor)(&SourcePath::root())) + 1024;
        }
        if !items.is_empty() {
            plans.push((items, size, members, None));
        }
    }
    plans
}

fn model_segments(
    walk: &[Walked],
    at: usize,
    len: u128,
    before: Walk,
    limits: &Limits,
    plans: &mut Vec<Naive>,
) -> usize {
    let file = the_entry(&walk[at]);
    let size = u128::from(file.meta.size);
    let count = size.div_ceil(len) as u32;
    let header = u128::from((limits.estimate)(file)).saturating_sub(size.div_ceil(512) * 512);
    for index in 1..=count {
        let data = len.min(size - len * u128::from(index - 1));
        let mut items = if index == 1 { before.clone() } else { Walk::new() };
        items.push(walk[at].clone());
        let tar = above(&file.path, limits) + 1024 + header + data.div_ceil(512) * 512;
        plans.push((items, tar, 1, Some((index, count))));
    }
    let after = walk[at + 1..].iter().take_while(|item| !matches!(item, Walked::Entry(_))).count();
    plans.last_mut().unwrap().0.extend_from_slice(&walk[at + 1..at + 1 + after]);
    at + 1 + after
}

pub fn as_naive(plan: &Plan) -> Naive {
    let segment = plan.segment.as_ref().map(|segment| (segment.index, segment.count));
    (plan.items.to_vec(), u128::from(plan.tar_size), plan.members as usize, segment)
}

pub type Never = std::convert::Infallible;

pub fn over(walk: &[Walked], limits: Limits) -> Cut<impl Iterator<Item = Result<Walked, Never>>> {
    Cut::new(walk.iter().cloned().map(Ok), limits)
}

pub fn all_plans(walk: &[Walked], limits: Limits) -> Vec<Plan> {
    rest_of(over(walk, limits))
}

pub fn rest_of<W: Iterator<Item = Result<Walked, Never>>>(mut cut: Cut<W>) -> Vec<Plan> {
    let mut plans = Vec::new();
    while let Some(plan) = cut.next_plan().unwrap() {
        plans.push(plan);
    }
    assert!(cut.next_plan().unwrap().is_none(), "the end stays the end");
    assert_eq!(cut.looked_ahead(), 0);
    plans
}

/// The walk that these plans came from: the entry of a segmented file stands in each of its plans.
pub fn joined(plans: &[Plan]) -> Walk {
    plans.iter().flat_map(new_items).collect()
}

/// The items of a plan that were in none before.
pub fn new_items(plan: &Plan) -> Walk {
    let repeated = plan.segment.as_ref().is_some_and(|segment| segment.index > 1);
    plan.items.to_vec().split_off(usize::from(repeated))
}
