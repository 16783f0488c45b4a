//! The walk against a naive model, and what it leaves out.

use super::*;
use crate::archive::filter;
use proptest::prelude::*;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
        net::UnixListener,
    },
    path::Path,
};
use tempfile::TempDir;

pub fn path(text: impl AsRef<[u8]>) -> SourcePath {
    SourcePath::parse(text.as_ref()).unwrap()
}

pub fn rules(exclude: &[&str], include: &[&str], tag: Option<&str>) -> filter::Options {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    filter::Options { exclude: owned(exclude), include: owned(include), exclude_tag: tag.map(str::to_owned) }
}

pub fn walk(dir: &Path, rules: &filter::Options, options: Options, from: Position) -> Walk {
    let tree = Arc::new(Tree::open(dir).unwrap());
    Walk::new(tree, Arc::new(Filter::new(rules).unwrap()), options, from)
}

/// All items, which must add up to what the walk has seen.
pub fn all(mut walk: Walk) -> Vec<Walked> {
    let items: Vec<_> = walk.by_ref().map(Result::unwrap).collect();
    assert_eq!(walk.seen(), items.iter().map(Walked::seen).sum::<u64>());
    for pair in items.windows(2) {
        assert!(pair[0].path() < pair[1].path(), "{:?} then {:?}", pair[0], pair[1]);
    }
    items
}

pub fn plain(dir: &Path) -> Walk {
    walk(dir, &rules(&[], &[], None), Options::default(), Position::Start)
}

/// An item as one line: `path`, `path xCOUNT rule` or `path !reason`.
pub fn line(item: &Walked) -> String {
    match item {
        Walked::Entry(entry) => entry.path.display(),
        Walked::Excluded { rule, count, last } => format!("{last} x{count} #{rule}"),
        Walked::Skipped(exception) => format!("{} !{}", exception.path, exception.reason),
    }
}

pub fn lines(items: &[Walked]) -> Vec<String> {
    items.iter().map(line).collect()
}

/// Makes what the names say: `a/` a directory, `a@` a symlink, `a=` a socket, else a file with its name in it.
pub fn make(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let at = dir.path().join(name.trim_end_matches(['@', '=']));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match name.as_bytes().last().unwrap() {
            b'/' => fs::create_dir_all(&at).unwrap(),
            b'@' => symlink("/etc/passwd", &at).unwrap(),
            b'=' => drop(UnixListener::bind(&at).unwrap()),
            _ => fs::write(&at, name).unwrap(),
        }
    }
    dir
}

#[test]
fn names_and_not_joined_paths_are_in_order() {
    let dir = make(&["Photos/x", "Photos/x.y", "Photos/x-/z", "Photos (old)/y", "Photos-2019", "Photos.bak"]);
    let expected = [
        "/",
        "Photos",
        "Photos/x",
        "Photos/x-",
        "Photos/x-/z",
        "Photos/x.y",
        "Photos (old)",
        "Photos (old)/y",
        "Photos-2019",
        "Photos.bak",
    ];
    assert_eq!(lines(&all(plain(dir.path()))), expected);
}

#[test]
fn metadata_is_that_of_the_entry_itself() {
    let dir = make(&["d/", "f", "l@"]);
    for item in all(plain(dir.path())) {
        let Walked::Entry(Entry { path, meta }) = item else { panic!("{item:?}") };
        let told = fs::symlink_metadata(dir.path().join(path.as_path())).unwrap();
        assert_eq!((meta.dev, meta.ino, meta.nlink), (told.dev(), told.ino(), told.nlink()));
        assert_eq!((meta.mode, meta.uid, meta.gid), (told.mode() & 0o7777, told.uid(), told.gid()));
        assert_eq!((meta.mtime.sec, i64::from(meta.mtime.nsec)), (told.mtime(), told.mtime_nsec()));
        assert_eq!((meta.ctime.sec, i64::from(meta.ctime.nsec)), (told.ctime(), told.ctime_nsec()));
        assert_eq!(meta.size, if told.is_dir() { 0 } else { told.size() });
        assert_eq!(tree::Tree::open(dir.path()).unwrap().stat(&path).unwrap(), meta);
    }
}

#[test]
fn names_may_have_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let long = [b'n'; 255];
    let names: [&[u8]; 8] = [b"\x01", b"\n", b" ", b"-rf", b"\x1b[31m", &long, b"\xc3\x28", b"\xff"];
    for name in names {
        fs::create_dir(dir.path().join(OsStr::from_bytes(name))).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(name)).join(OsStr::from_bytes(b"\xfe")), b"").unwrap();
    }
    let told: Vec<_> = all(plain(dir.path())).iter().map(|item| item.path().clone()).collect();
    let mut expected = vec![SourcePath::root()];
    for name in [b"\x01".as_slice(), b"\n", b"\x1b[31m", b" ", b"-rf", &long, b"\xc3\x28", b"\xff"] {
        expected.push(path(name));
        expected.push(path(name).join(b"\xfe"));
    }
    assert_eq!(told, expected);
}

#[test]
fn a_tagged_directory_is_archived_with_its_tag_alone() {
    let dir = make(&["a/NOBACKUP", "a/A", "a/B/x", "a/z", "b/NOBACKUP/", "b/x", "c/NOBACKUP@", "c/x"]);
    let told = lines(&all(walk(dir.path(), &rules(&[], &[], Some("NOBACKUP")), Options::default(), Position::Start)));
    let tag = RULE_TAG;
    let expected = [
        "/",
        "a",
        &format!("a/B x2 #{tag}"),
        "a/NOBACKUP",
        &format!("a/z x1 #{tag}"),
        "b",
        "b/NOBACKUP",
        "b/x",
        "c",
        "c/NOBACKUP",
        "c/x",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_pattern_leaves_out_even_a_tag_and_what_it_tags() {
    let dir = make(&["a/NOBACKUP", "a/x.tmp"]);
    let rules = rules(&["NOBACKUP", "*.tmp"], &[], Some("NOBACKUP"));
    let told = lines(&all(walk(dir.path(), &rules, Options::default(), Position::Start)));
    assert_eq!(told, ["/", "a", "a/NOBACKUP x1 #0", &format!("a/x.tmp x1 #{RULE_TAG}")]);
}

#[test]
fn only_our_own_directories_are_left_out_as_own() {
    let dir = make(&["staging/tmp/x", "staging2/x", "deep/state/x"]);
    let id = |name: &str| {
        let told = fs::metadata(dir.path().join(name)).unwrap();
        (told.dev(), told.ino())
    };
    let options = Options { own: vec![id("staging"), id("deep/state")], ..Options::default() };
    let told = lines(&all(walk(dir.path(), &rules(&[], &[], None), options, Position::Start)));
    let own = RULE_OWN;
    let expected =
        ["/", "deep", &format!("deep/state x1 #{own}"), &format!("staging x1 #{own}"), "staging2", "staging2/x"];
    assert_eq!(told, expected);
}

#[test]
fn a_position_that_is_gone_goes_on_behind_it() {
    let dir = make(&["a", "c/x", "c/z", "e"]);
    let from = |position| {
        let mut told = lines(&all(walk(dir.path(), &rules(&[], &[], None), Options::default(), position)));
        told.truncate(1);
        told.pop().unwrap_or_default()
    };
    for (gone, next) in [("b", "c"), ("c/y", "c/z"), ("c/zz/z", "e"), ("a/was/a/dir", "c"), ("d", "e"), ("f", "")] {
        assert_eq!(from(Position::At(path(gone))), next, "at {gone}");
        assert_eq!(from(Position::After(path(gone))), next, "after {gone}");
    }
    assert_eq!(from(Position::At(SourcePath::root())), "/");
    assert_eq!(from(Position::After(SourcePath::root())), "a");
}

#[test]
fn after_a_directory_that_is_left_out_now_its_children_are_too() {
    let dir = make(&["a/b/c", "a/d", "e"]);
    for (at, exclude) in [("a", "/a"), ("a/b", "/a"), ("a/b/c", "/a"), ("a/d", "*")] {
        let position = Position::After(path(at));
        let told = lines(&all(walk(dir.path(), &rules(&[exclude], &["e"], None), Options::default(), position)));
        assert_eq!(told, ["e"], "after {at} without {exclude}");
    }
}

/// What a walk must tell, by the simplest means.
fn model(dir: &Path, at: &SourcePath, filter: &Filter, told: &mut Vec<Walked>) {
    let mut names: Vec<_> =
        fs::read_dir(dir.join(at.as_path())).unwrap().map(|found| found.unwrap().file_name()).collect();
    names.sort();
    let tag = filter
        .tag()
        .filter(|tag| fs::symlink_metadata(dir.join(at.join(tag).as_path())).is_ok_and(|told| told.is_file()));
    let mut run = None;
    for name in names {
        let path = at.join(name.as_bytes());
        let meta = Tree::open(dir).unwrap().stat(&path).unwrap();
        let is_dir = meta.kind == Kind::Dir;
        let by_tag = tag.filter(|tag| *tag != name.as_bytes()).map(|_| RULE_TAG);
        if let Some(rule) = by_tag.or_else(|| filter.excluded(&path, is_dir)) {
            match (run, told.last_mut()) {
                (Some(before), Some(Walked::Excluded { count, last, .. })) if before == rule => {
                    *count += 1;
                    *last = path;
                }
                _ => told.push(Walked::Excluded { rule, count: 1, last: path }),
            }
            run = Some(rule);
            continue;
        }
        run = None;
        if meta.kind == Kind::Socket {
            let failure = Failure::new(Reason::Socket, "A socket cannot be archived");
            told.push(Walked::Skipped(Box::new(failure.exception(path))));
            continue;
        }
        told.push(Walked::Entry(Entry { path: path.clone(), meta }));
        if is_dir {
            model(dir, &path, filter, told);
        }
    }
}

fn name() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        b"a".as_slice(),
        b"b",
        b"a b",
        b"a.tmp",
        b"b.tmp",
        b"TAG",
        b"a-",
        b"\xff",
        b"\x01",
        b"a\n",
        b"nnnnnnnnn1",
        b"nnnnnnnnn2",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_is_the_model_and_from_every_position_its_rest(
        made in prop::collection::vec((prop::collection::vec(name(), 1..4), 0..5u8), 0..24),
        exclude in prop::sample::subsequence(vec!["*.tmp", "/a/", "!b.tmp", "a/**/b", "TAG", "a b"], 0..4),
        tag in prop::option::of(Just("TAG")),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for (names, kind) in made {
            let at = dir.path().join(OsStr::from_bytes(&names.join(&b'/')));
            // What was made before may stand in the way, and then stays.
            if fs::create_dir_all(at.parent().unwrap()).is_err() || fs::symlink_metadata(&at).is_ok() {
                continue;
            }
            match kind {
                0 => fs::create_dir(&at).unwrap(),
                1 => symlink("..", &at).unwrap(),
                2 => drop(UnixListener::bind(&at).unwrap()),
                _ => fs::write(&at, b"x").unwrap(),
            }
        }
        let rules = rules(&exclude, &[], tag);
        let filter = Filter::new(&rules).unwrap();
        let root = SourcePath::root();
        let meta = Tree::open(dir.path()).unwrap().stat(&root).unwrap();
        let mut expected = vec![Walked::Entry(Entry { path: root.clone(), meta })];
        model(dir.path(), &root, &filter, &mut expected);

        let from = |position| all(walk(dir.path(), &rules, Options::default(), position));
        prop_assert_eq!(&from(Position::Start), &expected);
        for (at, item) in expected.iter().enumerate() {
            let told = from(Position::After(item.path().clone()));
            prop_assert_eq!(&told, &expected[at + 1..], "after {:?}", item);
            // Of several left out together only the last is at the position.
            let mut rest = expected[at..].to_vec();
            if let Walked::Excluded { count, .. } = &mut rest[0] {
                *count = 1;
            }
            prop_assert_eq!(from(Position::At(item.path().clone())), rest, "at {:?}", item);
        }
    }
}
