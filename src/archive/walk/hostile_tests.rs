//! The walk over trees that change, refuse, or go too deep. Run as root these tests do all they say; what
//! needs rights that a user lacks is left out for one.

#![expect(clippy::disallowed_methods, reason = "a test changes a tree as its users would")]

use super::{
    tests::{all, line, lines, make, path, plain, rules, walk},
    *,
};
use crate::archive::tree::OpenError;
use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with},
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change},
    thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities},
};
use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

const DEPTH: usize = 3000;

/// A chain of directories `d`, each with a file `a` before and a file `z` behind the next one. Gone by `rm`:
/// the standard library holds a descriptor for every level while it removes.
struct Chain(tempfile::TempDir);

impl Chain {
    fn make(depth: usize) -> Chain {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
        for _ in 0..depth {
            for name in ["a", "z"] {
                openat(&at, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            }
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        Chain(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        Command::new("rm").arg("-rf").arg(self.path()).status().unwrap();
    }
}

fn deepest(depth: usize) -> SourcePath {
    path(vec!["d"; depth].join("/"))
}

#[test]
fn far_beyond_path_max_all_is_told_with_few_descriptors() {
    let chain = Chain::make(DEPTH);
    let mut walk = plain(chain.path());
    let mut told = Vec::new();
    while let Some(item) = walk.next() {
        let item = item.unwrap();
        assert!(matches!(item, Walked::Entry(_)), "{item:?}");
        assert!(walk.frames.iter().filter(|frame| frame.is_open()).count() <= FDS_MAX);
        told.push(item);
    }
    assert_eq!(told.len(), 1 + 3 * DEPTH);
    assert_eq!(told.iter().filter(|item| item.path().name() == b"z").count(), DEPTH);
    assert_eq!(walk.seen(), told.len() as u64);

    let tree = Arc::new(Tree::open(chain.path()).unwrap());
    let bottom = deepest(DEPTH - 1).join(b"z");
    let meta = tree.stat(&bottom).unwrap();
    let mut content = String::new();
    tree.open_file(&Entry { path: bottom.clone(), meta }).unwrap().read_to_string(&mut content).unwrap();
    let filter = Arc::new(Filter::new(&rules(&[], &[], None)).unwrap());
    for (from, at) in [(Position::At(bottom.clone()), 0), (Position::After(bottom.clone()), 1)] {
        let begin = told.iter().position(|item| *item.path() == bottom).unwrap();
        let rest = all(Walk::new(Arc::clone(&tree), Arc::clone(&filter), Options::default(), from));
        assert_eq!(rest, told[begin + at..]);
    }
}

#[test]
fn a_directory_replaced_while_the_walk_was_below_is_told_name_by_name() {
    let chain = Chain::make(FDS_MAX + 20);
    let mut walk = plain(chain.path());
    let bottom = deepest(FDS_MAX + 20);
    assert!(walk.by_ref().any(|item| *item.unwrap().path() == bottom));
    fs::rename(chain.path().join("d"), chain.path().join("moved")).unwrap();
    fs::create_dir(chain.path().join("d")).unwrap();
    let rest: Vec<_> = walk.by_ref().map(|item| line(&item.unwrap())).collect();
    // The descriptors that were still held lead on; those that were let go of lead nowhere.
    assert_eq!(rest.iter().filter(|line| !line.contains('!')).count(), FDS_MAX - 1 + 1);
    assert!(rest.contains(&"d/z !replaced".to_owned()) && rest.contains(&"d/d/z !vanished".to_owned()));
    assert_eq!(rest.last().unwrap(), "z");
    assert_eq!(walk.seen(), 1 + 3 * (FDS_MAX as u64 + 20));
}

#[test]
fn what_vanishes_after_it_was_listed_is_told() {
    let dir = make(&["a/x", "b/y", "c"]);
    let mut walk = plain(dir.path());
    walk.next().unwrap().unwrap();
    fs::remove_dir_all(dir.path().join("b")).unwrap();
    fs::remove_file(dir.path().join("c")).unwrap();
    let rest: Vec<_> = walk.map(|item| line(&item.unwrap())).collect();
    assert_eq!(rest, ["a", "a/x", "b !vanished", "c !vanished"]);
}

#[test]
fn a_source_that_goes_away_is_an_error_and_no_heap_of_vanished_entries() {
    type Undo = fn(&Path);
    let ways: [Undo; 2] = [
        |root| fs::remove_dir_all(root).unwrap(),
        |root| {
            fs::rename(root, root.with_extension("old")).unwrap();
            fs::create_dir(root).unwrap();
            fs::remove_dir_all(root.with_extension("old").join("b")).unwrap();
        },
    ];
    for way in ways {
        let dir = make(&["root/a", "root/b/y", "root/c"]);
        let root = dir.path().join("root");
        let mut walk = plain(&root);
        walk.next().unwrap().unwrap();
        way(&root);
        let outcome: Result<Vec<_>, _> = walk.by_ref().collect();
        assert!(matches!(outcome, Err(SourceError::Lost { .. })), "{outcome:?}");
        assert!(walk.next().is_none());
    }
}

#[test]
fn swaps_with_a_symlink_never_lead_outside() {
    let outside = make(&["f", "sub/f"]);
    let source = make(&["a/f", "a/sub/f"]);
    let link = outside.path().join("link");
    symlink(outside.path(), &link).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut opened = 0;
    let tree = Arc::new(Tree::open(source.path()).unwrap());
    let filter = Arc::new(Filter::new(&rules(&[], &[], None)).unwrap());
    let mut round = || {
        for item in Walk::new(Arc::clone(&tree), Arc::clone(&filter), Options::default(), Position::Start) {
            let Walked::Entry(entry) = item.unwrap() else { continue };
            if entry.meta.kind != Kind::File {
                continue;
            }
            match tree.open_file(&entry) {
                Ok(mut file) => {
                    let mut content = String::new();
                    file.read_to_string(&mut content).unwrap();
                    assert_eq!(content, entry.path.display());
                    opened += 1;
                }
                Err(err) => assert!(matches!(err, OpenError::Vanished | OpenError::Replaced), "{err}"),
            }
        }
    };
    thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let swap = || renameat_with(CWD, source.path().join("a"), CWD, &link, RenameFlags::EXCHANGE).unwrap();
            while !stop.load(Ordering::Relaxed) {
                swap();
                swap();
                swaps.fetch_add(2, Ordering::Relaxed);
            }
        });
        let mut rounds = 0;
        // A failed round must not leave the other thread swapping for ever.
        while !swapper.is_finished() && (rounds < 1000 || swaps.load(Ordering::Relaxed) < 10_000) {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut round));
            rounds += 1;
            if let Err(panic) = done {
                stop.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    round();
    // An even number of swaps leaves the directory where it was, so that the last round read both files.
    assert!(2 <= opened, "{opened}");
}

/// On a thread of its own, with the mounts or rights that `prepare` changes for this thread alone; nothing is
/// tested where we may not change them.
fn apart(prepare: impl FnOnce() -> rustix::io::Result<()> + Send, test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| match prepare() {
            Ok(()) => test(),
            Err(err) => eprintln!("Not tested, needs root: {err}"),
        });
    });
}

#[allow(deprecated)]
fn own_mounts() -> rustix::io::Result<()> {
    // Deprecated for what other flags would do to memory safety; this one is about mounts alone.
    rustix::thread::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

fn no_rights() -> rustix::io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective = CapabilitySet::empty();
    set_capabilities(None, sets)
}

#[test]
fn mounts_are_told_and_pseudo_filesystems_never_entered() {
    let dir = make(&["bind/", "f", "from/x", "mounted-file", "proc/", "proc-file", "tmp/under"]);
    let at = |name: &str| dir.path().join(name);
    let prepare = || {
        own_mounts()?;
        mount("none", at("tmp"), "tmpfs", MountFlags::empty(), None)?;
        mount("none", at("proc"), "proc", MountFlags::empty(), None)?;
        mount_bind(at("from"), at("bind"))?;
        mount_bind(at("f"), at("mounted-file"))?;
        mount_bind("/proc/version", at("proc-file"))
    };
    let test = || {
        fs::write(at("tmp/inside"), b"").unwrap();
        let check = |one_file_system, from, expected: &[&str], left_out: &[&str]| {
            let options = Options { one_file_system, ..Options::default() };
            let mut walk = walk(dir.path(), &rules(&[], &[], None), options, from);
            let told: Vec<_> = walk.by_ref().map(|item| line(&item.unwrap())).collect();
            assert_eq!(told, expected);
            assert_eq!(walk.mounts_left_out(), left_out.iter().map(path).collect::<Vec<_>>());
        };
        let (mounted, plain) = (["mounted-file !mount", "proc", "proc-file !mount", "tmp"], ["/", "bind"]);
        let entered: Vec<_> =
            [&plain[..], &["bind/x", "f", "from", "from/x", "mounted-file"], &mounted[1..], &["tmp/inside"]].concat();
        check(false, Position::Start, &entered, &["proc"]);
        let stopped: Vec<_> = [&plain[..], &["f", "from", "from/x"], &mounted[..]].concat();
        check(true, Position::Start, &stopped, &["bind", "proc", "tmp"]);
        check(true, Position::After(path("tmp/inside")), &[], &["tmp"]);
        check(false, Position::After(path("proc/1")), &["proc-file !mount", "tmp", "tmp/inside"], &["proc"]);
    };
    apart(prepare, test);
}

/// As the unit's ReadWritePaths= and ProtectHome=read-only mount them.
#[test]
fn what_is_mounted_over_itself_is_no_boundary() {
    let dir = make(&["f", "home/a b/x", "home/usb/hidden", "other/y"]);
    let at = |name: &str| dir.path().join(name);
    let prepare = || {
        own_mounts()?;
        mount("none", at("home/usb"), "tmpfs", MountFlags::empty(), None)?;
        mount_bind_recursive(at("home"), at("home"))?;
        mount_bind(at("home/a b"), at("home/a b"))?;
        mount_bind(at("f"), at("f"))?;
        mount_bind(at("home/a b"), at("other"))
    };
    let test = || {
        let options = Options { one_file_system: true, ..Options::default() };
        let mut walk = walk(dir.path(), &rules(&[], &[], None), options, Position::Start);
        let told: Vec<_> = walk.by_ref().map(|item| line(&item.unwrap())).collect();
        assert_eq!(told, ["/", "f", "home", "home/a b", "home/a b/x", "home/usb", "other"]);
        assert_eq!(walk.mounts_left_out(), [path("home/usb"), path("other")]);
        for (name, is_mount) in [("home", false), ("home/a b", false), ("home/usb", true), ("other", true)] {
            let why = tree::why_no_mount(&at(name)).unwrap();
            assert!(why.is_none() == is_mount && why.is_none_or(|why| why.contains("over itself")), "{name}: {why:?}");
        }
    };
    apart(prepare, test);
}

#[test]
fn what_may_not_be_read_is_told_once_and_the_walk_goes_on() {
    let dir = make(&["listed/x", "shut/x/y", "z"]);
    let mode = |name: &str, mode| fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("listed", 0o400);
    mode("shut", 0o000);
    let test = || {
        assert_eq!(lines(&all(plain(dir.path()))), ["/", "listed", "listed/x !denied", "shut !denied", "z"]);
        // Going on within what can no longer be listed: its rest is a loss, behind the position.
        let from = |position| lines(&all(walk(dir.path(), &rules(&[], &[], None), Options::default(), position)));
        let after = from(Position::After(path("shut/x/y")));
        assert_eq!(after, ["shut/x (and what follows) !denied", "z"]);
        assert_eq!(from(Position::After(path("shut"))), ["shut/(what is in it) !denied", "z"]);
        assert_eq!(from(Position::At(path("shut/x/y"))), ["shut/x/y !denied", "z"]);
        assert_eq!(from(Position::At(path("shut"))), ["shut !denied", "z"]);
        let rest = path("shut/x (and what follows)");
        assert!(path("shut/x/y") < rest && path("shut/x\u{1}") > path("shut/x/y") && rest < path("z"));
        // As root of a source it holds the whole source.
        let mut shut = walk(&dir.path().join("listed"), &rules(&[], &[], None), Options::default(), Position::Start);
        mode("listed", 0o000);
        assert!(matches!(shut.next(), Some(Err(SourceError::List { .. }))));
        assert!(shut.next().is_none());
    };
    apart(no_rights, test);
    mode("listed", 0o700);
    mode("shut", 0o700);
}

#[test]
fn a_source_removed_behind_its_mount_is_lost() {
    let dir = make(&["origin/a", "origin/b", "mounted/"]);
    let (origin, mounted) = (dir.path().join("origin"), dir.path().join("mounted"));
    let prepare = || own_mounts().and_then(|()| mount_bind(&origin, &mounted));
    let test = || {
        let mut walk = plain(&mounted);
        walk.next().unwrap().unwrap();
        fs::remove_dir_all(&origin).unwrap();
        assert!(matches!(walk.next(), Some(Err(SourceError::Lost { .. }))));
    };
    apart(prepare, test);
}

/// ext4 without the feature `filetype` tells no types in its listings, as old XFS and some FUSE filesystems do.
#[test]
fn where_listings_tell_no_types_rules_still_do_what_they_say() {
    let dir = make(&["mnt/"]);
    let (image, mnt) = (dir.path().join("image"), dir.path().join("mnt"));
    fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
    let run = |command: &mut Command| {
        let done = command.output().is_ok_and(|output| output.status.success());
        if done { Ok(()) } else { Err(rustix::io::Errno::PERM) }
    };
    let prepare = || {
        own_mounts()?;
        run(Command::new("mkfs.ext4").args(["-q", "-O", "^filetype"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &mnt]))
    };
    let test = || {
        for name in ["a/x", "b/a", "t/TAG", "t/x", "u/TAG/x", "u/y", "lost+found/x"] {
            fs::create_dir_all(mnt.join(name).parent().unwrap()).unwrap();
            fs::write(mnt.join(name), b"").unwrap();
        }
        let rules = rules(&["a/", "/lost+found"], &[], Some("TAG"));
        let told = lines(&all(walk(&mnt, &rules, Options::default(), Position::Start)));
        let tagged = format!("t/x x1 #{RULE_TAG}");
        let expected =
            ["/", "a x1 #0", "b", "b/a", "lost+found x1 #1", "t", "t/TAG", &tagged, "u", "u/TAG", "u/TAG/x", "u/y"];
        assert_eq!(told, expected);
    };
    apart(prepare, test);
}
