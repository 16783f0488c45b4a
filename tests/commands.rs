//! Promises about what the program refuses, holds, leaves out and takes turns with, and the code it ends with.

mod common;
#[path = "commands/config.rs"]
mod config;
#[path = "commands/daemon.rs"]
mod daemon;
#[path = "commands/decrypt.rs"]
mod decrypt;
#[path = "commands/habits.rs"]
mod habits;
#[path = "commands/identity.rs"]
mod identity;
#[path = "commands/left_out.rs"]
mod left_out;
#[path = "commands/giving_up.rs"]
mod giving_up;
#[path = "commands/manual.rs"]
mod manual;
#[path = "commands/metrics.rs"]
mod metrics;
#[path = "commands/pause.rs"]
mod pause;
#[path = "commands/plan.rs"]
mod plan;
#[path = "commands/policy.rs"]
mod policy;
#[path = "commands/pressure.rs"]
mod pressure;
#[path = "commands/reload.rs"]
mod reload;
#[path = "commands/state.rs"]
mod state;

use common::{Ran, World, snapshot::snapshot};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command},
    time::{Duration, Instant},
};

/// What must have happened by then, or never will.
const WAIT: Duration = Duration::from_secs(40);

/// Looks until it is so; every look is a process, so there is no need to rest between them.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < WAIT, "Waited in vain until {what}");
    }
}

fn status(world: &World) -> Value {
    world.archiver(&["status", "--json"]).expect(0).json_lines().remove(0)
}

/// Objects other than the mark of the vault itself.
fn archived(world: &World) -> Vec<String> {
    world.objects().into_iter().filter(|key| key != "archiver.json").collect()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Everything is restored and has the content that the source has.
fn is_restored(world: &World) {
    let to = world.dir("together");
    for key in world.keys() {
        world.open_piece_alone(&key, &to);
    }
    let (a, b) = (snapshot(&world.source), snapshot(&to));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(a.iter().all(|(path, seen)| b[path].content == seen.content && b[path].mtime == seen.mtime));
}

fn fill(world: &World) {
    world.fill("for i in 1 2 3 4 5 6 7 8; do head -c 400000 /dev/urandom > f$i; done");
}

/// Held, with this said, and nothing in the vault that says the source was empty.
fn is_held(world: &World, ran: Ran, said: &str) {
    let ran = ran.expect(75);
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert!(status(world)["sources"][0]["state"] != "walking", "No pass has begun");
}

#[test]
fn a_source_that_is_not_there_is_held() {
    let world = World::new();
    fs::remove_dir(&world.source).unwrap();
    is_held(&world, world.run_once(), "not there");
    assert_eq!(archived(&world), [""; 0]);
    fs::create_dir(&world.source).unwrap();
    fs::write(world.source.join("file"), "now").unwrap();
    world.run_once().expect(0);
    is_restored(&world);
}

#[test]
fn a_source_that_is_empty_and_was_not_before_is_held() {
    let world = World::new();
    world.run_once().expect(0);
    assert_eq!(world.pieces().len(), 1, "An empty source that always was is archived");
    let world = World::new();
    fs::write(world.source.join("file"), "there").unwrap();
    world.run_once().expect(0);
    let before = archived(&world);
    fs::remove_file(world.source.join("file")).unwrap();
    is_held(&world, world.archiver(&["run", "--once", "--pass-now", "data"]), "is empty");
    assert_eq!(archived(&world), before);
}

#[test]
fn a_source_that_must_be_mounted_is_held_until_it_is() {
    let mut world = World::new();
    world.setup.source = "require_mount = true".to_owned();
    fs::write(world.source.join("file"), "under the mount point").unwrap();
    is_held(&world, world.run_once(), "not a mount point");
    assert_eq!(archived(&world), [""; 0]);
    let _mount = left_out::Mount::tmpfs(&world.source);
    fs::write(world.source.join("other"), "mounted").unwrap();
    world.run_once().expect(0);
    is_restored(&world);
}

#[test]
fn a_held_source_does_not_hold_the_others() {
    let mut world = World::new();
    fill(&world);
    let gone = world.root.path().join("gone");
    world.setup.more = format!("[[source]]\nname = \"gone\"\npath = {gone:?}");
    world.run_once().expect(75);
    is_restored(&world);
    assert!(archived(&world).iter().any(|key| key.ends_with("index.json.zst.gpg")), "The other pass has ended");
}

#[test]
fn nothing_due_is_nothing_to_do() {
    let mut world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let before = archived(&world);
    world.run_once().expect(0);
    world.setup.source = "repeat = \"90d\"".to_owned();
    world.run_once().expect(0);
    assert_eq!(archived(&world), before);
}

#[test]
fn a_second_pass_has_its_own_id_and_leaves_the_first_alone() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let first: BTreeSet<String> = world.keys().into_iter().collect();
    fs::write(world.source.join("f1"), "changed since").unwrap();
    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    let second: BTreeSet<String> = world.keys().into_iter().collect();
    assert!(first.is_disjoint(&second));
    is_restored(&world);
    let all = world.archiver(&["ls", "--all", "--json"]).expect(0).json_lines();
    let ids: BTreeSet<&str> = all.iter().map(|piece| piece["pass"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), all.len()), (2, first.len() + second.len()));
    let objects: BTreeSet<String> = archived(&world).into_iter().collect();
    assert!(first.is_subset(&objects) && second.is_subset(&objects));
    world.archiver(&["run", "--once", "--pass-now", "nobody"]).expect(2);
}

#[test]
fn sources_take_turns_by_piece() {
    let mut world = World::new();
    fill(&world);
    let other = world.dir("other");
    world.bash("cp -a \"$1\"/. \"$2\"", &[&world.source, &other]).expect(0);
    world.setup.more = format!("[[source]]\nname = \"other\"\npath = {other:?}");
    world.run_once().expect(0);
    let script =
        "cd \"$1\"; find nas1 -name '*.tar.xz.gpg' -printf '%T@ %P\\n' | sort -n | cut -d ' ' -f 2 | cut -d / -f 1";
    let order = world.bash(script, &[&world.vault]).expect(0).text();
    let order: Vec<&str> = order.lines().collect();
    assert!(order.len() >= 6, "{order:?}");
    // They are packed in turns; what is compressed side by side may come out in another order, by a piece or two.
    let ahead = order.iter().scan(0_i32, |ahead, name| {
        *ahead += if *name == "data" { 1 } else { -1 };
        Some(*ahead)
    });
    assert!(ahead.into_iter().all(|ahead| ahead.abs() <= 2), "{order:?}");
}

#[test]
fn a_second_daemon_on_the_same_staging_is_refused_and_the_first_goes_on() {
    let world = World::new();
    fill(&world);
    let mut first = world.spawn(&["--quiet", "run"]);
    wait_until("the first runs", || status(&world)["running"] == true);
    let second = world.run_once().expect(7);
    assert!(second.stderr.contains("in use by another archiver"), "{}", second.stderr);
    wait_until("its pass has ended", || status(&world)["sources"][0]["state"] == "ended");
    assert!(first.try_wait().unwrap().is_none(), "The daemon stays when nothing is due");
    signal(&first, "-TERM");
    let began = Instant::now();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20));
    is_restored(&world);
}

#[test]
fn a_run_that_is_told_to_stop_ends_clean_and_the_next_completes_it() {
    for (name, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut world = World::new();
        fill(&world);
        world.setup.more = "[upload]\nbandwidth = \"20kB/s\"".to_owned();
        let mut run = world.spawn(&["--quiet", "run", "--once"]);
        wait_until("an upload is under way", || status(&world)["sources"][0]["pieces"]["sealed"].as_u64() > Some(0));
        signal(&run, name);
        let began = Instant::now();
        assert_eq!(run.wait().unwrap().code(), Some(code), "It is not complete");
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(archived(&world).iter().all(|key| !key.contains("index")), "The pass has not ended");
        world.setup.more = String::new();
        world.run_once().expect(0);
        is_restored(&world);
        assert_eq!(world.archiver(&["ls", "--all", "--json"]).json_lines().len(), world.keys().len());
    }
}
