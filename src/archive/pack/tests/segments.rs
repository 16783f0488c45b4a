//! A file larger than a piece, in pieces of its own.

use super::{tools::*, *};
use crate::archive::cut::SegmentPlan;

const LEN: u64 = 1_000_000;

/// Packs all segments of `big/F`, with a piece and a place to unpack each into; `between` is called before each.
fn segments(
    bench: &mut Bench,
    has_chain: bool,
    listed: bool,
    between: impl Fn(u32),
) -> (Vec<Packed>, Vec<Member>, PathBuf) {
    let file = Entry { path: path("big/F"), meta: lstat(&bench.root().join("big/F")).unwrap() };
    let count = file.meta.size.div_ceil(LEN) as u32;
    let to = bench.dir.path().join("restored");
    let (mut all, mut listing) = (Vec::new(), Vec::new());
    bench.chain = None;
    for index in 1..=count {
        between(index);
        let offset = u64::from(index - 1) * LEN;
        let len = LEN.min(file.meta.size - offset);
        let items = if listed { vec![Walked::Entry(file.clone())] } else { vec![] };
        let segment = Some(SegmentPlan { index, count, offset, len, file: file.clone() });
        let packed = bench.pack_plan(Plan { items: items.into(), tar_size: 0, members: 1, segment }).unwrap().packed;
        // What a restart would find in the record.
        let packed: Packed = serde_json::from_str(&serde_json::to_string(&packed).unwrap()).unwrap();
        bench.chain = packed.chain.clone().filter(|_| has_chain);
        unpack(&bench.tar(), &to);
        listing.push(bench.members().pop().unwrap());
        assert_eq!(packed.segment, listing.last().unwrap().segment);
        assert_eq!(packed.range.position.as_ref().unwrap().get().unwrap(), file.path);
        all.push(packed);
    }
    (all, listing, to)
}

fn bench(bytes: &[u8]) -> Bench<'static> {
    let bench = Bench::new();
    bench.write("big/F", bytes);
    bench
}

fn joined(to: &Path) -> Vec<u8> {
    sh("cat big/F/* > joined", to);
    fs::read(to.join("joined")).unwrap()
}

#[test]
fn cat_joins_the_segments() {
    for (listed, len) in [(false, 3_500_000), (true, 3_000_000)] {
        let bytes = noise(len);
        let mut bench = bench(&bytes);
        sh("chmod 640 big/F; chown 5:6 big/F; setfattr -n user.x -v y big/F; touch -d @77.25 big/F", &bench.root());
        let (all, listing, to) = segments(&mut bench, true, listed, |_| {});
        assert!(joined(&to) == bytes);
        let (last, earlier) = all.split_last().unwrap();
        assert!(earlier.iter().all(|packed| packed.range.counts.seen == 0 && packed.range.counts.clean == 0));
        assert!(earlier.iter().all(|packed| packed.range.members == 1 && packed.chain.is_some()));
        assert_eq!((last.range.counts.seen, last.range.counts.clean), (1, 1));
        assert!(last.chain.is_none());
        for (at, member) in listing.iter().enumerate() {
            assert_eq!(member.path, Some(format!("big/F/{:06}", at + 1)));
            assert_eq!((member.mode.as_str(), member.uid, member.gid), ("0640", 5, 6));
            assert_eq!(member.source_path(), Some(path("big/F")));
            let part = &bytes[at * LEN as usize..bytes.len().min((at + 1) * LEN as usize)];
            assert_eq!((member.size, member.sha256.clone()), (part.len() as u64, Some(sha256(part))));
            assert_eq!(member.file_sha256, (at + 1 == listing.len()).then(|| sha256(&bytes)));
        }
        let facts = "stat -c '%a %u %g %.9Y' big/F/*; getfattr --only-values -n user.x big/F/* | wc -c";
        assert_eq!(sh(facts, &to), "640 5 6 77.250000000\n".repeat(listing.len()) + &format!("{}\n", listing.len()));
    }
}

#[test]
fn without_the_chain_only_the_hash_of_the_whole_is_missing() {
    let bytes = noise(2_500_000);
    let mut bench = bench(&bytes);
    let (all, listing, to) = segments(&mut bench, false, true, |_| {});
    assert!(joined(&to) == bytes);
    assert!(listing.iter().all(|member| member.file_sha256.is_none() && member.note.is_none()));
    assert_eq!(all[2].range.counts.clean, 1);
}

#[test]
fn holes_of_a_segmented_file_take_no_room() {
    let mut bench = bench(b"");
    sh("truncate -s 4M big/F; printf middle | dd of=big/F bs=1 seek=1999998 conv=notrunc status=none", &bench.root());
    let bytes = fs::read(bench.root().join("big/F")).unwrap();
    let (all, listing, to) = segments(&mut bench, true, true, |_| {});
    assert!(joined(&to) == bytes);
    assert!(all.iter().all(|packed| packed.tar_size < 20_000));
    assert_eq!(listing.last().unwrap().file_sha256, Some(sha256(&bytes)));
}

#[test]
fn a_file_that_changes_between_segments_is_changed_from_there_on() {
    let bytes = noise(3_500_000);
    let mut bench = bench(&bytes);
    let at = bench.root().join("big/F");
    let (all, listing, to) = segments(&mut bench, true, true, |index| {
        if index == 2 {
            OpenOptions::new().write(true).open(&at).unwrap().write_all_at(b"changed", 3_400_000).unwrap();
        }
    });
    assert_eq!(joined(&to), fs::read(bench.root().join("big/F")).unwrap());
    let notes: Vec<_> = listing.iter().map(|member| member.note.as_deref()).collect();
    assert_eq!(notes, [None, Some("changed"), Some("changed"), Some("changed")]);
    assert_eq!((all[3].range.counts.changed, all[3].range.counts.clean), (1, 0));
    assert_eq!(exceptions(&all[1]), [(Reason::Changed, "big/F".to_owned())]);
}

#[test]
fn a_file_that_is_gone_or_short_leaves_whole_segments_of_zeros() {
    for (script, kept) in
        [("rm big/F", 1_000_000), ("rm big/F; mkfifo big/F", 1_000_000), ("truncate -s 1500000 big/F", 1_500_000)]
    {
        let bytes = noise(3_500_000);
        let mut bench = bench(&bytes);
        let root = bench.root();
        let (all, listing, to) = segments(&mut bench, true, true, |index| {
            if index == 2 {
                sh(script, &root);
            }
        });
        let mut wanted = bytes[..kept].to_vec();
        wanted.resize(bytes.len(), 0);
        assert!(joined(&to) == wanted, "{script}");
        assert!(all[2].tar_size < 20_000 || !script.starts_with("rm"), "what is not there takes no room");
        assert!(listing[1..].iter().all(|member| member.note.as_deref() == Some("damaged")), "{script}");
        assert_eq!(exceptions(&all[3]), [(Reason::Damaged, "big/F".to_owned())]);
        assert_eq!((all[3].range.counts.changed, all[3].range.counts.clean), (1, 0));
        assert_eq!(listing[3].file_sha256, Some(sha256(&wanted)));
    }
}

#[test]
fn want_of_descriptors_is_never_told_of_a_segment() {
    let mut bench = bench(&noise(2_500_000));
    // The second try to open it, after a read that failed, as well as the first.
    for which in [1, 2] {
        let opens = std::cell::Cell::new(0);
        bench.read_at = Box::new(|_, _, _| Err(io::Error::from_raw_os_error(5)));
        bench.content.before_open = Some(Box::new(move |_| {
            opens.set(opens.get() + 1);
            if opens.get() == which { Err(OpenError::from(io::Error::from_raw_os_error(24))) } else { Ok(()) }
        }));
        let file = Entry { path: path("big/F"), meta: lstat(&bench.root().join("big/F")).unwrap() };
        let segment = Some(SegmentPlan { index: 1, count: 3, offset: 0, len: LEN, file });
        let plan = Plan { items: vec![].into(), tar_size: 0, members: 1, segment };
        assert!(matches!(bench.pack_plan(plan), Err(PackError::Exhausted(_))), "{which}");
    }
}

#[test]
fn damage_of_one_segment_is_damage_of_the_file() {
    let mut bench = bench(&noise(2_500_000));
    bench.read_at = Box::new(
        |file, buffer, at| {
            if at < 5000 { Err(io::Error::from_raw_os_error(5)) } else { file.read_at(buffer, at) }
        },
    );
    let (all, listing, _) = segments(&mut bench, true, true, |_| {});
    let notes: Vec<_> = listing.iter().map(|member| member.note.as_deref()).collect();
    assert_eq!(notes, [Some("damaged"), None, Some("damaged")]);
    assert_eq!((all[2].range.counts.changed, all[2].range.exceptions.len()), (1, 0));
}

#[test]
fn a_read_of_a_segment_that_fails_is_tried_again() {
    let bytes = noise(2_500_000);
    let mut bench = bench(&bytes);
    let calls = std::cell::Cell::new(0);
    bench.read_at = Box::new(move |file, buffer, at| {
        calls.set(calls.get() + 1);
        if calls.get() % 4 != 0 { Err(io::Error::from_raw_os_error(5)) } else { file.read_at(buffer, at) }
    });
    let (_, listing, to) = segments(&mut bench, true, true, |_| {});
    assert!(joined(&to) == bytes && listing.iter().all(|member| member.note.is_none()));
    assert_eq!(listing[2].file_sha256, Some(sha256(&bytes)));
}

#[test]
fn xattrs_that_do_not_fit_stay_out_of_a_segment_and_that_is_told_with_the_last() {
    let bytes = noise(1_500_000);
    let mut bench = bench(&bytes);
    sh("setfattr -n user.x -v 0x$(printf '00%.0s' {1..3000}) big/F", &bench.root());
    let plain =
        Entry { path: path("big/F/000001"), meta: Meta { size: LEN, ..lstat(&bench.root().join("big/F")).unwrap() } };
    let above = crate::archive::header::ancestor(&SourcePath::root()) + crate::archive::header::ancestor(&path("big"));
    bench.options.max_size = above + crate::archive::header::estimate(&plain) + END_LEN;
    let (all, listing, to) = segments(&mut bench, true, true, |_| {});
    assert!(joined(&to) == bytes && all.iter().all(|packed| packed.tar_size <= bench.options.max_size));
    assert_eq!(listing[0].xattr_sha256, None);
    assert!(listing[1].xattr_sha256.is_some() && all.iter().all(|packed| packed.range.exceptions.is_empty()));
    sh("truncate -s 2000000 big/F", &bench.root());
    let (all, _, _) = segments(&mut bench, true, true, |_| {});
    assert_eq!(exceptions(&all[1]), [(Reason::Metadata, "big/F".to_owned())]);
}
