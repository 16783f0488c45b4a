//! Trees that change under the walk to lead it outside, and what must not be opened.

use super::{common::World, exceptions, setting};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

const SECRET: &str = "THE SECRET OUTSIDE OF THE SOURCE";
const PAIRS: usize = 100;

/// Names of which two each change places all the time: a file or a directory, and a symlink to its like outside.
fn world() -> World {
    let mut world = World::new();
    "8MiB".clone_into(&mut world.setup.max_size);
    "64MiB".clone_into(&mut world.setup.cap);
    // The tars lie in the vault as they are, to be searched.
    "none".clone_into(&mut world.setup.method);
    "method = \"none\"".clone_into(&mut world.setup.encrypt);
    let outside = world.dir("outside");
    fs::write(outside.join("inside"), SECRET).unwrap();
    for number in 0..PAIRS {
        let own = |kind: &str| world.source.join(format!("{kind}{number:03}"));
        fs::write(own("file"), "of the source").unwrap();
        symlink(outside.join("inside"), own("leaf")).unwrap();
        fs::create_dir(own("dir")).unwrap();
        fs::write(own("dir").join("inside"), "of the source").unwrap();
        symlink(&outside, own("way")).unwrap();
    }
    world
}

#[expect(clippy::disallowed_methods, reason = "a test changes a tree as its users would")]
fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// Whether any file in the vault holds it.
fn is_in_vault(world: &World, text: &str) -> bool {
    world.bash("grep -r -q -a -F -- \"$2\" \"$1\"", &[world.vault.as_os_str(), text.as_ref()]).code == 0
}

#[test]
fn no_exchange_of_names_leads_outside_however_often() {
    let (world, wanted) = (world(), setting("ARCHIVER_SWAPS", 10_000));
    let (swaps, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut runs, mut replaced) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..PAIRS).cycle() {
                for (one, other) in [("file", "leaf"), ("dir", "way")] {
                    let own = |kind: &str| world.source.join(format!("{kind}{number:03}"));
                    exchange(&own(one), &own(other));
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
                if ends.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        while runs < 3 || swaps.load(Ordering::Relaxed) < wanted {
            let ran = world.archiver(&["run", "--once", "--pass-now", "data"]);
            let is_fine = ran.code == 0 || ran.code == 3;
            if !is_fine {
                ends.store(true, Ordering::Relaxed);
            }
            assert!(is_fine, "{}: {}", ran.code, ran.stderr);
            replaced += exceptions(&world).iter().filter(|(_, reason, _)| reason == "replaced").count();
            runs += 1;
        }
        ends.store(true, Ordering::Relaxed);
    });
    println!("{swaps:?} swaps in {runs} runs, {replaced} of them met");
    assert!(!is_in_vault(&world, SECRET), "The secret");
    assert!(is_in_vault(&world, "of the source"), "What is searched is what was archived");
    assert!(replaced > 0, "No swap came between listing and opening");
}

#[test]
fn special_files_are_archived_and_never_opened() {
    if !super::is_root() {
        return;
    }
    let world = World::new();
    world.fill(
        "mkfifo special.fifo; mknod special.char c 1 5; mknod special.block b 7 200; echo plain > plain; \
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"special.socket\")'",
    );
    // A file for each thread: calls are not cut into two lines.
    let log = world.dir("calls").join("of");
    let mut command = std::process::Command::new("timeout");
    command.args(["-k", "5", "60", "strace", "-ff", "-y", "-s", "4096", "-e", "trace=open,openat,openat2", "-o"]);
    command.arg(&log).args(["--", super::common::BINARY, "--config"]).arg(world.config()).args(["run", "--once"]);
    let ran = super::common::Ran::of(command.output().unwrap()).expect(0);
    let text = world.bash("cat \"$1\"/of.*", &[world.dir("calls")]).expect(0).text();
    let opened = |name: &str| {
        // What a call leads to is behind `=`, whatever it went through.
        let found = text.lines().filter(|line| line.contains(name));
        found.filter(|line| !line.contains("O_PATH") && !line.contains("ENO")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!opened("/source/plain").is_empty(), "A file is opened, and seen to be: {}", ran.stderr);
    assert!(text.lines().any(|line| line.contains("special.fifo") && line.contains("O_PATH")));
    assert_eq!(opened("/source/special."), Vec::<String>::new());
    let to = super::unpacked(&world);
    let types = world.bash("cd \"$1\"; stat -c '%n %F %t,%T' special.*", &[&to]).expect(0).text();
    assert_eq!(
        types,
        "special.block block special file 7,c8\nspecial.char character special file 1,5\nspecial.fifo fifo 0,0\n"
    );
    assert_eq!(exceptions(&world), [super::told("special.socket", "socket", "info")]);
}
