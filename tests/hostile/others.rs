//! A source that hangs, and the others, which do not.

use super::{
    common::{BINARY, World},
    hung::{Daemon, ESCAPED, Hangs, WATCHDOG, completes, noise, source, until},
    is_root,
    odd::Mounted,
};
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// More pieces than the one that hangs has before it does.
const FILES: usize = 12;

/// A world of two sources, the first of which will hang, inside a file.
fn world(change: impl FnOnce(&mut World)) -> (World, Mounted) {
    let mut world = World::new();
    let other = world.dir("other");
    for number in 0..FILES {
        fs::write(other.join(number.to_string()), noise(700_000, 50 + number as u8)).unwrap();
    }
    world.setup.more = format!("[[source]]\nname = \"other\"\npath = {other:?}");
    change(&mut world);
    let mounted = source(&world, Hangs::File);
    (world, mounted)
}

fn has_ended(log: &str, source: &str) -> bool {
    log.lines().any(|line| line.contains("Pass ended") && line.contains(&format!("source={source:?}")))
}

fn other_is_whole(world: &World) {
    let pieces = world.archiver(&["ls", "other", "--json"]).expect(0).json_lines();
    let to = world.dir("other-back");
    for piece in &pieces {
        world.open_piece_alone(piece["key"].as_str().unwrap(), &to);
    }
    for number in 0..FILES {
        assert!(fs::read(to.join(number.to_string())).unwrap() == noise(700_000, 50 + number as u8));
    }
}

/// The pass of the other one ends meanwhile, and that of the one that hung when it goes on.
fn goes_on() {
    let (world, mounted) = world(|_| ());
    let mut daemon = Daemon::start(&world);
    until("a read that hangs", 30, || mounted.is_waited_for());
    until("the end of the other pass", 90, || {
        assert!(daemon.heard.lock().unwrap().0.elapsed() < WATCHDOG, "The watchdog would bite");
        has_ended(&daemon.log(), "other")
    });
    assert!(mounted.is_waited_for() && !has_ended(&daemon.log(), "data"));
    until("the line of the log", 10, || daemon.log().contains("Archiving stands still source=\"data\""));
    mounted.go_on();
    until("the end of the pass that hung", 30, || has_ended(&daemon.log(), "data"));
    until("the end of the hang in the log", 5, || daemon.log().contains("Archiving goes on source=\"data\""));
    assert!(!daemon.log().contains("Will retry"), "{}", daemon.log());
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
    completes(&world, "");
    other_is_whole(&world);
}

/// A stop ends the daemon although one source hangs and the other one is through, and says which.
fn ends() {
    let (world, mounted) = world(|_| ());
    let mut daemon = Daemon::start(&world);
    until("a read that hangs", 30, || mounted.is_waited_for());
    until("the end of the other pass", 90, || has_ended(&daemon.log(), "other"));
    println!("It ends within {:?}", daemon.terminate());
    let line = format!("what=\"the archiving of {} in data\"", ESCAPED.replace('\\', r"\\"));
    assert!(daemon.log().contains(&line), "{}", daemon.log());
    mounted.go_on();
    assert_eq!(daemon.code(), Some(0));
    completes(&world, "");
    other_is_whole(&world);
}

/// A run that ends by itself does not before the hang does, and then everything is there.
fn once() {
    let (world, mounted) = world(|_| ());
    let log = world.root.path().join("log");
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(world.config()).args(["run", "--once"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut run = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    until("a read that hangs", 30, || mounted.is_waited_for());
    until("the end of the other pass", 90, || has_ended(&fs::read_to_string(&log).unwrap(), "other"));
    thread::park_timeout(Duration::from_secs(3));
    assert_eq!(run.try_wait().unwrap(), None, "It takes a pass that hangs for one that has ended");
    mounted.go_on();
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", fs::read_to_string(&log).unwrap());
    completes(&world, "");
    other_is_whole(&world);
}

/// What hangs keeps the room of its draft. Who finds none left beside it waits, and takes nothing away from it.
fn without_room() {
    let (world, mounted) = world(|world| {
        "8MiB".clone_into(&mut world.setup.max_size);
        world.setup.cap = (3 * (8_u64 << 20) * 101 / 100 + 1).to_string();
    });
    let mut daemon = Daemon::start(&world);
    until("a read that hangs", 30, || mounted.is_waited_for());
    until("a wait for room", 90, || daemon.log().contains("Waiting for room"));
    until("the line of the log", 60, || daemon.log().contains("Archiving stands still source=\"data\""));
    // It is worth keeping, and long enough for a look at who could make room.
    let has_mark = |name: &str| name.starts_with("data.") && name.ends_with(".tar.mark");
    let staged = fs::read_dir(world.staging.join("tmp")).unwrap();
    let names: Vec<String> = staged.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| has_mark(name)), "{names:?}");
    thread::park_timeout(Duration::from_secs(5));
    mounted.go_on();
    for source in ["data", "other"] {
        until("the end of both passes", 60, || has_ended(&daemon.log(), source));
    }
    assert!(!daemon.log().contains("Will retry"), "{}", daemon.log());
    daemon.terminate();
    assert_eq!(daemon.code(), Some(0));
    completes(&world, "");
    other_is_whole(&world);
}

/// Side by side, because each of them takes as long as a hang is waited for.
#[test]
fn a_source_that_hangs_keeps_no_other_source() {
    if !is_root() {
        return;
    }
    thread::scope(|scope| {
        for case in [goes_on, ends, once, without_room] {
            scope.spawn(case);
        }
    });
}
