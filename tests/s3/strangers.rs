//! The real binary and vaults that are not the one it knows: a pass that began in one vault never goes on in another,
//! whatever became of the configuration or of the bucket.

use crate::{
    tools::{BUCKET, sh, wait_until},
    world::{Ran, World},
};
use archiver_s3_double::{Act, Rule};
use serde_json::Value;
use std::{thread, time::Duration};

const NAME: &str = "lab/archiver.json";
const HERE: &str = "concurrency = 3";
const ELSEWHERE: &str = "concurrency = 3\nurl = \"s3://backup/elsewhere\"";

/// What a vault is called.
fn id(world: &World, key: &str) -> String {
    let known: Value = serde_json::from_slice(&world.double.object_bytes(BUCKET, key).unwrap()).unwrap();
    known["vault"].as_str().unwrap().to_owned()
}

fn keys(world: &World, prefix: &str) -> Vec<String> {
    world.double.objects(BUCKET).into_keys().filter(|key| key.starts_with(prefix)).collect()
}

/// Its first pass, or the next one, which needs a second of its own.
fn next_pass(world: &World) -> Ran {
    thread::sleep(Duration::from_millis(1_100));
    world.start(&["run", "--once", "--pass-now", "data"]).wait()
}

/// Refused, and whoever reads it knows which vault is meant and what to do.
#[track_caller]
fn is_refused(ran: &Ran, told: &[&str]) {
    assert_eq!(ran.code, Some(4), "{}", ran.log);
    let last = ran.log.lines().rfind(|line| line.contains("Cannot go on trouble=\"vault\"")).unwrap_or_default();
    for told in ["archiver.json", "vault.url", "state"].iter().chain(told) {
        assert!(last.contains(told), "{told} is not told: {}", ran.log);
    }
}

#[test]
fn the_end_of_a_pass_goes_to_the_vault_of_its_pieces_or_nowhere() {
    let mut world = World::new(1);
    let end = Rule::new(Act::refuse("AccessDenied")).on("PutObject").key("tree.txt");
    world.double.script(end);
    assert_eq!(world.run_once().code, Some(4));
    world.double.clear_script();
    let ours = id(&world, NAME);

    ELSEWHERE.clone_into(&mut world.vault);
    is_refused(&world.run_once(), &[&ours]);
    assert_eq!(keys(&world, "elsewhere/"), [""; 0]);

    // Somebody else's, who has another state.
    sh(&world.path(""), "mv state state.ours; mv staging staging.ours");
    assert_eq!(next_pass(&world).code, Some(0));
    sh(&world.path(""), "rm -r state staging; mv state.ours state; mv staging.ours staging");
    let (theirs, before) = (id(&world, "elsewhere/archiver.json"), keys(&world, "elsewhere/"));
    assert!(theirs != ours);
    is_refused(&world.run_once(), &[&ours, &theirs]);
    assert_eq!(keys(&world, "elsewhere/"), before);

    HERE.clone_into(&mut world.vault);
    for key in before {
        assert!(world.double.lose_object(BUCKET, &key));
    }
    assert_eq!(world.wrong_when_healed(), [""; 0]);
}

#[test]
fn a_bucket_that_is_emptied_in_the_middle_of_a_pass_gets_no_index_and_no_new_name() {
    let world = World::new(2);
    let last = Rule::new(Act::Nothing).on("CompleteMultipartUpload").key("/000002").named("last");
    world.double.script(last.delay(Duration::from_secs(2)));
    let mut running = world.start(&["run", "--once"]);
    wait_until("the last piece is nearly there", || {
        assert!(running.is_running(), "{}", running.log());
        world.double.fired("last") == 1
    });
    let ours = id(&world, NAME);
    for key in keys(&world, "") {
        assert!(world.double.lose_object(BUCKET, &key));
    }
    is_refused(&running.wait(), &[&ours]);
    is_refused(&world.run_once(), &[&ours]);
    let left = keys(&world, "");
    assert!(!left.iter().any(|key| key.contains("index") || key.contains("archiver.json")), "{left:?}");
}

/// It is gone after a pass, and missed by its name.
fn is_missed(world: &World, name: &str) {
    assert!(world.double.lose_object(BUCKET, NAME));
    is_refused(&next_pass(world), &[name]);
    assert!(world.double.object(BUCKET, NAME).is_none());
}

#[test]
fn a_vault_that_another_host_has_named_keeps_its_name() {
    let world = World::new(1);
    assert_eq!(world.run_once().code, Some(0));
    let name = id(&world, NAME);
    sh(&world.path(""), "rm -r state");
    // Both look, both find nothing, and the other one is faster.
    let race = Rule::new(Act::refuse_as(404, "NoSuchKey")).on("HeadObject").key("archiver.json").named("race");
    world.double.script(race.once());
    let ran = next_pass(&world);
    assert_eq!((ran.code, world.double.fired("race")), (Some(0), 1), "{}", ran.log);
    assert_eq!(id(&world, NAME), name);
    is_missed(&world, &name);
}

#[test]
fn a_catalog_that_never_noted_the_name_of_its_vault_takes_the_one_it_finds() {
    let world = World::new(1);
    assert_eq!(world.run_once().code, Some(0));
    let name = id(&world, NAME);
    let older = "python3 -c '
import sqlite3
with sqlite3.connect(\"state/catalog.sqlite\") as db:
    db.execute(\"DELETE FROM setting WHERE name = ?\", [\"vault-greeted\"])
    db.execute(\"UPDATE setting SET value = ? WHERE name = ?\", [\"0123456789abcdef\", \"vault-id\"])
'";
    sh(&world.path(""), older);
    let ran = next_pass(&world);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    is_missed(&world, &name);
}
