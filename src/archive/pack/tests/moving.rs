//! Files that do not hold still, or cannot be read. Members behind them are never harmed.

use super::{tools::*, *};
use std::{cell::Cell, process::Command, rc::Rc};

const EIO: i32 = 5;

/// A bench with the file `b` of these bytes between two others.
fn bench(bytes: &[u8]) -> Bench<'static> {
    let bench = Bench::new();
    bench.write("a", "first");
    bench.write("b", bytes);
    bench.write("c", "last");
    bench
}

/// Calls `act` before the n-th read (from 1) of a file of this inode.
fn on_read(bench: &mut Bench, act: impl Fn(usize) -> Option<io::Result<usize>> + 'static) {
    let ino = fs::metadata(bench.root().join("b")).unwrap().ino();
    let calls = Cell::new(0);
    bench.read_at = Box::new(move |file, buffer, at| {
        if file.metadata().unwrap().ino() == ino {
            calls.set(calls.get() + 1);
            if let Some(done) = act(calls.get()) {
                return done;
            }
        }
        file.read_at(buffer, at)
    });
}

/// Packs, and checks that every reader finds all members and the last one is whole.
fn pack(bench: &Bench, count: usize) -> Packed {
    let packed = bench.pack().unwrap().packed;
    assert_eq!(python_names(&bench.tar()).len(), count);
    assert_eq!(bsdtar_count(&bench.tar()), count);
    let to = tempfile::tempdir().unwrap();
    unpack(&bench.tar(), to.path());
    assert_eq!(fs::read(to.path().join("c")).unwrap(), b"last");
    for member in bench.members().iter().filter(|member| member.r#type == "file") {
        let bytes = fs::read(to.path().join(member.path.as_ref().unwrap())).unwrap();
        assert_eq!(member.sha256, Some(sha256(&bytes)));
    }
    packed
}

fn append(at: &Path, bytes: &[u8]) {
    io::Write::write_all(&mut OpenOptions::new().append(true).open(at).unwrap(), bytes).unwrap();
}

/// What is recorded of `b`: its exceptions, its notes, its size.
fn facts(bench: &Bench, packed: &Packed) -> (Vec<(Reason, String)>, Option<String>, u64) {
    let member = bench.member("b");
    (exceptions(packed), member.note, member.size)
}

#[test]
fn a_file_that_changes_once_is_read_again_and_clean() {
    let mut bench = bench(&noise(3 << 20));
    let at = bench.root().join("b");
    on_read(&mut bench, move |call| {
        if call == 2 {
            append(&at, b"more");
        }
        None
    });
    let packed = pack(&bench, 4);
    assert_eq!(facts(&bench, &packed), (vec![], None, (3 << 20) + 4));
    assert_eq!(packed.range.counts.clean, 4);
    // Nothing is left of the first try.
    let again = bench.pack().unwrap().packed;
    assert_eq!(again.tar_sha256, packed.tar_sha256);
}

#[test]
fn a_file_that_grows_all_the_time_is_cut_at_its_size() {
    let mut bench = bench(b"begin");
    let at = bench.root().join("b");
    on_read(&mut bench, move |_| {
        append(&at, b"+");
        None
    });
    let packed = pack(&bench, 4);
    // Three retries, each with what was appended before it.
    let wanted = (vec![(Reason::Grew, "b".to_owned())], Some("changed".to_owned()), 8);
    assert_eq!(facts(&bench, &packed), wanted);
    assert_eq!((packed.range.counts.clean, packed.range.counts.changed), (3, 1));
}

#[test]
fn a_file_that_is_rewritten_all_the_time_stays_as_changed() {
    let mut bench = bench(b"version 0");
    let at = bench.root().join("b");
    on_read(&mut bench, move |call| {
        fs::write(&at, format!("version {call}")).unwrap();
        None
    });
    let packed = pack(&bench, 4);
    let wanted = (vec![(Reason::Changed, "b".to_owned())], Some("changed".to_owned()), 9);
    assert_eq!(facts(&bench, &packed), wanted);
    assert_eq!(bench.member("b").sha256, Some(sha256(b"version 4")));
}

#[test]
fn a_file_that_shrinks_all_the_time_is_padded() {
    let mut bench = bench(&noise(4 << 20));
    bench.options.retries = 1;
    let at = bench.root().join("b");
    on_read(&mut bench, move |call| {
        let len = [3 << 20, 3 << 20, 3 << 20, 3 << 20, 3 << 20, 1_500_000].get(call - 1).copied();
        if let Some(len) = len {
            OpenOptions::new().write(true).open(&at).unwrap().set_len(len).unwrap();
        }
        None
    });
    let packed = pack(&bench, 4);
    let wanted = (vec![(Reason::Damaged, "b".to_owned())], Some("damaged".to_owned()), 3 << 20);
    assert_eq!(facts(&bench, &packed), wanted);
    let mut kept = noise(1_500_000);
    kept.resize(3 << 20, 0);
    assert_eq!(bench.member("b").sha256, Some(sha256(&kept)));
    let line = &packed.range.exceptions[0];
    assert!(line.errno.is_none() && line.detail.contains("1500000"), "{}", line.detail);
}

#[test]
fn a_read_that_fails_once_is_tried_again() {
    let mut bench = bench(&noise(3 << 20));
    on_read(&mut bench, |call| (call == 2).then(|| Err(io::Error::from_raw_os_error(EIO))));
    let packed = pack(&bench, 4);
    assert_eq!(facts(&bench, &packed), (vec![], None, 3 << 20));
}

#[test]
fn a_try_ends_with_the_first_failure() {
    let mut bench = bench(&noise(3 << 20));
    let reads = Rc::new(Cell::new(0));
    let count = reads.clone();
    on_read(&mut bench, move |_| {
        count.set(count.get() + 1);
        Some(Err(io::Error::from_raw_os_error(EIO)))
    });
    pack(&bench, 4);
    // Three tries, and at last every megabyte at once and then by the page.
    assert_eq!(reads.get(), 3 + 3 * (1 + 256));
}

/// Every read that touches the bytes between `from` and `to` of file `b` fails.
fn bad_region(bench: &mut Bench, from: u64, to: u64) {
    let ino = fs::metadata(bench.root().join("b")).unwrap().ino();
    bench.read_at = Box::new(move |file, buffer, at| {
        if file.metadata().unwrap().ino() == ino && at < to && at + buffer.len() as u64 > from {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.read_at(buffer, at)
    });
}

#[test]
fn only_the_pages_that_cannot_be_read_become_zeros() {
    for (from, to, zeros) in [
        (1 << 20, (1 << 20) + 1, 1 << 20..(1 << 20) + 4096),
        (5000, 9000, 4096..12_288),
        ((2 << 20) - 1, (2 << 20) + 1, (2 << 20) - 4096..(2 << 20) + 4096),
        ((3 << 20) + 10, (3 << 20) + 11, 3 << 20..(3 << 20) + 77),
        (0, 1 << 30, 0..(3 << 20) + 77),
    ] {
        let bytes = noise((3 << 20) + 77);
        let mut bench = bench(&bytes);
        bad_region(&mut bench, from, to);
        let packed = pack(&bench, 4);
        let mut kept = bytes;
        kept[zeros.clone()].fill(0);
        assert_eq!(bench.member("b").sha256, Some(sha256(&kept)), "{from}");
        assert_eq!(bench.member("b").note.as_deref(), Some("damaged"));
        let line = &packed.range.exceptions[0];
        assert_eq!((line.reason, line.errno), (Reason::Damaged, Some(EIO)));
        assert!(line.detail.starts_with(&format!("{} of ", zeros.len())), "{}", line.detail);
        assert!(line.detail.contains(&format!("the first at {};", zeros.start)), "{}", line.detail);
    }
}

#[test]
fn a_file_that_is_unlinked_while_it_is_read_is_kept() {
    let bytes = noise(3 << 20);
    let mut bench = bench(&bytes);
    let at = bench.root().join("b");
    on_read(&mut bench, move |call| {
        if call == 2 {
            fs::remove_file(&at).unwrap();
        }
        None
    });
    let packed = pack(&bench, 4);
    // The copy that was begun is the last one there is, and nothing is lost.
    assert_eq!(bench.member("b").sha256, Some(sha256(&bytes)));
    assert_eq!(facts(&bench, &packed), (vec![], None, 3 << 20));
}

#[test]
fn a_file_that_is_written_and_unlinked_while_it_is_read_has_changed() {
    let mut bench = bench(&noise(3 << 20));
    let at = bench.root().join("b");
    on_read(&mut bench, move |call| {
        if call == 2 {
            OpenOptions::new().write(true).open(&at).unwrap().write_all_at(b"changed", 7).unwrap();
            fs::remove_file(&at).unwrap();
        }
        None
    });
    let packed = pack(&bench, 4);
    let wanted = (vec![(Reason::Changed, "b".to_owned())], Some("changed".to_owned()), 3 << 20);
    assert_eq!(facts(&bench, &packed), wanted);
}

#[test]
fn a_file_that_fails_and_is_gone_then_is_kept_as_far_as_it_goes() {
    let bytes = noise(3 << 20);
    let mut bench = bench(&bytes);
    let at = bench.root().join("b");
    on_read(&mut bench, move |call| {
        (call == 2).then(|| {
            fs::remove_file(&at).unwrap();
            Err(io::Error::from_raw_os_error(EIO))
        })
    });
    pack(&bench, 4);
    assert_eq!(bench.member("b").sha256, Some(sha256(&bytes)));
}

#[test]
fn what_was_replaced_since_the_walk_is_not_archived() {
    for (make, reason) in [
        ("rm b; mkfifo b", Reason::Replaced),
        ("rm b; ln -s /etc/shadow b", Reason::Replaced),
        ("rm b; mkdir b", Reason::Replaced),
        ("cp b b2; mv b2 b", Reason::Replaced),
        ("rm b", Reason::Vanished),
    ] {
        let bench = bench(b"content");
        let items = walk(&bench.root());
        sh(make, &bench.root());
        let packed = bench.pack_items(items).unwrap().packed;
        assert_eq!(exceptions(&packed), [(reason, "b".to_owned())], "{make}");
        assert_eq!(packed.range.counts.skipped[&reason], 1);
        assert_eq!(python_names(&bench.tar()), ["'.'", "'a'", "'c'"], "{make}");
    }
}

#[test]
fn a_file_that_is_another_one_when_opened_is_replaced() {
    let bench = bench(b"content");
    /// Opens what is not the entry, as a careless tree would.
    struct Careless(PathBuf);
    impl Content for Careless {
        fn stat(&self, path: &SourcePath) -> io::Result<Meta> {
            lstat(&self.0.join(path.as_path()))
        }
        fn open_file(&self, _: &Entry) -> Result<File, OpenError> {
            Ok(File::open("/etc/passwd")?)
        }
        fn read_link(&self, _: &Entry) -> Result<Vec<u8>, OpenError> {
            Err(OpenError::Vanished)
        }
        fn xattrs(&self, _: &Entry) -> Result<Xattrs, OpenError> {
            Ok(vec![])
        }
    }
    let packed = bench.pack_content(&Careless(bench.root()), walk(&bench.root())).unwrap().packed;
    assert_eq!(packed.range.counts.skipped[&Reason::Replaced], 3);
}

#[test]
fn links_never_lead_to_a_damaged_member() {
    let mut bench = bench(&noise(100_000));
    sh("ln b d; rm c; ln b c2; echo -n last > c", &bench.root());
    bad_region(&mut bench, 0, 1);
    pack(&bench, 6);
    for name in ["b", "c2", "d"] {
        assert_eq!(bench.member(name).note.as_deref(), Some("damaged,linked"), "{name}");
    }
}

#[test]
fn a_hole_that_fills_while_it_is_read_is_not_lost() {
    let mut bench = bench(b"");
    let at = bench.root().join("b");
    OpenOptions::new().write(true).open(&at).unwrap().set_len(1 << 20).unwrap();
    append(&at, b"data");
    let filled = Rc::new(Cell::new(false));
    let once = filled.clone();
    on_read(&mut bench, move |_| {
        if !once.replace(true) {
            OpenOptions::new().write(true).open(&at).unwrap().write_all_at(b"late", 5000).unwrap();
        }
        None
    });
    let packed = pack(&bench, 4);
    assert!(filled.get() && exceptions(&packed).is_empty());
    assert_eq!(bench.member("b").sha256, Some(sha256(&fs::read(bench.root().join("b")).unwrap())));
}

#[test]
fn a_real_disk_with_bad_blocks_costs_only_those() {
    // The image is cut after mounting: what lies behind the cut cannot be read any more.
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    sh(
        "truncate -s 16M img; mkfs.ext4 -q -O ^has_journal img; mount -o loop img mnt
         head -c 9000000 /dev/urandom > mnt/b; cp mnt/b copy; umount mnt; mount -o loop,ro img mnt; truncate -s 6M img",
        dir.path(),
    );
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let mut bench = Bench::new();
    bench.content.root = mount.clone();
    bench.options.retries = 0;
    let item = Walked::Entry(Entry { path: path("b"), meta: lstat(&mount.join("b")).unwrap() });
    let packed = bench.pack_items(vec![item]);
    Command::new("umount").arg("-l").arg(&mount).status().unwrap();
    let packed = packed.unwrap().packed;
    assert_eq!(bench.member("b").note.as_deref(), Some("damaged"));
    assert_eq!(packed.range.exceptions[0].errno, Some(EIO));
    let to = tempfile::tempdir().unwrap();
    unpack(&bench.tar(), to.path());
    let (was, is) = (fs::read(dir.path().join("copy")).unwrap(), fs::read(to.path().join("b")).unwrap());
    assert_eq!(is.len(), was.len());
    let same = was.chunks(4096).zip(is.chunks(4096)).filter(|(was, is)| was == is).count();
    assert!(same > 100, "{same} pages were saved");
    assert!(was.chunks(4096).zip(is.chunks(4096)).all(|(was, is)| was == is || is.iter().all(|b| *b == 0)));
}
