//! Trees at the limits of what a filesystem holds and of what tools can unpack.

use super::{common::World, exceptions, setting, unpacked};
use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    process::Command,
    time::Instant,
};

const DEPTH: usize = 40;
const NAME_LEN: usize = 200;
/// What the kernel takes as one path, without the NUL.
const PATH_LEN_MAX: usize = 4095;

/// Directories below each other, each with a file that says how deep it lies.
const DEEP: &str = "
import os, sys
os.chdir(sys.argv[1])
for depth in range(int(sys.argv[2])):
    os.mkdir('d' * int(sys.argv[3]))
    os.chdir('d' * int(sys.argv[3]))
    open('f', 'w').write(str(depth))
";

/// The depth of every file in a tar, and what it says.
const FILES: &str = "
import sys, tarfile
for member in (archive := tarfile.open(sys.argv[1], errorlevel=2)):
    if member.name.endswith('/f'):
        print(member.name.count('/') - member.name.startswith('./'), archive.extractfile(member).read().decode())
";

#[test]
fn what_lies_too_deep_for_tar_is_told_and_read_by_others_and_the_rest_unpacks() {
    let world = World::new();
    let (depth, len) = (DEPTH.to_string(), NAME_LEN.to_string());
    world
        .bash(
            "python3 -c \"$2\" \"$1\" \"$3\" \"$4\"",
            &[world.source.as_os_str(), DEEP.as_ref(), depth.as_ref(), len.as_ref()],
        )
        .expect(0);
    fs::write(world.source.join("z"), "last").unwrap();
    world.run_once().expect(0);

    // As stock tar counts: with the `./` in front.
    let path_len = |depth: usize| "./".len() + depth * (NAME_LEN + 1) + "f".len();
    let is_deep = |depth: &usize| path_len(*depth) > PATH_LEN_MAX;
    let deep = (1..=DEPTH).filter(is_deep).count();
    let found = exceptions(&world);
    assert!(found.iter().all(|(_, reason, severity)| reason == "deep" && severity == "info"), "{found:?}");
    assert_eq!(found.iter().filter(|(path, ..)| path.ends_with("/f")).count(), deep);

    let keys = world.keys();
    assert_eq!(keys.len(), 1);
    let tar = world.root.path().join("plain.tar");
    fs::write(&tar, world.open_object(&keys[0])).unwrap();
    let to = world.dir("together");
    let ran = world.bash("tar -xpf \"$1\" -C \"$2\"", &[&tar, &to]);
    assert!(ran.code == 2 && ran.stderr.contains("File name too long"), "{}: {}", ran.code, ran.stderr);
    assert_eq!(fs::read_to_string(to.join("z")).unwrap(), "last");
    let unpacked = world.bash("find \"$1\" -name f | wc -l", &[&to]).expect(0).text();
    assert_eq!(unpacked.trim().parse::<usize>().unwrap(), DEPTH - deep);

    let read = world.bash("python3 -c \"$2\" \"$1\"", &[tar.as_os_str(), FILES.as_ref()]).expect(0).text();
    // A directory comes before the file beside it.
    let lines: Vec<String> = (1..=DEPTH).rev().map(|depth| format!("{depth} {}", depth - 1)).collect();
    assert_eq!(read.lines().collect::<Vec<_>>(), lines);
    let listed = world.bash("bsdtar -tf \"$1\" | grep -c '/f$'", &[&tar]).expect(0).text();
    assert_eq!(listed.trim().parse::<usize>().unwrap(), DEPTH);
    Command::new("rm").arg("-rf").args([&world.source, &to]).status().unwrap();
}

#[test]
fn a_file_of_hardly_anything_but_holes_is_its_data_and_unpacks_as_large() {
    let (gib, mut world) = (setting("ARCHIVER_HOLES_GIB", 4), World::new());
    world.setup.max_size = format!("{}GiB", 2 * gib);
    world.setup.cap = format!("{}GiB", 7 * gib);
    let (size, data) = (gib << 30, vec![7u8; 1 << 20]);
    let file = File::create(world.source.join("m")).unwrap();
    file.set_len(size).unwrap();
    for part in 0..4 {
        file.write_all_at(&data[..1 << 18], size / 4 * part + 12_345).unwrap();
    }
    let began = Instant::now();
    world.run_once().expect(0);
    println!("{gib} GiB with 1 MiB of data took {:?}", began.elapsed());
    assert_eq!(exceptions(&world), []);
    assert!(world.manifest(&world.keys()[0]).head["tar_size"].as_u64().unwrap() < 2 << 20);
    let to = unpacked(&world);
    let back = File::open(to.join("m")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), size);
    assert!(back.metadata().unwrap().blocks() * 512 < 4 << 20, "Holes stay holes");
    let mut read = vec![0; data.len()];
    for part in 0..4 {
        let len = 1 << 18;
        back.read_exact_at(&mut read[..len + 2], size / 4 * part + 12_344).unwrap();
        assert!(read[0] == 0 && read[1..=len] == data[..len] && read[len + 1] == 0);
    }
}

#[test]
fn a_hole_that_is_punched_while_the_file_is_read_is_archived_as_it_is_then() {
    let mut world = World::new();
    "8MiB".clone_into(&mut world.setup.max_size);
    "64MiB".clone_into(&mut world.setup.cap);
    let file = world.source.join("m");
    fs::write(&file, vec![b'm'; 3 << 20]).unwrap();
    let code = world.run_once_while(&file, |_| {
        world.bash("fallocate -p -o 4096 -l 1500000 \"$1\"", &[&file]).expect(0);
    });
    assert_eq!(code, 0);
    assert_eq!(exceptions(&world), []);
    assert!(fs::read(unpacked(&world).join("m")).unwrap() == fs::read(&file).unwrap());
}
