//! Promises about a source that does not hold still, or cannot be read. The program is stopped while it reads one
//! file, the tree is changed, and it goes on: no luck is needed.

mod common;

use common::{World, path_of};
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, symlink},
    path::Path,
    process::Command,
};

const SECRET: &str = "THE SECRET OUTSIDE OF THE SOURCE";
/// Longer than what is read at once, so that a file can change between two reads.
const LEN: usize = 3 << 20;

/// A source of `a`, `m` (which is read in three goes) and `z`, with `d/inside` between them, and a secret outside.
fn world(retries: u32) -> World {
    let mut world = World::new();
    "8MiB".clone_into(&mut world.setup.max_size);
    "64MiB".clone_into(&mut world.setup.cap);
    world.setup.pack = format!("retries = {retries}");
    for (name, byte) in [("a", b'a'), ("m", b'm'), ("n", b'n'), ("z", b'z')] {
        fs::write(world.source.join(name), vec![byte; if name == "m" { LEN } else { 5000 }]).unwrap();
    }
    fs::create_dir(world.source.join("o")).unwrap();
    fs::write(world.source.join("o/inside"), "inside").unwrap();
    fs::create_dir(world.root.path().join("outside")).unwrap();
    fs::write(world.root.path().join("outside/inside"), SECRET).unwrap();
    world
}

/// A run that is stopped during the first read of `m`, changed, and continued. The code that it ends with.
fn run_while(world: &World, change: impl FnOnce(&World)) -> i32 {
    world.run_once_while(&world.source.join("m"), |_| change(world))
}

/// Unpacks everything with GNU tar, looks through the tar with another reader, and searches it for the secret.
fn unpacked(world: &World) -> std::path::PathBuf {
    let to = world.dir("together");
    for key in world.keys() {
        let tar = world.open_piece_alone(&key, &to);
        let list = "import sys, tarfile\nfor member in tarfile.open(sys.argv[1], errorlevel=2): print(member.name)";
        let read = world.bash("python3 -c \"$2\" \"$1\"", &[tar.as_os_str(), list.as_ref()]).expect(0);
        let members = world.manifest(&key).members.len();
        assert_eq!(read.text().lines().count(), members, "tarfile and the manifest see the same members");
        assert_eq!(
            world.bash("! grep -q -a -F \"$2\" \"$1\"", &[tar.as_os_str(), SECRET.as_ref()]).code,
            0,
            "The secret"
        );
    }
    let holds = |name: &str, byte: u8| fs::read(to.join(name)).unwrap() == vec![byte; 5000];
    assert!(holds("a", b'a') && holds("z", b'z'), "Members before and behind are intact");
    to
}

/// Reason and severity of all exceptions, by path.
fn exceptions(world: &World) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |line: &Value| (String::from_utf8(path_of(line)).unwrap(), text(&line["reason"]), text(&line["severity"]));
    world.exceptions().iter().map(of).collect()
}

fn told(path: &str, reason: &str, severity: &str) -> Vec<(String, String, String)> {
    vec![(path.to_owned(), reason.to_owned(), severity.to_owned())]
}

fn note(world: &World, path: &str) -> Value {
    let keys = world.keys();
    let manifests = keys.iter().map(|key| world.manifest(key));
    manifests
        .into_iter()
        .find_map(|found| found.by_path().get(path.as_bytes()).map(|member| member["note"].clone()))
        .unwrap()
}

fn rename(from: &Path, to: &Path) {
    assert!(Command::new("mv").arg("-T").args([from, to]).status().unwrap().success());
}

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(&vec![b'+'; 2_000_000]).unwrap();
}

#[test]
fn a_file_that_grows_is_archived_as_it_was_at_the_beginning() {
    let world = world(0);
    assert_eq!(run_while(&world, |world| append(&world.source.join("m"))), 0);
    assert!(fs::read(unpacked(&world).join("m")).unwrap() == vec![b'm'; LEN]);
    assert_eq!(exceptions(&world), told("m", "grew", "info"));
    assert_eq!(note(&world, "m"), "changed");
}

#[test]
fn a_file_that_shrinks_is_filled_with_zeros_and_counts_as_loss() {
    let world = world(0);
    let cut =
        |world: &World| File::options().write(true).open(world.source.join("m")).unwrap().set_len(1_500_000).unwrap();
    assert_eq!(run_while(&world, cut), 3);
    let mut expected = vec![b'm'; LEN];
    expected[1_500_000..].fill(0);
    assert!(fs::read(unpacked(&world).join("m")).unwrap() == expected);
    assert_eq!(exceptions(&world), told("m", "damaged", "loss"));
    assert_eq!(note(&world, "m"), "damaged");
}

#[test]
fn a_file_that_is_overwritten_while_it_is_read_counts_as_loss() {
    let world = world(0);
    let overwrite = |world: &World| {
        let mut file = File::options().write(true).open(world.source.join("m")).unwrap();
        file.seek(SeekFrom::Start(2_000_000)).unwrap();
        file.write_all(b"new").unwrap();
    };
    assert_eq!(run_while(&world, overwrite), 3);
    unpacked(&world);
    assert_eq!(exceptions(&world), told("m", "changed", "loss"));
}

#[test]
fn a_file_that_changed_once_is_read_again_and_clean() {
    for what in ["grow", "shrink", "overwrite"] {
        let world = world(3);
        let change = |world: &World| {
            let path = world.source.join("m");
            let file = File::options().write(true).open(&path).unwrap();
            match what {
                "grow" => append(&path),
                "shrink" => file.set_len(1_500_000).unwrap(),
                _ => file.write_all_at(b"new", 10).unwrap(),
            }
        };
        assert_eq!(run_while(&world, change), 0, "{what}");
        let to = unpacked(&world);
        assert!(fs::read(to.join("m")).unwrap() == fs::read(world.source.join("m")).unwrap(), "{what}");
        assert_eq!(exceptions(&world), [], "{what}");
    }
}

#[test]
fn a_file_that_is_removed_while_it_is_read_is_archived_whole() {
    let world = world(3);
    assert_eq!(run_while(&world, |world| fs::remove_file(world.source.join("m")).unwrap()), 0);
    assert!(fs::read(unpacked(&world).join("m")).unwrap() == vec![b'm'; LEN]);
    assert_eq!(exceptions(&world), []);
}

/// Changes something behind `m`, after it was listed and before it is opened.
fn swapped(change: impl FnOnce(&World), code: i32, expected: Vec<(String, String, String)>) -> World {
    let world = world(3);
    let ended = run_while(&world, change);
    // Before all else: what leaked?
    unpacked(&world);
    assert_eq!(ended, code);
    assert_eq!(exceptions(&world), expected);
    world
}

#[test]
fn what_vanished_between_listing_and_opening_is_no_alarm() {
    let gone = |world: &World| fs::remove_file(world.source.join("n")).unwrap();
    swapped(gone, 0, told("n", "vanished", "info"));
}

#[test]
fn a_symlink_in_place_of_a_file_leads_nowhere() {
    let swap = |world: &World| {
        fs::remove_file(world.source.join("n")).unwrap();
        symlink(world.root.path().join("outside/inside"), world.source.join("n")).unwrap();
    };
    let world = swapped(swap, 3, told("n", "replaced", "loss"));
    assert!(world.dir("together").join("n").symlink_metadata().is_err());
}

#[test]
fn a_symlink_in_place_of_a_directory_leads_nowhere() {
    let swap = |world: &World| {
        rename(&world.source.join("o"), &world.root.path().join("o"));
        symlink(world.root.path().join("outside"), world.source.join("o")).unwrap();
    };
    let world = world(3);
    let ended = run_while(&world, swap);
    unpacked(&world);
    assert_eq!(ended, 3);
    let found = exceptions(&world);
    assert!(found.contains(&told("o/inside", "replaced", "loss")[0]), "{found:?}");
}

#[test]
fn a_fifo_or_another_file_in_place_of_a_file_is_not_opened() {
    let fifo = |world: &World| {
        fs::remove_file(world.source.join("n")).unwrap();
        assert!(Command::new("mkfifo").arg(world.source.join("n")).status().unwrap().success());
    };
    swapped(fifo, 3, told("n", "replaced", "loss"));
    let other = |world: &World| {
        fs::write(world.root.path().join("new"), "another").unwrap();
        rename(&world.root.path().join("new"), &world.source.join("n"));
    };
    swapped(other, 3, told("n", "replaced", "loss"));
}

#[test]
fn a_file_that_changes_between_its_segments_is_told_and_every_segment_still_opens() {
    let mut world = world(3);
    "1MiB".clone_into(&mut world.setup.max_size);
    let change = |world: &World| {
        let file = File::options().write(true).open(world.source.join("m")).unwrap();
        file.write_all_at(b"new", 2_500_000).unwrap();
        file.set_len(2_900_000).unwrap();
    };
    assert_eq!(run_while(&world, change), 3);
    world.join_segments(&unpacked(&world).join("m"));
    assert_eq!(fs::metadata(world.dir("together").join("m")).unwrap().len(), LEN as u64, "The layout stays");
    let found = exceptions(&world);
    assert!(
        !found.is_empty() && found.iter().all(|(path, _, severity)| path == "m" && severity == "loss"),
        "{found:?}"
    );
}

#[test]
fn a_source_that_goes_away_while_it_is_read_is_held_and_not_archived_as_gone() {
    let world = world(3);
    let away = |world: &World| fs::remove_dir_all(&world.source).unwrap();
    assert_eq!(run_while(&world, away), 75);
    let is_piece = |key: &String| key.contains(".tar.") || key.contains("index");
    assert!(!world.objects().iter().any(is_piece), "{:?}", world.objects());
    fs::create_dir(&world.source).unwrap();
    fs::write(world.source.join("back"), "again").unwrap();
    world.run_once().expect(0);
    let to = world.dir("together");
    world.keys().iter().for_each(|key| drop(world.open_piece_alone(key, &to)));
    assert_eq!(fs::read_to_string(to.join("back")).unwrap(), "again");
}

fn inject(world: &World, name: &str, what: &str) -> i32 {
    let path = world.source.join(name);
    world.run_once_under_strace(&["-P".as_ref(), path.as_os_str(), "-e".as_ref(), what.as_ref()]).code
}

#[test]
fn a_file_that_cannot_be_read_is_zeros_and_says_so() {
    let world = world(1);
    assert_eq!(inject(&world, "n", "inject=pread64,read:error=EIO"), 3);
    assert!(fs::read(unpacked(&world).join("n")).unwrap() == vec![0; 5000]);
    assert_eq!(exceptions(&world), told("n", "damaged", "loss"));
    assert_eq!(world.exceptions()[0]["errno"], 5);
}

#[test]
fn a_read_that_fails_and_then_works_leaves_no_trace() {
    let world = world(3);
    assert_eq!(inject(&world, "m", "inject=pread64,read:error=EIO:when=2..3"), 0);
    assert!(fs::read(unpacked(&world).join("m")).unwrap() == vec![b'm'; LEN]);
    assert_eq!(exceptions(&world), []);
}

#[test]
fn a_directory_that_cannot_be_listed_is_a_loss_and_the_rest_is_archived() {
    let world = world(3);
    assert_eq!(inject(&world, "o", "inject=getdents64:error=EIO"), 3);
    unpacked(&world);
    assert_eq!(exceptions(&world), told("o", "unreadable", "loss"));
}
