//! The real binary and pieces that are lost when a part of them is in the vault: what was begun for them costs money
//! and is seen in no listing, so it goes at once, not when the pass ends months later.

use crate::{
    tools::{BUCKET, PART, sh, wait_until},
    world::{HANGS, World},
};
use archiver::catalog::Catalog;
use archiver_s3_double::{Act, Rule};

/// Two parts of the piece are in the vault; nothing runs.
fn half_delivered() -> World {
    let world = World::new(1);
    world.double.script(Rule::new(Act::Hang { read: true }).key("/000001").on("UploadPart").part(3).named(HANGS));
    let mut running = world.start(&["run", "--once"]);
    wait_until("two parts are there", || {
        assert!(running.is_running(), "{}", running.log());
        world.double.uploads(BUCKET).iter().any(|upload| upload.parts.len() == 2) && world.double.fired(HANGS) == 1
    });
    running.kill();
    world.settle();
    world.double.clear_script();
    world
}

/// Uploads under way, as the server and as the catalog know them.
fn under_way(world: &World) -> (Vec<String>, Vec<String>) {
    let known = Catalog::open_read_only(&world.path("state/catalog.sqlite")).unwrap().uploads().unwrap();
    let there = world.double.uploads(BUCKET).into_iter().map(|upload| upload.key.replace("lab/", ""));
    (there.collect(), known.into_iter().map(|(key, _)| key).collect())
}

/// But for the manifest of the lost piece, which came before it and is no upload any more.
fn wrong(world: &World) -> Vec<String> {
    let manifest = |wrong: &String| wrong.starts_with("1 pieces, and in the vault");
    world.wrong().into_iter().filter(|wrong| !manifest(wrong)).collect()
}

/// The piece is spoiled; when the one in its place is under way, it is the only one.
fn check(how: &str, spoil: &str) {
    let world = half_delivered();
    sh(&world.path("staging/gpg"), spoil);
    world.double.script(Rule::new(Act::Hang { read: true }).key("/000002").on("UploadPart").part(3).named(HANGS));
    let mut running = world.start(&["run"]);
    wait_until("its range is on its way again", || {
        assert!(running.is_running(), "{}", running.log());
        world.double.fired(HANGS) == 1
    });
    let (there, known) = under_way(&world);
    assert!(there.len() == 1 && there[0].contains("/000002"), "{how}: {there:?} in the vault");
    assert_eq!(known, there, "{how}: in the catalog");
    running.kill();
    world.settle();
    world.double.clear_script();
    let ran = world.run_once();
    assert_eq!((ran.code, wrong(&world)), (Some(0), Vec::new()), "{how}: {}", ran.log);
}

#[test]
fn an_upload_of_a_piece_that_rots_goes_with_it() {
    let at = 2 * PART + 1_000;
    check("rotten", &format!("printf X | dd of=$(echo *.tar) bs=1 seek={at} conv=notrunc status=none"));
}

#[test]
fn an_upload_of_a_piece_that_is_gone_at_a_start_goes_too() {
    check("gone", "rm *.tar");
}

#[test]
fn a_vault_that_does_not_let_go_of_an_upload_stops_no_work() {
    let world = half_delivered();
    sh(&world.path("staging/gpg"), "rm *.tar");
    world.double.script(Rule::new(Act::refuse("InternalError")).on("AbortMultipartUpload").named("stays"));
    let running = world.start(&["run"]);
    wait_until("its range is in the vault", || world.double.objects(BUCKET).keys().any(|key| key.ends_with(".tar")));
    assert!(world.double.fired("stays") > 0 && under_way(&world).0.len() == 1, "{}", running.log());
    world.double.clear_script();
    wait_until("the pass has ended", || world.status()["sources"][0]["state"] == "ended");
    assert_eq!((running.terminate().code, wrong(&world)), (Some(0), Vec::new()));
    assert_eq!(under_way(&world), (Vec::new(), Vec::new()));
}
