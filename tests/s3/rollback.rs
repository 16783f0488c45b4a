//! The real binary and what it finds in the vault at the keys of a pass that it is about to end: counted as delivered
//! when it is of the same pieces, and never otherwise.

use crate::{
    tools::{BUCKET, sh, wait_until},
    world::{HANGS, World},
};
use archiver_s3_double::{Act, Rule};
use serde_json::Value;
use std::{fs, process::Command};

fn refused(key: &str, operation: &str) -> Rule {
    Rule::new(Act::refuse("AccessDenied")).on(operation).key(key)
}

fn key(world: &World, end: &str) -> Option<String> {
    world.double.objects(BUCKET).into_keys().find(|key| key.ends_with(end))
}

/// Keys of the pieces that the index in the vault names.
fn indexed(world: &World) -> Vec<String> {
    let index = world.double.object_bytes(BUCKET, &key(world, "index.json.zst").unwrap()).unwrap();
    fs::write(world.path("index"), index).unwrap();
    let clear = Command::new("zstd").args(["-q", "-d", "-c"]).arg(world.path("index")).output().unwrap();
    let index: Value = serde_json::from_slice(&clear.stdout).unwrap();
    let pieces = index["index"]["pieces"].as_array().unwrap().iter();
    pieces.map(|piece| format!("lab/{}", piece["key"].as_str().unwrap())).collect()
}

/// A pass that has ended, and in `before` the state as it was when one of its two pieces was delivered.
fn delivered_with_a_state_of_before() -> World {
    let world = World::new(2);
    world.double.script(refused("/000002", "CreateMultipartUpload"));
    assert_eq!(world.run_once().code, Some(4));
    world.double.clear_script();
    sh(&world.path(""), "cp -a state before");
    assert_eq!(world.wrong_when_healed(), [""; 0]);
    world
}

#[test]
fn an_index_of_other_pieces_never_stands_for_a_pass_that_was_rolled_back() {
    let world = delivered_with_a_state_of_before();
    let old = indexed(&world);

    // The second piece is made again under another key, since nothing on this host tells that it was delivered.
    sh(&world.path(""), "rm -r state; mv before state; rm state/manifests/data/*/000002.jsonl.zst");
    let ran = world.run_once();
    assert_eq!(ran.code, Some(7), "{}", ran.log);
    let index = key(&world, "index.json.zst").unwrap();
    let told = ["holds", "tree.txt.xz", "other pieces", "catalog"];
    assert!(told.iter().all(|told| ran.log.contains(told)), "{}", ran.log);
    assert!(world.pieces().iter().all(|piece| piece["state"] != "sealed"), "{:?}", world.pieces());
    assert_eq!(indexed(&world), old);

    // Whoever owns the bucket removes them.
    assert!(world.double.lose_object(BUCKET, &index));
    assert!(world.double.lose_object(BUCKET, &key(&world, "tree.txt.xz").unwrap()));
    let ran = world.run_once();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let pieces: Vec<_> = world.pieces().into_iter().filter(|piece| piece["state"] == "delivered").collect();
    let delivered: Vec<_> = pieces.iter().map(|piece| format!("lab/{}", piece["key"].as_str().unwrap())).collect();
    assert_eq!(indexed(&world), delivered);
    assert_ne!(delivered, old);
}

#[test]
fn a_state_that_was_rolled_back_finds_out_from_its_manifests_what_was_delivered() {
    let world = delivered_with_a_state_of_before();
    let (old, sent) = (indexed(&world), world.double.log_of("UploadPart").len());
    sh(&world.path(""), "rm -r state; mv before state");
    assert_eq!(world.wrong_when_healed(), [""; 0]);
    assert_eq!((indexed(&world), world.double.log_of("UploadPart").len()), (old, sent));
}

#[test]
fn a_damaged_catalog_goes_on_with_an_upload_that_its_copy_does_not_know() {
    for damage in
        ["truncate -s 5000 catalog.sqlite", "rm catalog.sqlite*", ": > catalog.sqlite-wal; : > catalog.sqlite"]
    {
        let world = World::new(1);
        // Nothing is sealed yet when the copy is made.
        world.double.script(refused("archiver.json", "PutObject"));
        assert_eq!(world.run_once().code, Some(4));
        sh(&world.path(""), "cp -p state/catalog.sqlite before");
        world.double.clear_script();
        world.double.script(Rule::new(Act::Hang { read: true }).key("/000001").on("UploadPart").part(3).named(HANGS));
        let mut running = world.start(&["run", "--once"]);
        wait_until("two parts are there", || {
            assert!(running.is_running(), "{}", running.log());
            world.double.uploads(BUCKET).iter().any(|upload| upload.parts.len() == 2) && world.double.fired(HANGS) == 1
        });
        running.kill();
        world.settle();
        world.double.clear_script();
        sh(&world.path("state"), &format!("{damage}; cp -p ../before catalog.sqlite.copy"));
        assert_eq!(world.wrong_when_healed(), [""; 0], "{damage}");
        assert_eq!(world.parts_again(), [""; 0], "{damage}");
        assert_eq!(world.double.uploads(BUCKET).len(), 0, "{damage}");
    }
}

#[test]
fn a_damaged_catalog_waits_for_a_vault_that_is_away_and_packs_nothing_twice() {
    let world = World::new(2);
    world.double.script(refused("/000002", "CreateMultipartUpload"));
    assert_eq!(world.run_once().code, Some(4));
    sh(&world.path(""), "cp -p state/catalog.sqlite before");
    world.double.clear_script();
    assert_eq!(world.wrong_when_healed(), [""; 0]);
    let (old, sent) = (indexed(&world), world.double.log_of("UploadPart").len());
    sh(&world.path("state"), "rm catalog.sqlite*; cp -p ../before catalog.sqlite.copy");
    world.double.script(Rule::new(Act::refuse("InternalError")).named("away"));
    let ran = world.run_once();
    assert_eq!(ran.code, Some(4), "{}", ran.log);
    assert!(world.double.fired("away") > 0 && !ran.log.contains("Piece rotten"), "{}", ran.log);
    world.double.clear_script();
    assert_eq!(world.wrong_when_healed(), [""; 0]);
    assert_eq!((indexed(&world), world.double.log_of("UploadPart").len()), (old, sent));
}

#[test]
fn a_listing_that_was_delivered_is_known_again_without_its_record() {
    for damage in ["rm", "truncate -s 10"] {
        let world = World::new(1);
        world.double.script(refused("index.json", "PutObject"));
        assert_eq!(world.run_once().code, Some(4));
        world.double.clear_script();
        sh(&world.path("state/manifests"), &format!("{damage} data/*/tree.txt.xz.sealed"));
        assert_eq!(world.wrong_when_healed(), [""; 0], "{damage}");
        let sent = world.double.log_of("PutObject").into_iter();
        let sent = sent.filter(|entry| entry.key.as_ref().is_some_and(|key| key.contains("tree.txt"))).count();
        assert_eq!(sent, 1, "{damage}");
    }
}
