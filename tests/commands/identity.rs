//! Promises about which vault it is that a host delivers to.

use super::{archived, common::World, fill, is_restored, signal, status, wait_until};
use serde_json::Value;
use std::{fs, path::Path};

/// What a vault is called.
fn name(vault: &Path) -> String {
    let known: Value = serde_json::from_slice(&fs::read(vault.join("archiver.json")).unwrap()).unwrap();
    known["vault"].as_str().unwrap().to_owned()
}

/// Stopped in the middle of its first pass, when the vault has a name and not yet all pieces.
fn begun() -> World {
    let mut world = World::new();
    fill(&world);
    world.setup.more += "[upload]\nbandwidth = \"20kB/s\"";
    let mut run = world.spawn(&["--quiet", "run", "--once"]);
    wait_until("the vault has a name", || world.vault.join("archiver.json").exists());
    wait_until("an upload is under way", || status(&world)["sources"][0]["pieces"]["sealed"].as_u64() > Some(0));
    signal(&run, "-TERM");
    assert_eq!(run.wait().unwrap().code(), Some(143));
    world.setup.more.clear();
    world
}

/// The configuration names the vault of somebody else, and that is told with both names and nothing put there.
fn is_refused_by_the_vault_of(other: &World, world: &mut World) {
    let (own, before) = (std::mem::replace(&mut world.vault, other.vault.clone()), other.objects());
    let said = world.run_once().expect(4).stderr;
    for told in ["archiver.json", "vault.url", "state", &name(&own), &name(&other.vault)] {
        assert!(said.contains(told), "{told} is not told: {said}");
    }
    assert_eq!(other.objects(), before);
    world.vault = own;
}

/// Its keys are never those of the host that is looked at.
fn another() -> World {
    let mut other = World::new();
    other.setup.vault += "names = \"opaque\"";
    fs::write(other.source.join("theirs"), "of another host").unwrap();
    other.run_once().expect(0);
    other
}

#[test]
fn a_pass_goes_on_in_the_vault_where_it_began_wherever_that_was_moved() {
    let mut world = begun();
    is_refused_by_the_vault_of(&another(), &mut world);
    let moved = world.root.path().join("moved");
    world.bash("mv -T -- \"$1\" \"$2\"", &[&world.vault, &moved]).expect(0);
    world.vault = moved;
    world.run_once().expect(0);
    is_restored(&world);
    assert_eq!(status(&world)["sources"][0]["pieces"]["retired"], 0, "Nothing was made twice");
}

#[test]
fn a_vault_that_has_lost_its_name_gets_no_other_one_and_may_have_it_back() {
    let world = begun();
    let (mark, away) = (world.vault.join("archiver.json"), world.root.path().join("away"));
    let (known, before) = (name(&world.vault), archived(&world));
    world.bash("mv -T -- \"$1\" \"$2\"", &[&mark, &away]).expect(0);
    let said = world.run_once().expect(4).stderr;
    assert!(said.contains("archiver.json is not there") && said.contains(&known), "{said}");
    assert!(!mark.exists());
    assert_eq!(archived(&world), before);
    world.bash("mv -T -- \"$1\" \"$2\"", &[&away, &mark]).expect(0);
    world.run_once().expect(0);
    is_restored(&world);
}

#[test]
fn another_state_begins_anew_in_another_vault() {
    let (mut world, other) = (begun(), another());
    is_refused_by_the_vault_of(&other, &mut world);
    world.vault = other.vault.clone();
    world.state = world.dir("another-state");
    world.run_once().expect(0);
    is_restored(&world);
}

/// Every host that delivers to a vault, not only the one that named it, misses it when it is gone.
#[test]
fn a_vault_of_several_hosts_is_never_made_anew_by_one_of_them() {
    let (mut world, other) = (World::new(), another());
    fill(&world);
    world.vault = other.vault.clone();
    world.run_once().expect(0);
    is_restored(&world);
    fs::remove_dir_all(&other.vault).unwrap();
    let said = world.archiver(&["run", "--once", "--pass-now", "data"]).expect(4).stderr;
    assert!(said.contains("is not there"), "{said}");
    assert!(!other.vault.exists());
}
