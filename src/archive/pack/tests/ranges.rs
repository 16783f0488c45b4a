//! What goes into a piece, what is handed back, and how it is accounted for.

use super::{tools::*, *};
use crate::archive::header::{ancestor, estimate};

#[test]
fn a_piece_from_the_middle_unpacks_alone_with_the_right_directories() {
    let bench = Bench::new();
    bench.write("a/b/c", "c");
    bench.write("a/b/d", "d");
    sh("chmod 2750 a/b; chown 7:8 a; setfacl -m u:5:r a/b; chmod 711 .; touch -d @77.5 . a a/b", &bench.root());
    let items = walk(&bench.root()).split_off(4);
    let packed = bench.pack_items(items).unwrap().packed;
    assert_eq!((packed.range.members, packed.range.counts.seen), (1, 1));
    let names: Vec<_> = bench.members().iter().map(|m| (m.path.clone().unwrap(), m.note.clone())).collect();
    let above = |name: &str| (name.to_owned(), Some("ancestor".to_owned()));
    assert_eq!(names, [above("./"), above("a"), above("a/b"), ("a/b/d".to_owned(), None)]);
    let to = bench.dir.path().join("restored");
    unpack(&bench.tar(), &to);
    fs::remove_file(bench.root().join("a/b/c")).unwrap();
    sh("touch -d @77.5 a/b", &bench.root());
    assert_same(&snapshot(&bench.root()), &snapshot(&to));
    let first = packed.range.first.unwrap().get().unwrap();
    assert_eq!((first, packed.range.last.unwrap().get().unwrap()), (path("a/b/d"), path("a/b/d")));
}

#[test]
fn a_piece_of_which_all_is_gone_is_empty() {
    let bench = Bench::new();
    bench.write("a/b", "b");
    let items = walk(&bench.root()).split_off(1);
    fs::remove_dir_all(bench.root().join("a")).unwrap();
    let packed = bench.pack_items(items).unwrap().packed;
    assert_eq!(exceptions(&packed), [(Reason::Vanished, "a".to_owned()), (Reason::Vanished, "a/b".to_owned())]);
    assert_eq!((packed.range.members, packed.tar_size, packed.range.first), (0, END_LEN, None));
}

/// Content whose directories cannot be examined.
struct Headless<'h>(Plain<'h>, io::ErrorKind);

impl Content for Headless<'_> {
    fn stat(&self, path: &SourcePath) -> io::Result<Meta> {
        if path.as_bytes() == b"a" { Err(self.1.into()) } else { self.0.stat(path) }
    }
    fn open_file(&self, entry: &Entry) -> Result<File, OpenError> {
        self.0.open_file(entry)
    }
    fn read_link(&self, entry: &Entry) -> Result<Vec<u8>, OpenError> {
        self.0.read_link(entry)
    }
    fn xattrs(&self, entry: &Entry) -> Result<Xattrs, OpenError> {
        if entry.path.as_bytes() == b"a/x" { Err(OpenError::Unreadable(5)) } else { self.0.xattrs(entry) }
    }
}

#[test]
fn metadata_that_cannot_be_read_is_told_and_the_data_is_kept() {
    for (kind, told) in [(io::ErrorKind::NotFound, false), (io::ErrorKind::PermissionDenied, true)] {
        let bench = Bench::new();
        bench.write("a/x", "content");
        sh("chmod 700 a; chown 9 a", &bench.root());
        let items = walk(&bench.root()).split_off(2);
        let content = Headless(Plain { root: bench.root(), before_open: None }, kind);
        let packed = bench.pack_content(&content, items).unwrap().packed;
        let mut wanted = vec![(Reason::Metadata, "a".to_owned()), (Reason::Metadata, "a/x".to_owned())];
        wanted.drain(..usize::from(!told));
        assert_eq!(exceptions(&packed), wanted);
        assert_eq!((packed.range.counts.seen, packed.range.counts.clean), (1, 1));
        let above = bench.member("a");
        assert_eq!((above.mode.as_str(), above.uid), ("0755", 0));
        assert_eq!(bench.member("a/x").sha256, Some(sha256(b"content")));
    }
}

#[test]
fn everything_seen_is_accounted_for() {
    let bench = Bench::new();
    for name in ["a", "gone", "locked", "z"] {
        bench.write(name, name);
    }
    let _socket = std::os::unix::net::UnixListener::bind(bench.root().join("sock")).unwrap();
    let mut items = walk(&bench.root());
    items.insert(2, Walked::Excluded { rule: 3, count: 5, last: path("b5") });
    let denied = Exception { path: path("c"), reason: Reason::Denied, errno: Some(13), detail: "No".to_owned() };
    items.insert(3, Walked::Skipped(Box::new(denied)));
    items.push(Walked::Excluded { rule: 3, count: 2, last: path("zz") });
    fs::remove_file(bench.root().join("gone")).unwrap();
    let mut bench = bench;
    bench.content.before_open = Some(Box::new(|entry| match entry.path.as_bytes() {
        b"locked" => Err(OpenError::Denied(13)),
        _ => Ok(()),
    }));
    let range = bench.pack_items(items).unwrap().packed.range;
    let reasons: Vec<_> = range.exceptions.iter().map(|line| (line.reason, line.errno)).collect();
    let wanted =
        [(Reason::Denied, Some(13)), (Reason::Vanished, None), (Reason::Denied, Some(13)), (Reason::Socket, None)];
    assert_eq!(reasons, wanted);
    assert_eq!((range.counts.seen, range.counts.clean, range.counts.excluded["rule 3"]), (14, 3, 7));
    assert_eq!(range.counts.skipped[&Reason::Denied], 2);
    assert_eq!(range.position.unwrap().get().unwrap(), path("zz"));
    assert_eq!(range.last.unwrap().get().unwrap(), path("z"));
}

#[test]
fn what_does_not_fit_is_handed_back_with_its_size_of_now() {
    let mut bench = Bench::new();
    for name in ["a", "b", "c"] {
        bench.write(name, [1; 1000]);
    }
    sh("touch -d @1 . a b c", &bench.root());
    let items = walk(&bench.root());
    let all: u64 = items.iter().map(|item| if let Walked::Entry(e) = item { estimate(e) } else { 0 }).sum();
    bench.options.max_size = all + END_LEN;
    assert_eq!(bench.pack_items(items.clone()).unwrap().packed.tar_size, bench.options.max_size);
    bench.options.max_size -= 1;
    let outcome = bench.pack_items(items.clone()).unwrap();
    assert_eq!(outcome.handed_back.to_vec(), items[3..]);
    assert_eq!(outcome.packed.range.position.unwrap().get().unwrap(), path("b"));
    // One that has grown since the walk.
    bench.options.max_size = all + END_LEN;
    bench.write("b", [1; 3000]);
    let outcome = bench.pack_items(items.clone()).unwrap();
    assert_eq!(outcome.handed_back.len(), 2);
    let Some(Walked::Entry(entry)) = outcome.handed_back.first() else { panic!() };
    assert_eq!((entry.path.clone(), entry.meta.size), (path("b"), 3000));
    assert!(outcome.packed.tar_size <= bench.options.max_size);
    bench.options.max_size = 1 << 40;
    bench.options.max_members = 2;
    assert_eq!(bench.pack_items(items.clone()).unwrap().handed_back.len(), 2);
    assert_eq!(python_names(&bench.tar()).len(), 2);
}

#[test]
fn a_file_larger_than_a_piece_is_handed_back_alone() {
    let mut bench = Bench::new();
    bench.write("a/b", [1; 5000]);
    bench.options.max_size = 6 * 512 + 5000;
    let items = walk(&bench.root()).split_off(2);
    match bench.pack_items(items.clone()) {
        Err(PackError::TooLarge { handed_back, needs }) => {
            assert_eq!(handed_back.to_vec(), items);
            let Walked::Entry(entry) = &items[0] else { panic!() };
            let above = ancestor(&SourcePath::root()) + ancestor(&path("a"));
            assert_eq!(needs, above + estimate(entry) + END_LEN);
            assert!(needs > bench.options.max_size);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn estimates_are_exact_for_plain_entries() {
    let bench = Bench::new();
    for len in [0, 1, 511, 512, 513, 100_000] {
        bench.write(&format!("f{len}"), noise(len));
    }
    bench.write(&"n".repeat(255), "x");
    bench.write(&format!("{}/é", "d/".repeat(300)), "x");
    sh(
        "touch -d @1 f1; touch -d @-7.5 f0; chown 4294967294 f511; mkfifo p; mknod c c 1 2; ln -s target l
         ln -s $(printf 'x%.0s' {1..3000}) long",
        &bench.root(),
    );
    let items = walk(&bench.root());
    let packed = bench.pack_items(items.clone()).unwrap().packed;
    let members = bench.members();
    let ends = members.iter().skip(1).map(|member| member.offset).chain([packed.tar_size - END_LEN]);
    for ((member, end), item) in members.iter().zip(ends).zip(items) {
        let Walked::Entry(entry) = item else { panic!() };
        assert_eq!(estimate(&entry), end - member.offset, "{}", entry.path);
    }
}

#[test]
fn names_link_only_to_what_is_in_the_piece_and_clean() {
    let bench = Bench::new();
    bench.write("a", "content");
    sh("ln a b; ln a c; ln -s x l; ln l m", &bench.root());
    let items = walk(&bench.root());
    let outcome = bench.pack_items(items.clone()).unwrap();
    assert_eq!(outcome.packed.range.counts.clean, 6);
    let facts = |name: &str| {
        let member = bench.member(name);
        (member.note, member.link, member.sha256)
    };
    let (sum, link) = (Some(sha256(b"content")), |to: &str| Some(to.to_owned()));
    assert_eq!(facts("a"), (link("linked"), None, sum.clone()));
    assert_eq!(facts("b"), (link("hardlink"), link("a"), sum.clone()));
    assert_eq!(facts("c"), (link("hardlink"), link("a"), sum.clone()));
    assert_eq!(facts("m"), (link("hardlink"), link("l"), None));
    // In a piece without the first name the next one is the copy.
    bench.pack_items(items[2..].to_vec()).unwrap();
    assert_eq!(facts("b"), (link("linked"), None, sum.clone()));
    assert_eq!(facts("c"), (link("hardlink"), link("b"), sum));
}

#[test]
fn a_name_of_an_inode_that_has_changed_is_a_copy_of_its_own() {
    let mut bench = Bench::new();
    let a = bench.write("a", "before");
    bench.write("d", "");
    sh("ln a b; ln a e; ln a f", &bench.root());
    let items = walk(&bench.root());
    bench.content.before_open = Some(Box::new(move |entry| {
        if entry.path.as_bytes() == b"d" {
            fs::write(&a, "behind").unwrap();
        }
        Ok(())
    }));
    bench.pack_items(items).unwrap();
    assert!(bench.member("b").has_note("hardlink"));
    let copy = bench.member("e");
    assert_eq!((copy.note.as_deref(), copy.sha256), (Some("linked"), Some(sha256(b"behind"))));
    assert_eq!(bench.member("f").link.as_deref(), Some("e"));
}

#[test]
fn a_path_too_long_for_gnu_tar_is_archived_and_told() {
    let bench = Bench::new();
    let dir = |len| {
        let path = SourcePath::parse(&b"d".repeat(len)).unwrap();
        Walked::Entry(Entry { path, meta: crate::archive::header::plain_dir() })
    };
    let packed = bench.pack_content(&Dirs(vec![]), vec![dir(4095), dir(4096)]).unwrap().packed;
    assert_eq!(exceptions(&packed), [(Reason::Deep, "d".repeat(4096))]);
    assert_eq!(packed.range.counts.clean, 2);
    let notes: Vec<_> = bench.members().into_iter().map(|member| member.note).collect();
    assert_eq!(notes, [Some("ancestor".to_owned()), None, Some("deep".to_owned())]);
    assert_eq!(python_names(&bench.tar()).len(), 3);
}

/// Directories of any name, with these xattrs.
struct Dirs(Xattrs);

impl Content for Dirs {
    fn stat(&self, _: &SourcePath) -> io::Result<Meta> {
        Ok(crate::archive::header::plain_dir())
    }
    fn open_file(&self, _: &Entry) -> Result<File, OpenError> {
        Err(OpenError::Vanished)
    }
    fn read_link(&self, _: &Entry) -> Result<Vec<u8>, OpenError> {
        Err(OpenError::Vanished)
    }
    fn xattrs(&self, _: &Entry) -> Result<Xattrs, OpenError> {
        Ok(self.0.clone())
    }
}

#[test]
fn the_digest_of_xattrs_does_not_depend_on_their_order() {
    let bench = Bench::new();
    let xattr = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
    let content = Dirs(vec![xattr(b"user.b", b"two\0"), xattr(b"user.a", b"1")]);
    let item = Walked::Entry(Entry { path: path("d"), meta: crate::archive::header::plain_dir() });
    bench.pack_content(&content, vec![item]).unwrap();
    let wanted = sha256(b"user.a\x001\x001user.b\x004\x00two\0");
    assert_eq!(bench.member("d").xattr_sha256, Some(wanted));
}
