//! Stopping and going on.

use super::{tools::*, *};
use std::cell::Cell;

/// A tree with some of everything, a mark after every member.
fn bench() -> Bench<'static> {
    let mut bench = Bench::new();
    for name in ["a/1", "a/2", "b\nc", "d/e/f", "z"] {
        bench.write(name, noise(5000));
    }
    sh(
        "ln a/1 a/3; ln a/1 d/link; ln -s x d/s; ln d/s d/t; truncate -s 1M hole; echo x >> hole; mkfifo p",
        &bench.root(),
    );
    bench.write("y", noise(3 << 20));
    bench.options.mark_bytes = 1;
    bench
}

/// The walk, with something left out and something skipped.
fn items(bench: &Bench) -> Vec<Walked> {
    let mut items = walk(&bench.root());
    items.insert(3, Walked::Excluded { rule: 1, count: 4, last: path("a/11") });
    let gone = Exception { path: path("a/12"), reason: Reason::Vanished, errno: None, detail: "Is gone".to_owned() };
    items.insert(4, Walked::Skipped(Box::new(gone)));
    items
}

fn files(bench: &Bench) -> (Vec<u8>, Vec<u8>) {
    (fs::read(bench.tar()).unwrap(), fs::read(bench.list()).unwrap())
}

#[test]
fn going_on_from_any_mark_gives_the_same_bytes() {
    let mut bench = bench();
    let items = items(&bench);
    let whole = bench.pack_items(items.clone()).unwrap().packed;
    let (tar, list) = files(&bench);
    let marks = bench.marks.take();
    // After all but the last item; the two that are no members come with the one before or after.
    assert!(marks.len() >= items.len() - 3, "{}", marks.len());
    for mark in marks {
        let position = mark.range.position.as_ref().unwrap().get().unwrap();
        assert_eq!(mark.plan_last.get().unwrap(), *items.last().unwrap().path());
        let rest = items.iter().filter(|item| *item.path() > position).cloned().collect();
        let mark: Mark = serde_json::from_str(&serde_json::to_string(&mark).unwrap()).unwrap();
        // A crash may leave any rubbish behind the mark, or nothing.
        for rubbish in [&b""[..], b"rubbish\n", &tar] {
            fs::write(bench.tar(), [&tar[..mark.tar_len as usize], rubbish].concat()).unwrap();
            fs::write(bench.list(), [&list[..mark.list_len as usize], rubbish].concat()).unwrap();
            bench.from = Some(mark.clone());
            let rest: &Vec<Walked> = &rest;
            assert_eq!(bench.pack_items(rest.clone()).unwrap().packed, whole);
            assert!(files(&bench) == (tar.clone(), list.clone()), "{position}");
        }
    }
}

#[test]
fn a_draft_that_is_not_what_its_mark_says_is_rotten() {
    let mut bench = bench();
    let items = items(&bench);
    bench.pack_items(items.clone()).unwrap();
    let (tar, list) = files(&bench);
    let mark = bench.marks.take().pop().unwrap();
    let check = |bench: &Bench, tar: &[u8], list: &[u8]| {
        fs::write(bench.tar(), tar).unwrap();
        fs::write(bench.list(), list).unwrap();
        let err = bench.pack_items(vec![items.last().unwrap().clone()]).unwrap_err();
        assert_eq!(crate::fate::Fateful::fate(&err), crate::fate::Fate::Rotten, "{err}");
        assert_eq!(files(bench), (tar.to_vec(), list.to_vec()), "what may be of use to someone is left alone");
    };
    bench.from = Some(mark.clone());
    let flip = |bytes: &[u8], at: u64| {
        let mut bytes = bytes.to_vec();
        bytes[at as usize] ^= 1;
        bytes
    };
    for at in [0, 700, mark.tar_len - 1] {
        check(&bench, &flip(&tar, at), &list);
    }
    check(&bench, &tar[..mark.tar_len as usize - 1], &list);
    check(&bench, &tar[..mark.tar_len as usize], &list[..mark.list_len as usize - 1]);
    check(&bench, &tar[..mark.tar_len as usize], &flip(&list[..mark.list_len as usize], mark.list_len - 1));
    bench.from = Some(Mark { version: 2, ..mark });
    check(&bench, &tar, &list);
}

#[test]
fn a_stop_is_heard_between_any_two_buffers() {
    let bench = bench();
    let calls = Cell::new(0);
    let mut bench = bench;
    bench.pack().unwrap();
    let (tar, list) = files(&bench);
    let mut stops = 0;
    loop {
        let (left, from) = (Cell::new(stops), None);
        bench.stop = Box::new(move || left.replace(left.get() - 1) <= 0);
        bench.from = from;
        match bench.pack() {
            Err(PackError::Stopped) => stops += 1,
            done => {
                done.unwrap();
                break;
            }
        }
        calls.set(calls.get() + 1);
    }
    // Once for every item, and for every buffer or hole besides.
    assert!(stops as usize > walk(&bench.root()).len() + 8, "{stops}");
    assert_eq!(files(&bench), (tar, list));
}

#[test]
fn a_stop_is_heard_between_any_two_members() {
    let mut bench = Bench::new();
    sh("mkdir a b c; ln -s x c/l; mkfifo c/p", &bench.root());
    let left = std::rc::Rc::new(Cell::new(5));
    let asked = left.clone();
    bench.stop = Box::new(move || asked.replace(asked.get() - 1) <= 0);
    assert!(matches!(bench.pack(), Err(PackError::Stopped)));
    left.set(6);
    bench.pack().unwrap();
}

#[test]
fn a_stop_while_the_drafts_are_checked_is_no_damage() {
    let mut bench = bench();
    let items = items(&bench);
    bench.pack_items(items.clone()).unwrap();
    bench.from = bench.marks.take().pop();
    bench.stop = Box::new(|| true);
    assert!(matches!(bench.pack_items(items), Err(PackError::Stopped)));
}

#[test]
fn marks_come_by_bytes_or_by_time_and_never_before_a_member() {
    let count = |mark_bytes, mark_every, take: usize| {
        let mut bench = bench();
        bench.options.mark_bytes = mark_bytes;
        bench.options.mark_every = mark_every;
        let items = items(&bench);
        bench.pack_items(items[..take.min(items.len())].to_vec()).unwrap();
        let marks = bench.marks.take();
        assert!(marks.iter().all(|mark| mark.range.members > 0));
        marks.len()
    };
    let long = Duration::from_secs(1);
    assert_eq!(count(1 << 40, long, 10), 0);
    assert_eq!(count(1 << 40, Duration::ZERO, 10), 9);
    assert_eq!(count(2 << 20, long, 100), 1);
    assert_eq!(count(1, long, 1), 0);
}

#[test]
fn the_format_of_marks_never_changes() {
    let text = include_str!("../../../../tests/testdata/v1/mark.json");
    let mark: Mark = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&mark).unwrap(), text.trim_end());
    assert_eq!(mark.range.first.unwrap().get().unwrap(), SourcePath::parse(b"a/\xff").unwrap());
    assert_eq!(mark.range.position.unwrap().get().unwrap(), SourcePath::root());
}

#[test]
fn a_full_disk_is_tried_again_from_the_last_mark() {
    let mut bench = bench();
    let items = items(&bench);
    let whole = bench.pack_items(items.clone()).unwrap().packed;
    bench.marks.take();
    let mount = bench.dir.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    sh("mount -t tmpfs -o size=1M none mnt", bench.dir.path());
    let (root, dir) = (bench.root(), std::mem::replace(&mut bench.dir, tempfile::tempdir_in(&mount).unwrap()));
    let err = bench.pack_items(items.clone());
    sh("mount -o remount,size=20M mnt", dir.path());
    let mark = bench.marks.take().pop().unwrap();
    let position = mark.range.position.as_ref().unwrap().get().unwrap();
    bench.from = Some(mark);
    let again = bench.pack_items(items.into_iter().filter(|item| *item.path() > position).collect());
    assert_eq!(bench.root(), root);
    drop(bench);
    sh("umount mnt", dir.path());
    let err = err.unwrap_err();
    assert_eq!(crate::fate::Fateful::fate(&err), crate::fate::Fate::Retry);
    assert!(crate::fate::Chain(&err).to_string().contains("No space left"), "{}", crate::fate::Chain(&err));
    assert_eq!(again.unwrap().packed, whole);
}
