//! The hours in which uploading is allowed, in the middle of an object of ten parts.

use crate::{
    inside::{Going, Hours, Inside},
    tools::{BUCKET, PART, Random, wait_until},
    world::World,
};
use archiver::{upload::Retries, vault::s3::Patience};
use archiver_s3_double::{Act, Rule};
use std::{fs, sync::Arc, thread, time::Duration};

fn world() -> World {
    let world = World::new(0);
    fs::write(world.path("source/film"), Random::new(10).bytes(9 * PART + PART / 2)).unwrap();
    world
}

fn inside(hours: &Arc<Hours>) -> Inside {
    Inside {
        hours: hours.clone(),
        wait: Arc::new(archiver::staging::Stop::wait),
        window: Some("20:00-07:00"),
        concurrency: 1,
        patience: Patience::default(),
        retries: Retries::default(),
    }
}

fn held(world: &World) -> usize {
    world.double.uploads(BUCKET).iter().map(|upload| upload.parts.len()).sum()
}

fn wait_for_parts(world: &World, going: &Going, count: usize) {
    wait_until(&format!("{count} parts are there"), || {
        assert!(!going.is_over(), "{}", going.ears.last(5));
        count <= held(world)
    });
}

fn is_delivered(world: &World, going: Going) {
    wait_until("it is delivered", || going.ears.count("PassEnded") == 1);
    going.end();
    assert_eq!((world.wrong(), world.parts_again()), (Vec::new(), Vec::new()));
    assert_eq!(world.double.requests("CreateMultipartUpload"), 1);
    let parts = world.double.objects(BUCKET).into_iter().find(|(key, _)| key.ends_with(".tar")).unwrap().1.parts;
    assert_eq!(parts.len(), 10);
}

/// Nothing is begun for as long as a test can look.
fn rests(world: &World, what: &str) -> u64 {
    // The part under way may end.
    thread::sleep(Duration::from_secs(1));
    let sent = world.double.requests("UploadPart");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(world.double.requests("UploadPart"), sent, "{what}");
    sent
}

#[test]
fn a_window_that_closes_stops_within_a_part_and_goes_on_with_the_next() {
    let (world, hours) = (world(), Hours::at("2026-11-20T20:00:00Z"));
    world.double.script(Rule::new(Act::Nothing).on("UploadPart").delay_answer(Duration::from_millis(300)));
    let going = inside(&hours).start(&world);
    wait_for_parts(&world, &going, 3);
    let before = world.double.requests("UploadPart");
    hours.set("2026-11-21T07:00:00Z");
    let sent = rests(&world, "the window is closed");
    assert!(sent <= before + 1 && held(&world) as u64 == sent, "{before}, {sent}, {} held", held(&world));
    assert_eq!(going.ears.count("WaitingForWindow"), 1);
    // Started again while it is closed, nothing goes out either.
    going.end();
    hours.set("2026-11-21T12:00:00Z");
    let going = inside(&hours).start(&world);
    assert_eq!(rests(&world, "the window is closed after a restart"), sent);
    hours.set("2026-11-21T20:00:00Z");
    wait_for_parts(&world, &going, sent as usize + 2);
    let parts: Vec<i32> = world.double.log_of("UploadPart").iter().filter_map(|entry| entry.part).collect();
    assert!(parts.iter().copied().eq(1..=parts.len() as i32), "{parts:?}");
    println!("figure: the window: {} parts begun after it closed, on with part {}", sent - before, sent + 1);
    is_delivered(&world, going);
}

#[test]
fn a_part_is_cut_when_the_window_has_been_closed_for_five_minutes() {
    let (world, hours) = (world(), Hours::at("2026-11-20T20:00:00Z"));
    // Never taken in: the server reads nothing of it.
    world.double.script(Rule::new(Act::Hang { read: true }).on("UploadPart").part(4).once().named(crate::world::HANGS));
    let going = inside(&hours).start(&world);
    wait_until("a part hangs", || world.double.fired(crate::world::HANGS) == 1);
    let is_cut = || world.double.log_of("UploadPart").iter().any(|entry| entry.part == Some(4) && entry.took.is_some());
    hours.set("2026-11-21T07:04:59Z");
    // It is looked every ten seconds.
    thread::sleep(Duration::from_secs(12));
    assert!(!is_cut(), "before its time");
    hours.set("2026-11-21T07:05:00Z");
    wait_until("the part is cut", is_cut);
    assert_eq!((held(&world), going.ears.count("Trouble")), (3, 0));
    world.double.clear_script();
    hours.set("2026-11-21T20:00:00Z");
    is_delivered(&world, going);
}
