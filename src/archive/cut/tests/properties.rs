//! What the cut promises, each on random trees and limits.

use super::*;
use std::rc::Rc;

/// A unit that fits into no piece and cannot be parted has one of its own, or one with left-out items.
fn is_absurd(plan: &Plan) -> bool {
    plan.members == 1 && plan.segment.is_none()
}

/// The numbers in the walk of a plan's items that were in none before.
fn ranges(plans: &[Plan]) -> Vec<std::ops::Range<usize>> {
    let mut at = 0;
    let range = |plan| {
        let start = at;
        at += new_items(plan).len();
        start..at
    };
    plans.iter().map(range).collect()
}

proptest! {
    // Dense little trees: a few hundred of them meet every rule.
    #[test]
    fn plans_are_those_of_the_naive_model((walk, limits) in trees()) {
        let plans: Vec<Naive> = all_plans(&walk, limits).iter().map(as_naive).collect();
        prop_assert_eq!(plans, model(&walk, &limits));
    }

    #[test]
    fn all_plans_together_are_the_walk((walk, limits) in trees()) {
        let plans = all_plans(&walk, limits);
        prop_assert_eq!(joined(&plans), walk);
        prop_assert!(plans.iter().all(|plan| plan.members > 0));
        for pair in plans.windows(2) {
            // Left-out items ride with the entry before them.
            prop_assert!(matches!(pair[1].items.first(), Some(Walked::Entry(_))));
        }
    }

    #[test]
    fn no_plan_is_larger_than_allowed((walk, limits) in trees()) {
        for plan in all_plans(&walk, limits) {
            let items = plan.items.to_vec();
            let which = entries(&items);
            prop_assert_eq!(plan.members, which.len() as u64);
            if plan.segment.is_none() {
                let size = alone(&items, which[0], which, &limits);
                prop_assert_eq!(u128::from(plan.tar_size), size.min(u128::from(u64::MAX)));
            }
            if !is_absurd(&plan) {
                prop_assert!(fits(u128::from(plan.tar_size), plan.members as usize, &limits));
            }
        }
    }

    #[test]
    fn a_directory_that_fits_is_never_split((walk, limits) in trees()) {
        let ranges = ranges(&all_plans(&walk, limits));
        for at in entries(&walk) {
            if fits_alone(&walk, at, &limits) {
                let all = subtree(&walk, at);
                prop_assert!(ranges.iter().any(|range| all.iter().all(|i| range.contains(i))), "{:?}", walk[at].path());
            }
        }
    }

    #[test]
    fn a_directory_that_does_not_fit_is_entered((walk, limits) in trees()) {
        // Then what opens a piece is never half of anything: each plan is made of whole units.
        for range in ranges(&all_plans(&walk, limits)) {
            let mut at = range.start;
            while at < range.end {
                if matches!(walk[at], Walked::Entry(_)) && fits_alone(&walk, at, &limits) {
                    at = *subtree(&walk, at).last().unwrap();
                }
                at += 1;
            }
            prop_assert_eq!(at, range.end);
        }
    }

    #[test]
    fn what_opens_a_piece_did_not_fit_into_the_one_before((walk, limits) in trees()) {
        let plans = all_plans(&walk, limits);
        let ranges = ranges(&plans);
        for (i, pair) in plans.windows(2).enumerate() {
            if pair.iter().all(|plan| plan.segment.is_none()) {
                let at = ranges[i + 1].start;
                let unit = if fits_alone(&walk, at, &limits) { subtree(&walk, at) } else { vec![at] };
                let size = u128::from(pair[0].tar_size) + sum(&walk, &unit, &limits);
                prop_assert!(!fits(size, pair[0].members as usize + unit.len(), &limits));
            }
        }
    }

    #[test]
    fn it_looks_no_further_than_one_piece((walk, limits) in trees()) {
        let read = Rc::new(Cell::new(0));
        let counter = Rc::clone(&read);
        let counted = walk.clone().into_iter().inspect(move |_| counter.set(counter.get() + 1));
        let mut cut = Cut::new(counted.map(Ok::<_, Never>), limits);
        let mut used = 0;
        while let Some(plan) = cut.next_plan().unwrap() {
            used += new_items(&plan).len();
            prop_assert_eq!(cut.looked_ahead(), read.get() - used);
            // But for the last item, which showed that there is more.
            let ahead = &walk[used..(read.get() - 1).max(used)];
            prop_assert!(fits(sum(ahead, &entries(ahead), &limits), entries(ahead).len(), &limits) || ahead.is_empty());
        }
    }

    #[test]
    fn a_pass_resumes_at_the_end_of_any_plan((walk, limits) in trees()) {
        let plans = all_plans(&walk, limits);
        for (i, range) in ranges(&plans).iter().enumerate() {
            let again = match &plans[i].segment {
                Some(done) if done.index < done.count => {
                    let at = walk.iter().position(|item| *item == Walked::Entry(done.file.clone())).unwrap();
                    let mut cut = over(&walk[at..], limits);
                    let len = plans[i + 1].segment.as_ref().unwrap().offset / u64::from(done.index);
                    cut.resume_segments(done.file.clone(), done.count, len, done.index + 1);
                    rest_of(cut)
                }
                _ => all_plans(&walk[range.end..], limits),
            };
            prop_assert_eq!(&again, &plans[i + 1..]);
        }
    }

    #[test]
    fn a_range_is_cut_again_as_it_was((walk, limits) in trees()) {
        let plans = all_plans(&walk, limits);
        for (plan, range) in plans.iter().zip(ranges(&plans)) {
            if plan.segment.is_none() {
                let mut cut = over(&walk[range.start..], limits);
                cut.stop_after(plan.last().unwrap().clone());
                prop_assert_eq!(&rest_of(cut), std::slice::from_ref(plan));

                let mut cut = over(&walk[range.start..], super::limits(0, 1));
                cut.resume_draft(plan.last().unwrap().clone());
                prop_assert_eq!(&cut.next_plan().unwrap().unwrap(), plan);
            }
        }
    }

    #[test]
    fn an_error_in_the_walk_loses_nothing((walk, limits) in trees(), breaks in prop::collection::vec(0..4_u8, 200)) {
        let mut cut = Cut::new(broken(&walk, &breaks), limits);
        let (mut plans, mut errors) = (Vec::new(), 0);
        loop {
            match cut.next_plan() {
                Ok(Some(plan)) => plans.push(plan),
                Ok(None) => break,
                Err(()) => errors += 1,
            }
        }
        prop_assert_eq!(errors, walk.iter().zip(&breaks).filter(|(_, breaks)| **breaks == 0).count());
        prop_assert_eq!(plans, all_plans(&walk, limits));
    }

    /// With new metadata or old, also after an error, and every plan is what a new cut would make of the rest.
    #[test]
    fn what_is_handed_back_is_cut_anew(
        (walk, limits) in trees(),
        breaks in prop::collection::vec(0..4_u8, 200),
        whims in prop::collection::vec((0..4_usize, 0..6_usize, 0..30_000_u64), 40),
    ) {
        let mut cut = Cut::new(broken(&walk, &breaks), limits);
        let mut whims = whims.into_iter();
        let (mut rest, mut kept) = (walk.clone(), Vec::new());
        let mut last: Option<Plan> = None;
        loop {
            let next = cut.next_plan().ok();
            // The packer hands back when it has packed, be it that the walk failed meanwhile.
            if let Some(mut plan) = last.take() {
                if next.is_none() && let Some(back) = whim(&mut plan, whims.next()) {
                    rest.splice(0..0, back.iter().cloned());
                    cut.hand_back(back.into());
                }
                kept.push(plan);
            }
            match next {
                None => {}
                Some(None) => break,
                Some(Some(mut plan)) => {
                    prop_assert!(!plan.items.is_empty());
                    if plan.segment.as_ref().is_none_or(|segment| segment.index == 1) {
                        prop_assert_eq!(&as_naive(&plan), &model(&rest, &limits)[0]);
                    }
                    rest.drain(..new_items(&plan).len());
                    match whim(&mut plan, whims.next()) {
                        Some(back) => {
                            rest.splice(0..0, back.iter().cloned());
                            cut.hand_back(back.into());
                            if !plan.items.is_empty() {
                                kept.push(plan);
                            }
                        }
                        None => last = Some(plan),
                    }
                }
            }
        }
        kept.extend(last);
        let paths = |walk: &[Walked]| walk.iter().map(|item| item.path().clone()).collect::<Vec<_>>();
        prop_assert_eq!(paths(&joined(&kept)), paths(&walk));
    }
}

/// A walk that fails once before some of its items.
fn broken(walk: &[Walked], breaks: &[u8]) -> impl Iterator<Item = Result<Walked, ()>> {
    let breaks = breaks.iter().copied().chain(std::iter::repeat(1));
    walk.iter().cloned().zip(breaks).flat_map(|(item, breaks)| {
        let error = if breaks == 0 { Some(Err(())) } else { None };
        error.into_iter().chain([Ok(item)])
    })
}

/// Takes some of the last items of a plan, after its first entry, and lets some files grow. A first segment
/// comes back whole when its file did.
fn whim(plan: &mut Plan, whim: Option<(usize, usize, u64)>) -> Option<Walk> {
    let (kind, count, growth) = whim?;
    let first = plan.items.iter().position(|item: Walked| matches!(item, Walked::Entry(_))).unwrap_or(0);
    let may_all = plan.segment.as_ref().is_some_and(|segment| segment.index == 1) && kind == 3;
    let keep = if may_all { first } else { (first + 1).max(plan.items.len().saturating_sub(count)) };
    let mut back: Walk = plan.items.split_off(keep.min(plan.items.len())).to_vec();
    for item in &mut back {
        if let Walked::Entry(entry) = item
            && entry.meta.kind == Kind::File
            && (kind > 1 || may_all)
        {
            entry.meta.size = entry.meta.size.saturating_add(growth);
        }
    }
    if kind == 0 || back.is_empty() {
        plan.items.extend(back);
        return None;
    }
    Some(back)
}
