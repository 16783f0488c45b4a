//! Marks in the data of a member: a piece of one large file is not begun again either.

use super::{tools::*, *};
use crate::archive::{cut::SegmentPlan, pack::packed::MemberMark};
use std::{cell::Cell, rc::Rc};

const MIB: usize = 1 << 20;

fn bench() -> Bench<'static> {
    let mut bench = Bench::new();
    bench.write("a", noise(100));
    bench.write("large", noise(5 * MIB));
    bench.write("z", noise(1000));
    bench.options.mark_bytes = 1;
    bench
}

fn inside(marks: &[Mark]) -> Vec<&MemberMark> {
    marks.iter().filter_map(|mark| mark.member.as_ref()).filter(|member| member.copied.is_some()).collect()
}

/// Puts tar and list to what a crash leaves of them behind a mark, and lets the next packing go on from there.
fn crash(bench: &mut Bench, mark: &Mark) {
    let cut = |path: PathBuf, len: u64| {
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(len as usize);
        fs::write(&path, [&bytes, &b"rubbish"[..]].concat()).unwrap();
    };
    cut(bench.tar(), mark.tar_len);
    cut(bench.list(), mark.list_len);
    bench.from = Some(serde_json::from_str(&serde_json::to_string(mark).unwrap()).unwrap());
}

/// What follows the last item that the mark has consumed.
fn rest(bench: &Bench, mark: &Mark) -> Vec<Walked> {
    let position = mark.range.position.as_ref().map(|position| position.get().unwrap());
    walk(&bench.root()).into_iter().filter(|item| position.as_ref().is_none_or(|at| item.path() > at)).collect()
}

/// Stops at so many looks, and gives the last mark before that.
fn stop_at(bench: &mut Bench, looks: usize) -> Mark {
    let left = Cell::new(looks);
    bench.stop = Box::new(move || left.replace(left.get().saturating_sub(1)) == 0);
    assert!(matches!(bench.pack(), Err(PackError::Stopped)));
    bench.stop = Box::new(|| false);
    bench.marks.take().pop().unwrap()
}

#[test]
fn a_sparse_file_goes_on_from_any_mark_with_the_same_bytes() {
    let mut bench = Bench::new();
    bench.options.mark_bytes = 1;
    let at = bench.write("hole", b"");
    sh("truncate -s 40M hole", &bench.root());
    let file = OpenOptions::new().write(true).open(&at).unwrap();
    for offset in [0, 9 * MIB, 20 * MIB] {
        file.write_all_at(&noise(2 * MIB + 100), offset as u64).unwrap();
    }
    let whole = bench.pack().unwrap().packed;
    let tar = fs::read(bench.tar()).unwrap();
    let marks = bench.marks.take();
    assert!(inside(&marks).len() > 5, "{}", marks.len());
    for mark in &marks {
        crash(&mut bench, mark);
        let rest = rest(&bench, mark);
        assert_eq!(bench.pack_items(rest).unwrap().packed, whole);
        assert!(fs::read(bench.tar()).unwrap() == tar);
    }
}

#[test]
fn what_was_copied_is_not_read_again() {
    let mut bench = bench();
    bench.pack().unwrap();
    let marks = bench.marks.take();
    let mark = marks.iter().rfind(|mark| mark.member.is_some()).unwrap();
    let copied = mark.member.as_ref().unwrap().copied.as_ref().unwrap().len;
    assert!(copied >= 4 * MIB as u64, "{copied}");
    let first = Rc::new(Cell::new(u64::MAX));
    let seen = first.clone();
    bench.read_at = Box::new(move |file, buffer, at| {
        if file.metadata()?.len() == 5 * MIB as u64 {
            seen.set(seen.get().min(at));
        }
        file.read_at(buffer, at)
    });
    let mut mark = mark.clone();
    // The device may have another number after a restart.
    mark.member.as_mut().unwrap().file.meta.dev += 1;
    crash(&mut bench, &mark);
    let rest = rest(&bench, &mark);
    bench.pack_items(rest).unwrap();
    assert_eq!(first.get(), copied);
    assert_eq!(bench.member("large").sha256, Some(sha256(&noise(5 * MIB))));
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_again() {
    let mut bench = bench();
    let mark = stop_at(&mut bench, 6);
    assert!(mark.member.as_ref().unwrap().copied.is_some());
    let new: Vec<u8> = noise(5 * MIB).iter().map(|byte| byte ^ 1).collect();
    bench.write("large", &new);
    crash(&mut bench, &mark);
    let rest = rest(&bench, &mark);
    let packed = bench.pack_items(rest).unwrap().packed;
    assert_eq!((packed.range.counts.clean, packed.range.counts.changed), (4, 0));
    assert_eq!((bench.member("large").sha256, bench.member("large").note), (Some(sha256(&new)), None));
    unpack(&bench.tar(), &bench.dir.path().join("restored"));
    assert_same(&snapshot(&bench.root()), &snapshot(&bench.dir.path().join("restored")));
}

#[test]
fn a_file_that_is_gone_meanwhile_leaves_nothing() {
    for script in ["rm large", "rm large; mkdir large; echo x > large/x", "rm large; mkfifo large", "rm large z"] {
        let mut bench = bench();
        let mark = stop_at(&mut bench, 6);
        sh(script, &bench.root());
        crash(&mut bench, &mark);
        let rest = rest(&bench, &mark);
        let packed = bench.pack_items(rest).unwrap().packed;
        assert!(packed.range.exceptions.is_empty(), "{script}");
        let to = bench.dir.path().join("restored");
        unpack(&bench.tar(), &to);
        let facts = "find . -printf '%P %y\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";
        assert_same(&sh(facts, &bench.root()), &sh(facts, &to));
    }
}

#[test]
fn a_file_that_cannot_be_opened_any_more_is_told_and_leaves_nothing() {
    let mut bench = bench();
    let mark = stop_at(&mut bench, 6);
    crash(&mut bench, &mark);
    bench.content.before_open = Some(Box::new(|entry| match entry.path.as_bytes() {
        b"large" => Err(OpenError::from(io::Error::from_raw_os_error(13))),
        _ => Ok(()),
    }));
    let rest = rest(&bench, &mark);
    let packed = bench.pack_items(rest).unwrap().packed;
    assert_eq!(exceptions(&packed), [(Reason::Denied, "large".to_owned())]);
    let names: Vec<_> = bench.members().into_iter().map(|member| member.path.unwrap()).collect();
    assert_eq!(names, ["./", "a", "z"]);
    unpack(&bench.tar(), &bench.dir.path().join("restored"));
}

#[test]
fn a_file_that_changes_before_every_restart_ends_too() {
    let mut bench = bench();
    let at = bench.root().join("large");
    let (mut restarts, mut mark) = (0, stop_at(&mut bench, 4));
    let packed = loop {
        OpenOptions::new().write(true).open(&at).unwrap().write_all_at(&[restarts as u8], 0).unwrap();
        crash(&mut bench, &mark);
        let marks = Rc::new(Cell::new(0));
        let count = marks.clone();
        bench.on_mark = Some(Box::new(move |_| count.set(count.get() + 1)));
        bench.stop = Box::new(move || marks.get() >= 2);
        let rest = rest(&bench, &mark);
        match bench.pack_items(rest) {
            Err(PackError::Stopped) => mark = bench.marks.take().pop().unwrap(),
            done => break done.unwrap().packed,
        }
        restarts += 1;
        assert!(restarts < 20, "it is begun again for ever");
    };
    assert!(restarts >= bench.options.retries as usize, "{restarts}");
    assert_eq!((packed.range.counts.clean, packed.range.counts.changed), (3, 1));
    assert_eq!(bench.member("large").note.as_deref(), Some("changed"));
}

#[test]
fn at_any_moment_the_last_mark_is_true() {
    let mut bench = bench();
    bench.options.retries = 2;
    let (tar, large) = (bench.tar(), bench.root().join("large"));
    let marks = Rc::new(RefCell::new(Vec::<Mark>::new()));
    let (told, reads) = (marks.clone(), Rc::new(Cell::new(0)));
    let count = reads.clone();
    // The file changes under every read, so it is taken back from behind marks.
    bench.read_at = Box::new(move |file, buffer, at| {
        if let Some(mark) = told.borrow().last() {
            let bytes = fs::read(&tar).unwrap();
            assert!(bytes.len() as u64 >= mark.tar_len, "{} < {}", bytes.len(), mark.tar_len);
            assert_eq!(sha256(&bytes[..mark.tar_len as usize]), mark.tar_sha256);
            count.set(count.get() + 1);
        }
        if file.metadata()?.len() == 5 * MIB as u64 {
            OpenOptions::new().write(true).open(&large)?.write_all_at(&at.to_le_bytes(), 0)?;
        }
        file.read_at(buffer, at)
    });
    bench.on_mark = Some(Box::new(move |mark| marks.borrow_mut().push(mark.clone())));
    let packed = bench.pack().unwrap().packed;
    assert_eq!(packed.range.counts.changed, 1);
    assert!(reads.get() > 15, "{}", reads.get());
    let marks = bench.marks.take();
    let begun_again = marks.iter().filter(|mark| mark.member.as_ref().is_some_and(|member| member.copied.is_none()));
    assert_eq!(begun_again.count(), 2);
}

#[test]
fn what_was_lost_before_a_mark_stays_told() {
    let mut bench = bench();
    bench.options.retries = 0;
    bench.read_at = Box::new(|file, buffer, at| {
        let is_bad = file.metadata()?.len() == 5 * MIB as u64 && at < 12288 && at + buffer.len() as u64 > 8192;
        if is_bad { Err(io::Error::from_raw_os_error(5)) } else { file.read_at(buffer, at) }
    });
    let whole = bench.pack().unwrap().packed;
    let marks = bench.marks.take();
    assert_eq!(exceptions(&whole), [(Reason::Damaged, "large".to_owned())]);
    let marks: Vec<&Mark> = marks.iter().filter(|mark| mark.member.is_some()).collect();
    assert!(marks.len() > 3, "{}", marks.len());
    for mark in marks {
        crash(&mut bench, mark);
        let rest = rest(&bench, mark);
        assert_eq!(bench.pack_items(rest).unwrap().packed, whole);
    }
}

/// The second of three segments, its chain, and the plan for it.
fn second_segment(bench: &mut Bench) -> (SegmentPlan, Packed) {
    let file = Entry { path: path("large"), meta: lstat(&bench.root().join("large")).unwrap() };
    let len = 2 * MIB as u64;
    let plan = |index: u32| SegmentPlan {
        index,
        count: 3,
        offset: u64::from(index - 1) * len,
        len: len.min(5 * MIB as u64 - u64::from(index - 1) * len),
        file: file.clone(),
    };
    let first =
        bench.pack_plan(Plan { items: vec![].into(), tar_size: 0, members: 1, segment: Some(plan(1)) }).unwrap();
    bench.chain = first.packed.chain;
    bench.marks.take();
    let second =
        bench.pack_plan(Plan { items: vec![].into(), tar_size: 0, members: 1, segment: Some(plan(2)) }).unwrap();
    (plan(2), second.packed)
}

#[test]
fn a_segment_goes_on_from_any_mark_with_the_same_bytes_also_after_another_mount() {
    let mut bench = bench();
    let (plan, whole) = second_segment(&mut bench);
    let tar = fs::read(bench.tar()).unwrap();
    let marks = bench.marks.take();
    assert!(!marks.is_empty() && marks.iter().all(|mark| mark.member.as_ref().unwrap().segment == whole.segment));
    for mark in marks {
        let mut mark = mark.clone();
        crash(&mut bench, &mark);
        let mut plan = plan.clone();
        plan.file.meta.dev += 1;
        mark.member.as_mut().unwrap().file.meta.dev += 1;
        bench.from = Some(mark);
        let again =
            bench.pack_plan(Plan { items: vec![].into(), tar_size: 0, members: 1, segment: Some(plan) }).unwrap();
        assert_eq!(again.packed, whole);
        assert!(fs::read(bench.tar()).unwrap() == tar);
    }
}

#[test]
fn a_segment_whose_file_is_gone_meanwhile_keeps_what_was_read() {
    let mut bench = bench();
    let (plan, _) = second_segment(&mut bench);
    let mark = bench.marks.take().pop().unwrap();
    let copied = mark.member.as_ref().unwrap().copied.as_ref().unwrap().len;
    crash(&mut bench, &mark);
    sh("rm large", &bench.root());
    let packed =
        bench.pack_plan(Plan { items: vec![].into(), tar_size: 0, members: 1, segment: Some(plan) }).unwrap().packed;
    assert_eq!(exceptions(&packed), [(Reason::Damaged, "large".to_owned())]);
    let mut wanted = noise(5 * MIB)[2 * MIB..][..copied as usize].to_vec();
    wanted.resize(2 * MIB, 0);
    assert_eq!(bench.members().pop().unwrap().sha256, Some(sha256(&wanted)));
}

#[test]
fn the_format_of_marks_inside_a_member_never_changes() {
    let text = include_str!("../../../../tests/testdata/v1/mark-inside.json");
    let mark: Mark = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&mark).unwrap(), text.trim_end());
    let copied = mark.member.unwrap().copied.unwrap();
    assert_eq!(hex(copied.sha256_state.hasher().unwrap()), sha256(b"content"));
}

#[test]
fn a_segment_that_could_not_be_opened_before_a_restart_is_never_told_as_clean() {
    let mut bench = bench();
    let (plan, _) = second_segment(&mut bench);
    bench.marks.take();
    bench.from = None;
    let denied = Rc::new(Cell::new(true));
    let is_denied = denied.clone();
    bench.content.before_open =
        Some(Box::new(
            move |_| if is_denied.get() { Err(OpenError::from(io::Error::from_raw_os_error(13))) } else { Ok(()) },
        ));
    let segment =
        |plan: &SegmentPlan| Plan { items: vec![].into(), tar_size: 0, members: 1, segment: Some(plan.clone()) };
    let zeros = bench.pack_plan(segment(&plan)).unwrap().packed;
    assert_eq!(exceptions(&zeros), [(Reason::Damaged, "large".to_owned())]);
    let marks = bench.marks.take();
    denied.set(false);
    for mark in &marks {
        crash(&mut bench, mark);
        let packed = bench.pack_plan(segment(&plan)).unwrap().packed;
        let wanted = sha256(&noise(5 * MIB)[2 * MIB..4 * MIB]);
        let member = bench.members().pop().unwrap();
        assert!(
            member.sha256 == Some(wanted) || member.has_note("damaged"),
            "{:?} {:?}",
            member,
            packed.range.exceptions
        );
    }
}

#[test]
fn what_goes_on_never_takes_more_than_a_piece_may_have() {
    let mut bench = bench();
    let mark = stop_at(&mut bench, 6);
    assert!(mark.member.as_ref().unwrap().copied.is_some());
    crash(&mut bench, &mark);
    bench.options.max_size = 4 * MIB as u64;
    let rest = rest(&bench, &mark);
    let outcome = bench.pack_items(rest).unwrap();
    assert!(outcome.packed.tar_size <= bench.options.max_size, "{}", outcome.packed.tar_size);
    assert_eq!(outcome.handed_back.first().unwrap().path(), &path("large"));
}

#[test]
fn what_failed_for_a_while_in_a_segment_is_read_again_after_a_restart() {
    let mut bench = bench();
    let (plan, whole) = second_segment(&mut bench);
    bench.marks.take();
    let segment =
        |plan: &SegmentPlan| Plan { items: vec![].into(), tar_size: 0, members: 1, segment: Some(plan.clone()) };
    let (opened, is_bad) = (Cell::new(0), Rc::new(Cell::new(true)));
    let (bad, bad_too) = (is_bad.clone(), is_bad.clone());
    bench.content.before_open = Some(Box::new(move |_| match opened.replace(opened.get() + 1) {
        1.. if bad.get() => Err(OpenError::from(io::Error::from_raw_os_error(5))),
        _ => Ok(()),
    }));
    bench.read_at = Box::new(move |file, buffer, at| match at >= 3 * MIB as u64 && bad_too.get() {
        true => Err(io::Error::from_raw_os_error(5)),
        false => file.read_at(buffer, at),
    });
    let packed = bench.pack_plan(segment(&plan)).unwrap().packed;
    assert_eq!(exceptions(&packed), [(Reason::Damaged, "large".to_owned())]);
    is_bad.set(false);
    let marks = bench.marks.take();
    let mark = marks.last().unwrap();
    assert!(mark.member.as_ref().unwrap().copied.as_ref().unwrap().lost > 0);
    crash(&mut bench, mark);
    assert_eq!(bench.pack_plan(segment(&plan)).unwrap().packed, whole);
}
