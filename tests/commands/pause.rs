//! Promises about what is paused.

use super::{
    archived,
    common::World,
    daemon::{Daemon, has_ended},
    fill, status, wait_until,
};
use std::{fs, time::Instant};

fn paused(world: &World) -> String {
    status(world)["paused"].to_string()
}

fn delivered(world: &World) -> usize {
    archived(world).iter().filter(|key| key.ends_with(".tar.xz.gpg")).count()
}

#[test]
fn what_is_paused_stays_so_over_a_kill_and_goes_on_when_it_is_resumed() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    daemon.hear("Pass ended");
    let ran = world.archiver(&["pause", "--stage", "upload"]).expect(0);
    assert_eq!(ran.text(), "Paused: stage upload\n");
    let before = archived(&world);
    drop(daemon);

    fill(&world);
    let daemon = Daemon::start_with(&world, &["run", "--pass-now", "data"]);
    daemon.hear("Paused what=\"stage upload\"");
    wait_until("all is sealed", || {
        let pieces = &status(&world)["sources"][0]["pieces"];
        pieces["sealed"].as_u64() >= Some(4) && pieces["packed"] == 0 && pieces["compressed"] == 0
    });
    assert_eq!(paused(&world), "[\"stage upload\"]");
    assert_eq!(archived(&world), before);
    assert!(!has_ended(&world, 0));
    let now = status(&world)["daemon"]["now"].take();
    assert_eq!(now["paused"].to_string(), "[\"stage upload\"]", "{now}");

    // Who rests hears a stop. Each of them looks once a second whether it is to rest.
    world.archiver(&["pause"]).expect(0);
    let began = Instant::now();
    wait_until("all of them rest", || 3 <= began.elapsed().as_secs());
    let began = Instant::now();
    let said = daemon.stop();
    assert!(began.elapsed().as_secs() < 8 && !said.contains("Does not wait for"), "{:?}: {said}", began.elapsed());
    let ran = world.archiver(&["run", "--once"]).expect(75);
    assert!(ran.stderr.contains("Paused: everything; `archiver resume`"), "{}", ran.stderr);
    let daemon = Daemon::start(&world);
    daemon.hear("Paused what=");

    let ran = world.archiver(&["resume"]).expect(0);
    assert_eq!(ran.text(), "Nothing is paused\n");
    wait_until("the pass has ended", || has_ended(&world, 0));
    assert_eq!(paused(&world), "[]");
    daemon.stop();
    let ran = world.archiver(&["pause"]).expect(1);
    assert!(ran.stderr.contains("No daemon listens"), "{}", ran.stderr);
    assert_eq!(world.archiver(&["resume"]).expect(0).text(), "Nothing is paused\n", "For the next start");
}

#[test]
fn a_paused_source_keeps_no_other() {
    let mut world = World::new();
    fill(&world);
    world.setup.source = "require_mount = true".to_owned();
    let daemon = Daemon::start(&world);
    daemon.hear("Pass held");
    world.archiver(&["pause", "--source", "data"]).expect(0);
    let source = |name: &str| {
        let path = world.dir(name);
        fs::write(path.join("file"), name).unwrap();
        format!("[[source]]\nname = {name:?}\npath = {path:?}\n")
    };
    let (other, third) = (source("other"), source("third"));
    world.setup.source.clear();
    world.setup.more = other.clone();
    daemon.reload(&world);
    wait_until("the other pass has ended", || has_ended(&world, 1));
    assert!(!daemon.said().contains("Pass under way source=\"data\""), "{}", daemon.said());

    // All that was told to rest may go on, but for what was told so by itself.
    world.archiver(&["pause"]).expect(0);
    let ran = world.archiver(&["resume", "--source", "data"]).expect(0);
    assert_eq!(ran.text(), "Paused: everything\n");
    world.setup.more = other + &third;
    daemon.reload(&world);
    daemon.hear_times("Configuration taken", 2);
    let began = Instant::now();
    wait_until("some time has passed", || paused(&world).contains("everything") && 2 <= began.elapsed().as_secs());
    assert_eq!(daemon.said().matches("Pass under way").count(), 1, "{}", daemon.said());
    let ran = world.archiver(&["pause", "--source", "nothing"]).expect(2);
    assert!(ran.stderr.contains("There is no source \"nothing\""), "{}", ran.stderr);
    world.archiver(&["resume"]).expect(0);
    wait_until("the passes have ended", || has_ended(&world, 0) && has_ended(&world, 2));
    daemon.stop();
}

#[test]
fn a_paused_stage_takes_no_other_piece_and_what_it_has_is_ended() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    daemon.hear("Pass ended");
    for (stage, shelf) in [("compress", "packed"), ("encrypt", "compressed"), ("pack", "packed")] {
        world.archiver(&["pause", "--stage", stage]).expect(0);
        assert_eq!(paused(&world), format!("[\"stage {stage}\"]"));
        assert_eq!(world.archiver(&["resume", "--stage", stage]).expect(0).text(), "Nothing is paused\n", "{shelf}");
    }
    world.archiver(&["pause", "--stage", "compress"]).expect(0);
    drop(daemon);
    fill(&world);
    let daemon = Daemon::start_with(&world, &["run", "--pass-now", "data"]);
    wait_until("all is packed", || status(&world)["sources"][0]["pieces"]["packed"].as_u64() >= Some(4));
    assert_eq!(delivered(&world), 1, "The one of the pass before");
    world.archiver(&["resume"]).expect(0);
    wait_until("the pass has ended", || has_ended(&world, 0));
    daemon.stop();
}
