//! Cases by name.

use super::*;

fn file(at: &str, size: u64) -> Walked {
    entry(&path(at), Kind::File, size, 0)
}

fn dir(at: &str) -> Walked {
    entry(&path(at), Kind::Dir, 0, 0)
}

fn paths(plan: &Plan) -> Vec<String> {
    plan.items.iter().map(|item| item.path().display()).collect()
}

/// One header block for everything, whatever it is called.
fn plain(max_size: u64, max_members: u64) -> Limits {
    let estimate = |entry: &Entry| {
        ASKED.set(ASKED.get() + 1);
        entry.meta.size.checked_next_multiple_of(512).unwrap_or(u64::MAX).saturating_add(512)
    };
    let ancestor = |_: &SourcePath| {
        ASKED.set(ASKED.get() + 1);
        512
    };
    Limits { max_size, max_members, estimate, ancestor }
}

#[test]
fn a_directory_does_not_hold_what_only_begins_like_it() {
    let walk = [
        dir("/"),
        dir("Photos"),
        file("Photos/x", 2000),
        dir("Photos (old)"),
        file("Photos (old)/y", 2000),
        file("Photos!", 0),
    ];
    assert!(walk.is_sorted_by_key(|item| item.path().clone()));
    // Room for the root and one of them.
    let plans = all_plans(&walk, plain(1024 + 512 + 512 + 512 + 2048, 100));
    let held: Vec<_> = plans.iter().map(paths).collect();
    assert_eq!(held, [vec!["/", "Photos", "Photos/x"], vec!["Photos (old)", "Photos (old)/y"], vec!["Photos!"]]);
}

#[test]
fn a_file_at_the_cap_stays_whole_and_one_byte_more_makes_segments() {
    let cap = 1 << 20;
    let most = cap - TAR_END - 512 - 512;
    let whole = all_plans(&[dir("/"), file("f", most)], plain(cap, 100));
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].tar_size, whole[0].segment.as_ref()), (cap, None));
    let parted = all_plans(&[dir("/"), file("f", most + 1)], plain(cap, 100));
    assert_eq!(parted.len(), 3);
    assert_eq!(parted[1].segment.as_ref().unwrap().count, 2);
}

#[test]
fn segments_cover_a_file_without_gaps() {
    for (cap, size) in [(512 << 30, (1 << 40) + 1), (8192, 300_000), (1 << 20, 1 << 33), (5 << 20, u64::MAX >> 20)] {
        let walk = [dir("/"), dir("d"), file("d/f", size), skipped(&path("d/s")), file("g", 1)];
        let limits = plain(cap, 100);
        let mut cut = over(&walk, limits);
        let mut at = 0;
        cut.next_plan().unwrap().unwrap();
        // Of a hundred thousand segments the first will do.
        for _ in 0..5000 {
            let plan = cut.next_plan().unwrap().unwrap();
            let segment = plan.segment.unwrap();
            assert_eq!((segment.offset, &segment.file), (at, the_entry(&walk[2])));
            assert!(plan.tar_size + (cap / 16).min(1 << 20) <= cap && segment.len > 0);
            at += segment.len;
            if segment.index == segment.count {
                assert_eq!(at, size);
                assert_eq!(plan.items.to_vec(), walk[2..4]);
                break;
            }
            assert_eq!(segment.len % if cap > 1 << 18 { 65536 } else { 512 }, 0);
            assert_eq!(plan.items.to_vec(), walk[2..3]);
        }
    }
}

#[test]
fn nothing_is_too_absurd_to_be_planned() {
    for (cap, members) in [(0, 0), (1, 1), (1024, 1), (3000, 2), (u64::MAX, u64::MAX)] {
        let walk = [
            dir("/"),
            file("a", u64::MAX),
            file("b", u64::MAX - 511),
            file("c", 0),
            dir("d"),
            file("d/e", u64::MAX),
            file("f", 1),
        ];
        let mut cut = over(&walk, plain(cap, members));
        let (mut steps, mut last) = (0, None);
        while let Some(plan) = cut.next_plan().unwrap() {
            last = plan.last();
            steps += 1;
            if plan.segment.as_ref().is_some_and(|segment| segment.index == 3) {
                // Four billion segments: on to the last of them.
                let at = walk.iter().position(|item| *item.path() == plan.last().unwrap()).unwrap();
                let done = plan.segment.unwrap();
                cut = over(&walk[at..], plain(cap, members));
                cut.resume_segments(done.file, done.count, done.offset / 2, done.count);
            }
        }
        assert_eq!(last, Some(path("f")), "{cap}");
        assert!(steps < 30);
    }
}

#[test]
fn segments_go_on_though_the_file_is_not_what_it_was() {
    let Walked::Entry(fixed) = file("d/f", 10_000) else { unreachable!() };
    let after = file("d/g", 0);
    let gone: Vec<Vec<Walked>> = vec![
        vec![],
        vec![file("d/f", 10_000)],
        vec![file("d/f", 3)],
        vec![skipped(&path("d/f"))],
        vec![dir("d/f"), file("d/f/x", 1)],
    ];
    for found in gone {
        let walk: Walk = found.iter().cloned().chain([skipped(&path("d/f0")), after.clone()]).collect();
        let mut cut = over(&walk, plain(8192, 100));
        cut.resume_segments(fixed.clone(), 4, 3072, 3);
        let plans = rest_of(cut);
        let made: Vec<_> = plans.iter().filter_map(|plan| plan.segment.clone()).collect();
        assert_eq!(
            made.iter().map(|s| (s.index, s.offset, s.len)).collect::<Vec<_>>(),
            [(3, 6144, 3072), (4, 9216, 784)]
        );
        assert!(made.iter().all(|segment| segment.file == fixed));
        let rest: Vec<_> = plans.iter().flat_map(new_items).collect();
        assert_eq!(rest, walk[found.len().min(1)..]);
    }
}

#[test]
fn only_a_first_segment_is_laid_out_anew() {
    let walk = [dir("/"), file("f", 20_000), skipped(&path("f0")), file("g", 1)];
    let mut cut = over(&walk, plain(8192, 100));
    cut.next_plan().unwrap().unwrap();
    let first = cut.next_plan().unwrap().unwrap();
    assert_eq!(first.segment.as_ref().unwrap().count, 4);
    cut.hand_back(vec![file("f", 40_000)].into());
    let first = cut.next_plan().unwrap().unwrap().segment.unwrap();
    assert_eq!((first.index, first.count, first.file.meta.size), (1, 8, 40_000));
    for index in 2..=8 {
        let plan = cut.next_plan().unwrap().unwrap();
        assert_eq!(plan.segment.as_ref().unwrap().index, index);
        let mut back = plan.items.clone();
        back.replace_first(file("f", 7));
        cut.hand_back(back);
        assert_eq!(cut.next_plan().unwrap().unwrap(), plan);
    }
    assert_eq!(rest_of(cut)[0].items.to_vec(), walk[3..]);
}

#[test]
fn a_first_segment_takes_back_a_file_that_is_small_now() {
    let walk = [dir("/"), file("f", 20_000), file("g", 1)];
    let mut cut = over(&walk, plain(8192, 100));
    cut.next_plan().unwrap().unwrap();
    cut.next_plan().unwrap().unwrap();
    cut.hand_back(vec![file("f", 3)].into());
    assert_eq!(rest_of(cut)[0].items.to_vec(), [file("f", 3), file("g", 1)]);
}

#[test]
fn a_resumed_draft_ends_where_it_ended() {
    let walk = [file("a", 9000), skipped(&path("b")), file("c", 9000), skipped(&path("d")), file("e", 1)];
    for (last, taken) in [("0", 0), ("a", 1), ("b", 2), ("b0", 2), ("c", 3), ("d", 4), ("e", 5), ("z", 5)] {
        let mut cut = over(&walk, plain(4096, 1));
        cut.resume_draft(path(last));
        let plan = cut.next_plan().unwrap().unwrap();
        assert_eq!((&plan.items.to_vec()[..], plan.segment.as_ref()), (&walk[..taken], None), "{last}");
        assert_eq!(plan.members, entries(&plan.items.to_vec()).len() as u64);
        assert_eq!(rest_of(cut), all_plans(&walk[taken..], plain(4096, 1)));
    }
    let mut cut = over(&walk, plain(4096, 1));
    cut.resume_draft(path("e"));
    let mut plan = cut.next_plan().unwrap().unwrap();
    cut.hand_back(plan.items.split_off(2));
    assert_eq!(rest_of(cut), all_plans(&walk[2..], plain(4096, 1)));
}

#[test]
fn left_out_items_without_any_entry_are_still_told() {
    let walk = [skipped(&path("a")), excluded(&path("b"))];
    let plans = all_plans(&walk, plain(0, 0));
    assert_eq!(plans, [Plan { items: walk.to_vec().into(), tar_size: 1536, members: 0, segment: None }]);
    assert_eq!(all_plans(&[], plain(0, 0)), []);
}

#[test]
fn a_million_files_in_one_directory_are_looked_at_once() {
    let names = (0..1_000_000).map(|i| Ok::<_, Never>(file(&format!("d/{i:07}"), 100)));
    for (cap, members, pieces) in [(u64::MAX, u64::MAX, 1), (1 << 40, 1000, 1001), (1 << 20, u64::MAX, 979)] {
        ASKED.set(0);
        let mut cut = Cut::new([Ok(dir("/")), Ok(dir("d"))].into_iter().chain(names.clone()), plain(cap, members));
        let (mut total, mut count) = (0, 0);
        while let Some(plan) = cut.next_plan().unwrap() {
            total += plan.members;
            count += 1;
        }
        assert_eq!((total, count), (1_000_002, pieces));
        // Once each, and the two directories as ancestors.
        assert_eq!(ASKED.get(), 1_000_004);
    }
}

#[test]
fn depth_costs_nothing() {
    let mut walk = vec![dir("/")];
    for _ in 1..2000 {
        let above = walk.last().unwrap().path().clone();
        walk.push(entry(&above.join(b"d"), Kind::Dir, 0, 0));
    }
    for (cap, members) in [(u64::MAX, u64::MAX), (u64::MAX, 7), (2 << 20, 1), (100_000, 1000), (0, 1)] {
        ASKED.set(0);
        let plans = all_plans(&walk, plain(cap, members));
        assert_eq!(joined(&plans), walk);
        assert_eq!(ASKED.get(), 2 * 2000, "once as a member and once as an ancestor");
    }
}

#[test]
fn a_directory_that_never_came_confuses_nothing() {
    // As when segments of `a/b` go on, and `a/b` is a directory by now.
    let walk = [dir("/"), dir("a"), file("a/b/c/x", 600), file("a/b/y", 600), file("a/d", 9000), file("e", 1)];
    for cap in [2048, 4096, 8192, 14_000, 20_000] {
        let plans: Vec<Naive> = all_plans(&walk, plain(cap, 100)).iter().map(as_naive).collect();
        assert_eq!(plans, model(&walk, &plain(cap, 100)), "{cap}");
    }
}

#[test]
fn the_end_of_a_walk_is_final() {
    let mut items = [Some(dir("/")), None, Some(file("a", 1))].into_iter();
    let mut cut = Cut::new(std::iter::from_fn(|| items.next().flatten().map(Ok::<_, Never>)), plain(9000, 9));
    assert_eq!(cut.next_plan().unwrap().unwrap().members, 1);
    assert_eq!(cut.next_plan(), Ok(None));
}

#[test]
fn a_file_that_did_not_fit_whatever_its_estimate_says_becomes_segments() {
    let walk = [dir("/"), file("a", 4096), file("b", 1)];
    let limits = plain(20_000, 100);
    let mut cut = over(&walk, limits);
    let mut plan = cut.next_plan().unwrap().unwrap();
    assert_eq!(plan.members, 3);
    cut.hand_back(plan.items.split_off(1));
    cut.force_segments(path("a"));
    let segments: Vec<_> = [(); 2].map(|()| cut.next_plan().unwrap().unwrap().segment.unwrap()).into();
    assert_eq!(
        segments.iter().map(|s| (s.index, s.count, s.offset, s.len)).collect::<Vec<_>>(),
        [(1, 2, 0, 2048), (2, 2, 2048, 2048)]
    );
    assert_eq!(cut.next_plan().unwrap().unwrap().items.to_vec(), [file("b", 1)]);
    assert_eq!(cut.next_plan(), Ok(None));
}
