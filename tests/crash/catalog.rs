//! The catalog is damaged, old, of another version or gone while nothing runs: never started over in silence, never a
//! false "done", and all is well when what the message says has been done.

use crate::{
    check::{Compare, assert_right, files, judge},
    source::{self, sh},
    world::{Setup, World},
};

/// Damage, and what the next run must say of it.
struct Case {
    name: &'static str,
    damage: &'static str,
    said: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "cut", damage: "truncate -s -5000 catalog.sqlite", said: "is damaged" },
    Case { name: "cut to a page", damage: "truncate -s 4096 catalog.sqlite", said: "is damaged" },
    Case { name: "empty", damage: ": > catalog.sqlite", said: "it is empty" },
    Case { name: "gone", damage: "rm -f catalog.sqlite catalog.sqlite-*", said: "it is gone" },
    Case {
        name: "zeros",
        damage: "dd if=/dev/zero of=catalog.sqlite bs=$(stat -c %s catalog.sqlite) count=1 conv=notrunc status=none",

        said: "is damaged",
    },
    Case {
        name: "flipped bits",
        damage: "for at in 5000 9000 20000 45000 70000; do printf '\\377' | \
            dd of=catalog.sqlite bs=1 seek=$at conv=notrunc status=none; done",

        said: "is damaged",
    },
    Case {
        name: "of a newer version",
        damage: "printf '\\000\\000\\003\\347' | dd of=catalog.sqlite bs=1 seek=60 conv=notrunc status=none",

        said: "use a newer archiver",
    },
];

fn world() -> World {
    World::new(Setup { cap: 64 << 20, compress: "level = 9", ..Setup::default() }, source::mixed)
}

/// Runs until so many pieces are in the vault, and is told to stop.
pub fn stop_at(world: &World, count: usize) {
    let mut running = world.start();
    let is_piece = |path: &String| path.starts_with("h1/") && path.contains(".tar.");
    assert!(running.until(|_| files(&world.path("vault")).iter().filter(|path| is_piece(path)).count() >= count));
    running.terminate();
    assert_eq!(running.code(), Some(143), "{}", running.log());
}

fn is_refused(world: &World, case: &Case) -> Vec<String> {
    let look =
        "find vault state -type f ! -name '*-wal' ! -name '*-shm' | sort; cat state/catalog.sqlite | sha256sum || true";
    let mut wrong = Vec::new();
    sh(&world.path("state"), case.damage);
    let before = sh(&world.path(""), look);
    let ran = world.run();
    if ran.code != Some(7) || !ran.log.contains(case.said) {
        wrong.push(format!("{}: exit code {:?}\n{}", case.name, ran.code, ran.log));
    }
    // Left as it was found, and nothing was sent.
    let after = sh(&world.path(""), look);
    if before != after {
        wrong.push(format!("{}: something was changed\n{before}\n{after}", case.name));
    }
    if world.ask(&["ls", "--all", "--json"]).is_ok() {
        wrong.push(format!("{}: ls says nothing of it", case.name));
    }
    // A copy of all of the state is brought back.
    sh(&world.path(""), "rm -r state; cp -a whole state");
    wrong
}

fn damaged(world: &World) {
    sh(&world.path(""), "cp -a state whole");
    let mut wrong: Vec<String> = CASES.iter().flat_map(|case| is_refused(world, case)).collect();
    wrong.extend(judge(world, &world.run(), Compare::Equal));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_damaged_catalog_stops_a_run_in_the_middle_of_a_pass() {
    let world = world();
    stop_at(&world, 2);
    damaged(&world);
}

#[test]
fn a_damaged_catalog_stops_a_run_after_a_pass() {
    let world = world();
    assert_right(&world, Compare::Equal, "undamaged");
    damaged(&world);
}

#[test]
fn an_older_catalog_in_its_place_loses_and_doubles_nothing() {
    let world = world();
    stop_at(&world, 2);
    sh(&world.path(""), "cp -p state/catalog.sqlite old");
    stop_at(&world, 5);
    sh(&world.path("state"), "rm catalog.sqlite*; mv ../old catalog.sqlite");
    assert_right(&world, Compare::Equal, "older than what was delivered");
}
