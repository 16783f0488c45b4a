//! Mounts in a source, and sources that are mounts.

use super::{
    common::World, exceptions, hung::until, is_root, odd::Mounted, rights::run_as_ordinary_user, told, unpacked,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Unmounted in the end, whatever happened.
struct Mount(PathBuf);

impl Mount {
    fn new(args: &[&str], at: &Path) -> Mount {
        fs::create_dir_all(at).unwrap();
        assert!(Command::new("mount").args(args).arg(at).status().unwrap().success());
        Mount(at.to_owned())
    }

    fn bind(from: &Path, at: &Path) -> Mount {
        Mount::new(&["--bind", from.to_str().unwrap()], at)
    }

    /// Whoever is in it may stay.
    fn away(&self) {
        assert!(Command::new("umount").arg("-l").arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A source with a tmpfs and another directory mounted in it.
fn mounts_inside(world: &World) -> [Mount; 2] {
    let (tmpfs, bind) = (world.source.join("m/tmpfs"), world.source.join("n/bind"));
    fs::write(world.source.join("a"), "first").unwrap();
    fs::write(world.dir("elsewhere").join("inside"), "elsewhere").unwrap();
    let mounts = [Mount::new(&["-t", "tmpfs", "tmpfs"], &tmpfs), Mount::bind(&world.dir("elsewhere"), &bind)];
    fs::write(tmpfs.join("inside"), "in memory").unwrap();
    fs::write(world.source.join("z"), "last").unwrap();
    mounts
}

#[test]
fn mounts_in_a_source_are_entered_unless_it_is_to_be_one_filesystem() {
    if !is_root() {
        return;
    }
    for is_one in [false, true] {
        let mut world = World::new();
        let mounts = mounts_inside(&world);
        world.setup.source = format!("one_file_system = {is_one}");
        world.run_once().expect(0);
        let to = unpacked(&world);
        assert_eq!(fs::read(to.join("z")).unwrap(), b"last");
        let left_out = [told("m/tmpfs", "mount", "info"), told("n/bind", "mount", "info")];
        if is_one {
            assert_eq!(exceptions(&world), left_out);
            assert!(["m/tmpfs", "n/bind"].iter().all(|at| fs::read_dir(to.join(at)).unwrap().next().is_none()));
        } else {
            assert_eq!(exceptions(&world), []);
            assert_eq!(fs::read(to.join("m/tmpfs/inside")).unwrap(), b"in memory");
            assert_eq!(fs::read(to.join("n/bind/inside")).unwrap(), b"elsewhere");
        }
        drop(mounts);
    }
}

/// A source of `a`, `z` and `m`, where a filesystem is mounted of which nobody may ask anything.
fn hung_mount(world: &World) -> Mounted {
    let at = world.source.join("m");
    fs::write(world.source.join("a"), "first").unwrap();
    fs::create_dir(&at).unwrap();
    fs::write(world.source.join("z"), "last").unwrap();
    let mounted = Mounted::new(&at, |nodes| {
        nodes.file(1, "inside", "x");
    });
    mounted.hang(1);
    mounted
}

#[test]
fn a_mount_that_hangs_is_not_touched_where_it_is_left_out() {
    if !is_root() {
        return;
    }
    let left_out = [told("m", "mount", "info")];
    for (lines, expected) in [("one_file_system = true", &left_out[..]), ("exclude = [\"/m/\"]", &[])] {
        let mut world = World::new();
        lines.clone_into(&mut world.setup.source);
        let mounted = hung_mount(&world);
        let (mut run, mut code) = (world.spawn(&["run", "--once"]), None);
        until("the end of the run", 20, || {
            assert!(!mounted.is_waited_for(), "It asks what is mounted there");
            code = run.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        });
        assert_eq!(code, Some(Some(0)), "{lines}");
        let to = unpacked(&world);
        assert_eq!(fs::read(to.join("z")).unwrap(), b"last");
        assert_eq!(exceptions(&world), expected);
        assert_eq!(to.join("m").exists(), !expected.is_empty(), "{lines}");
    }
}

/// As root and the mount of a user through FUSE, but the other way round.
#[test]
fn a_mount_of_another_user_is_left_out_like_any_other() {
    if !is_root() {
        return;
    }
    for (is_one, code, expected) in [(false, 3, told("m", "denied", "loss")), (true, 0, told("m", "mount", "info"))] {
        let mut world = World::new();
        world.setup.source = format!("one_file_system = {is_one}");
        let _mounted = hung_mount(&world);
        run_as_ordinary_user(&world).expect(code);
        assert_eq!(exceptions(&world), [expected]);
    }
}

/// A directory of several pieces, mounted as the source.
fn mounted_source() -> (World, PathBuf) {
    let mut world = World::new();
    "require_mount = true".clone_into(&mut world.setup.source);
    let data = world.dir("data");
    for number in 0..6 {
        world.bash("head -c 700000 /dev/urandom > \"$1\"", &[data.join(format!("f{number}"))]).expect(0);
    }
    (world, data)
}

fn is_whole(world: &World, data: &Path) {
    let to = unpacked(world);
    world.bash("diff -r \"$1\" \"$2\"", &[data, &to]).expect(0);
    assert_eq!(exceptions(world), []);
}

fn pass_objects(world: &World) -> usize {
    world.objects().iter().filter(|key| key.contains("index.json") || key.contains("tree.txt")).count()
}

#[test]
fn a_source_that_must_be_mounted_is_held_until_it_is() {
    if !is_root() {
        return;
    }
    let (world, data) = mounted_source();
    fs::write(world.source.join("below"), "not of the source").unwrap();
    for _ in 0..2 {
        let ran = world.run_once().expect(75);
        assert!(ran.stderr.contains("is not a mount point"), "{}", ran.stderr);
        assert_eq!(world.objects().len(), 0, "{:?}", world.objects());
    }
    let _mount = Mount::bind(&data, &world.source);
    world.run_once().expect(0);
    is_whole(&world, &data);
}

#[test]
fn a_source_that_is_unmounted_halfway_is_held_and_goes_on_where_it_was() {
    if !is_root() {
        return;
    }
    let (world, data) = mounted_source();
    let mount = Mount::bind(&data, &world.source);
    let code = world.run_once_while(&world.source.join("f3"), |pid| {
        mount.away();
        assert!(Command::new("kill").args(["-TERM", pid]).status().unwrap().success());
    });
    assert_eq!((code, pass_objects(&world)), (143, 0), "It was to stop");
    let before = world.pieces().len();
    world.run_once().expect(75);
    assert_eq!((world.pieces().len(), pass_objects(&world)), (before, 0), "Nothing is archived of what is not there");
    let _mount = Mount::bind(&data, &world.source);
    world.run_once().expect(0);
    is_whole(&world, &data);
    assert_eq!(pass_objects(&world), 2);
}
