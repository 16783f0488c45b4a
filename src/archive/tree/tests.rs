//! What is opened, and above all what is not.

#![expect(clippy::disallowed_methods, reason = "a test changes a tree as its users would")]

use super::*;
use rustix::fs::{FileType, XattrFlags, makedev, mknodat};
use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

fn path(text: &str) -> SourcePath {
    SourcePath::parse(text.as_bytes()).unwrap()
}

fn make() -> (TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/f"), "inside").unwrap();
    fs::write(dir.path().join("a/b/g"), "second").unwrap();
    symlink("f", dir.path().join("a/b/l")).unwrap();
    let tree = Tree::open(dir.path()).unwrap();
    (dir, tree)
}

/// The entry at a path as it is now.
fn entry(tree: &Tree, at: &str) -> Entry {
    Entry { path: path(at), meta: tree.stat(&path(at)).unwrap() }
}

fn fifo(at: &Path) {
    mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

fn content(tree: &Tree, entry: &Entry) -> Result<String, OpenError> {
    let mut text = String::new();
    tree.open_file(entry)?.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn what_is_no_source_is_told_apart() {
    let (dir, _) = make();
    assert!(matches!(Tree::open(&dir.path().join("gone")), Err(SourceError::Missing { .. })));
    assert!(matches!(Tree::open(&dir.path().join("a/b/f")), Err(SourceError::NotDirectory { .. })));
    assert!(matches!(Tree::open(&dir.path().join("a/b/f/x")), Err(SourceError::NotDirectory { .. })));
    assert!(matches!(Tree::open(Path::new("/proc/self")), Err(SourceError::Pseudo { .. })));
    symlink("a", dir.path().join("way")).unwrap();
    assert_eq!(Tree::open(&dir.path().join("way")).unwrap().stat(&path("b/f")).unwrap().size, 6);
}

#[test]
fn content_targets_and_directories_are_those_of_the_entry() {
    let (_dir, tree) = make();
    assert_eq!(content(&tree, &entry(&tree, "a/b/f")).unwrap(), "inside");
    assert_eq!(content(&tree, &entry(&tree, "a/b/g")).unwrap(), "second");
    assert_eq!(tree.read_link(&entry(&tree, "a/b/l")).unwrap(), b"f");
    let fd = tree.directory(&path("a/b")).unwrap();
    assert!(stat_fd(fd.as_fd()).unwrap().meta.is_same_inode(&tree.stat(&path("a/b")).unwrap()));
    assert!(tree.directory(&path("a/b/f")).is_err() && tree.directory(&path("a/b/l")).is_err());
    assert_eq!(tree.stat(&path("a/b/l")).unwrap().kind, Kind::Symlink);
    assert!(tree.stat(&SourcePath::root()).unwrap().kind == Kind::Dir);
}

#[test]
fn what_took_the_place_of_an_entry_is_not_opened() {
    type Swap = fn(&Path);
    let swaps: [(Swap, OpenError); 6] = [
        (|at| fs::remove_file(at).unwrap(), OpenError::Vanished),
        (|at| fs::rename(at.with_file_name("g"), at).unwrap(), OpenError::Replaced),
        (|at| fs::remove_file(at).map(|()| fifo(at)).unwrap(), OpenError::Replaced),
        (|at| fs::remove_file(at).and_then(|()| symlink("g", at)).unwrap(), OpenError::Replaced),
        (|at| fs::remove_file(at).and_then(|()| fs::create_dir(at)).unwrap(), OpenError::Replaced),
        (|at| fs::remove_dir_all(at.parent().unwrap()).unwrap(), OpenError::Vanished),
    ];
    for (number, (swap, expected)) in swaps.into_iter().enumerate() {
        // With and without a directory that is still held from the entry before.
        for held in [false, true] {
            let (dir, tree) = make();
            let entry = entry(&tree, "a/b/f");
            if held {
                content(&tree, &entry).unwrap();
            }
            swap(&dir.path().join("a/b/f"));
            assert_eq!(content(&tree, &entry), Err(expected), "{number}");
            assert_eq!(tree.xattrs(&entry), Err(expected), "{number}");
        }
    }
}

#[test]
fn no_symlink_is_followed_above_an_entry_either() {
    let (dir, tree) = make();
    let entry = entry(&tree, "a/b/f");
    fs::rename(dir.path().join("a/b"), dir.path().join("a/c")).unwrap();
    symlink("c", dir.path().join("a/b")).unwrap();
    assert_eq!(content(&tree, &entry), Err(OpenError::Replaced));
    assert!(tree.stat(&entry.path).is_err());
    assert!(tree.directory(&path("a/b")).is_err());
}

#[test]
fn a_directory_that_moved_is_looked_for_where_its_path_leads_now() {
    let (dir, tree) = make();
    content(&tree, &entry(&tree, "a/b/f")).unwrap();
    fs::rename(dir.path().join("a/b"), dir.path().join("a/old")).unwrap();
    fs::create_dir(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/f"), "new").unwrap();
    assert_eq!(content(&tree, &entry(&tree, "a/b/f")).unwrap(), "new");
}

#[test]
fn special_files_are_never_opened_for_anything() {
    let (dir, tree) = make();
    fifo(&dir.path().join("fifo"));
    // The device number of a device that does not exist: to open it would fail with ENXIO.
    let device = makedev(240, 77);
    let made = mknodat(CWD, dir.path().join("dev"), FileType::CharacterDevice, Mode::RWXU, device);
    if let Err(err) = made {
        eprintln!("Not tested on a device, needs root: {err}");
    }
    for name in ["fifo", "dev"].into_iter().take(1 + usize::from(made.is_ok())) {
        let mut entry = entry(&tree, name);
        assert_eq!(tree.xattrs(&entry), Ok(Vec::new()));
        assert_eq!(content(&tree, &entry), Err(OpenError::Replaced));
        assert_eq!(tree.read_link(&entry), Err(OpenError::Replaced));
        assert_eq!(entry.meta.rdev, if name == "dev" { device } else { 0 });
        // Even when the very inode claims to have been a file.
        entry.meta.kind = Kind::File;
        assert_eq!(content(&tree, &entry), Err(OpenError::Replaced));
    }
}

#[test]
fn access_times_are_left_alone() {
    let (dir, tree) = make();
    let at = dir.path().join("a/b/f");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let both = [at.as_path(), at.parent().unwrap()];
    for at in both {
        fs::File::open(at).unwrap().set_times(fs::FileTimes::new().set_accessed(long_ago)).unwrap();
    }
    assert_eq!(content(&tree, &entry(&tree, "a/b/f")).unwrap(), "inside");
    let directory = tree.directory(&path("a/b")).unwrap();
    let mut buf = [std::mem::MaybeUninit::uninit(); 4096];
    assert!(rustix::fs::RawDir::new(&*directory, &mut buf).next().is_some());
    for at in both {
        assert_eq!(fs::metadata(at).unwrap().atime(), 1_000_000_000, "{at:?}");
    }
}

#[test]
fn all_extended_attributes_are_told_of_every_kind_of_entry() {
    let (dir, tree) = make();
    fifo(&dir.path().join("fifo"));
    let set = |at: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(dir.path().join(at), name, value, XattrFlags::empty())
    };
    // A list and a value that are longer than the first guess.
    let mut expected: Xattrs =
        (0..40).map(|number| (format!("user.name-{number:02}").into_bytes(), vec![number, 0, 255])).collect();
    expected.insert(0, (b"user.long".to_vec(), vec![b'v'; 1500]));
    for (name, value) in &expected {
        set("a/b/f", std::str::from_utf8(name).unwrap(), value).unwrap();
    }
    assert_eq!(tree.xattrs(&entry(&tree, "a/b/f")).unwrap(), expected);
    assert_eq!(tree.xattrs(&entry(&tree, "a/b/g")).unwrap(), []);
    assert_eq!(tree.xattrs(&entry(&tree, "a/b/l")).unwrap(), []);
    for at in ["a/b/l", "fifo", "a"] {
        match set(at, "trusted.x", b"1") {
            Ok(()) => {
                let found = tree.xattrs(&entry(&tree, at)).unwrap();
                assert_eq!(found, [(b"trusted.x".to_vec(), b"1".to_vec())], "{at}");
            }
            Err(err) => eprintln!("Not tested on {at}, needs root: {err}"),
        }
    }
}

#[test]
fn acls_are_told_as_extended_attributes() {
    let (dir, tree) = make();
    let run = |args: &[&str]| Command::new("setfacl").args(args).arg(dir.path().join("a")).status();
    assert!(
        !(!run(&["-m", "u:12345:r-x"]).unwrap().success() || !run(&["-d", "-m", "g:54321:rwx"]).unwrap().success()),
        "setfacl failed"
    );
    let names: Vec<_> = tree.xattrs(&entry(&tree, "a")).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"system.posix_acl_access".as_slice(), b"system.posix_acl_default"]);
}

#[test]
fn mounts_and_empty_directories_are_known() {
    let (dir, tree) = make();
    assert_eq!(why_no_mount(Path::new("/")).unwrap(), None);
    assert_eq!(why_no_mount(Path::new("/proc")).unwrap(), None);
    assert_eq!(why_no_mount(dir.path()).unwrap(), Some("is not a mount point"));
    assert!(why_no_mount(&dir.path().join("gone")).is_err());
    assert!(!is_empty_dir(dir.path()).unwrap());
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(is_empty_dir(&dir.path().join("empty")).unwrap());
    assert!(is_empty_dir(&dir.path().join("a/b/f")).is_err());
    let ids = [path("a"), path("a/b")].map(|at| mount_id(tree.directory(&at).unwrap()).unwrap());
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], mount_id(fs::File::open("/proc").unwrap()).unwrap());
    assert!(is_pseudo(0x9fa0) && !is_pseudo(0x0102_1994) && !is_pseudo(0xef53));
}

#[test]
fn a_source_that_was_removed_or_replaced_is_lost() {
    let (dir, _) = make();
    let at = dir.path().join("a");
    let tree = Tree::open(&at).unwrap();
    tree.check().unwrap();
    fs::rename(&at, dir.path().join("old")).unwrap();
    assert!(matches!(tree.check(), Err(SourceError::Lost { .. })));
    fs::create_dir(&at).unwrap();
    assert!(matches!(tree.check(), Err(SourceError::Lost { .. })));
    fs::remove_dir(&at).unwrap();
    fs::rename(dir.path().join("old"), &at).unwrap();
    tree.check().unwrap();
}

#[test]
fn errors_are_exceptions_with_their_reason() {
    let check = |errno: Errno, reason, number: Option<i32>| {
        let exception = OpenError::from(errno).exception(&path("a"));
        assert_eq!((exception.reason, exception.errno), (reason, number));
    };
    check(Errno::NOENT, Reason::Vanished, None);
    check(Errno::NOTDIR, Reason::Vanished, None);
    check(Errno::LOOP, Reason::Replaced, None);
    check(Errno::ACCESS, Reason::Denied, Some(13));
    check(Errno::PERM, Reason::Denied, Some(1));
    check(Errno::IO, Reason::Unreadable, Some(5));
    assert!(OpenError::from(Errno::MFILE).is_exhausted() && !OpenError::from(Errno::IO).is_exhausted());
}
