//! Promises about a configuration that changes while the daemon runs.

use super::{
    archived,
    common::{Ran, World},
    daemon::{Daemon, closed, has_ended},
    fill, is_restored, signal, status, wait_until,
};
use std::{
    fs,
    time::{Duration, Instant},
};

#[test]
fn a_good_configuration_is_taken_and_a_bad_one_changes_nothing() {
    let mut world = World::new();
    fill(&world);
    world.setup.more = closed();
    let daemon = Daemon::start(&world);
    daemon.hear("Waiting for the upload window");

    world.setup.more = "[upload]\nwindow = []\nbandwidht = \"1MB/s\"\n[log]\nlevel = \"loud\"".to_owned();
    daemon.reload(&world);
    daemon.hear("Configuration refused");
    let said = daemon.said();
    for told in ["archiver.toml:", "did you mean `bandwidth`?", "log.level"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    world.setup.more = closed();
    let refused = status(&world)["settings_refused"].as_str().unwrap().to_owned();
    assert!(refused.contains("upload.bandwidht"), "{refused}");
    assert_eq!(archived(&world), [""; 0], "The window is the one before");

    fs::remove_file(world.config()).unwrap();
    signal(&daemon.child, "-HUP");
    daemon.hear_times("Configuration refused", 2);
    assert!(daemon.said().contains("Cannot read the configuration"), "{}", daemon.said());

    // Keys that cannot be used are no configuration to go on with.
    let good = std::mem::replace(&mut world.setup.encrypt, "recipients = [\"/etc/hostname\"]".to_owned());
    daemon.reload(&world);
    daemon.hear_times("Configuration refused", 3);
    world.setup.encrypt = good;

    world.setup.more = "[upload]\nbandwidth = \"90MB/s\"".to_owned();
    let now = status(&world)["daemon"].take();
    assert_eq!(now["now"]["window_opens"].as_str().map(|opens| &opens[3..]), Some(" 03:00"), "{now}");
    let changes = "[\"upload.bandwidth: none -> 90MB/s\",\"upload.window: ";
    assert!(now["file"]["changes"].to_string().starts_with(changes), "{now}");
    world.archiver(&["reload"]).expect(0);
    daemon.hear("Configuration taken");
    assert_eq!(status(&world)["daemon"]["file"]["changes"].to_string(), "[]");
    wait_until("the pass has ended", || has_ended(&world, 0));
    assert!(status(&world)["settings_refused"].is_null());
    let keys = std::mem::replace(&mut world.setup.encrypt, "recipients = [\"/etc/hostname\"]".to_owned());
    let ran = world.archiver(&["reload"]).expect(2);
    assert!(ran.stderr.contains("/etc/hostname"), "{}", ran.stderr);
    world.setup.encrypt = keys;
    world.archiver(&["reload"]).expect(0);
    let said = daemon.stop();
    assert!(world.archiver(&["reload"]).expect(1).stderr.contains("No daemon listens"));
    assert!(!world.state.join("control").exists());
    for told in ["key=\"upload.bandwidth\" old=\"none\" new=\"90MB/s\"", "Recovered trouble=\"settings\""] {
        assert!(said.contains(told), "{told}: {said}");
    }
    is_restored(&world);
}

#[test]
fn what_is_packed_after_a_reload_is_packed_as_it_says() {
    let mut world = World::new();
    fill(&world);
    // Room for one piece after the other, which wait for the window.
    (world.setup.max_size, world.setup.cap, world.setup.more) = ("1MiB".to_owned(), "3600kB".to_owned(), closed());
    let daemon = Daemon::start(&world);
    daemon.hear("Waiting for the upload window");
    daemon.hear("Waiting for room");
    let other = world.dir("other");
    fs::write(other.join("file"), "of a source that came later").unwrap();
    world.setup.more = format!("[[source]]\nname = \"other\"\npath = {other:?}\nrepeat = \"90d\"");
    (world.setup.method, world.setup.max_size, world.setup.cap) =
        ("zstd".to_owned(), "2MiB".to_owned(), "32MiB".to_owned());
    daemon.reload(&world);
    daemon.hear("Configuration taken");
    wait_until("both passes have ended", || has_ended(&world, 0) && has_ended(&world, 1));
    let keys = world.keys();
    let count = |suffix: &str| keys.iter().filter(|key| key.ends_with(suffix)).count();
    assert!(0 < count(".tar.xz.gpg") && 0 < count(".tar.zst.gpg"), "{keys:?}");
    assert!(archived(&world).iter().any(|key| key.starts_with("nas1/other/")), "{:?}", archived(&world));
    is_restored(&world);
    let manifests: Vec<_> = keys.iter().map(|key| world.manifest(key)).collect();
    for (key, manifest) in keys.iter().zip(&manifests) {
        let method = manifest.head["compression"].as_str().unwrap();
        assert!(key.contains(if method == "xz" { ".xz" } else { ".zst" }), "{key}: {method}");
    }
    daemon.stop();
}

#[test]
fn a_source_that_is_taken_out_is_left_alone_and_goes_on_when_it_is_back() {
    let mut world = World::new();
    fill(&world);
    (world.setup.cap, world.setup.more) = ("3600kB".to_owned(), closed());
    let daemon = Daemon::start(&world);
    daemon.hear("Waiting for room");
    let (other, state) = (world.dir("other"), world.state.clone());
    let source = std::mem::replace(&mut world.source, other);
    world.state = world.dir("elsewhere");
    daemon.reload(&world);
    daemon.hear("Setting changes at the next start");
    assert!(daemon.said().contains("key=\"state\""), "{}", daemon.said());
    (world.source, world.state, world.setup.more) = (source, state, String::new());
    daemon.reload(&world);
    wait_until("the pass has ended", || has_ended(&world, 0));
    daemon.stop();
    is_restored(&world);
}

#[test]
fn a_vault_that_is_waited_for_may_be_named_otherwise() {
    let mut world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let right = world.vault.clone();
    world.vault = world.root.path().join("no vault");
    let daemon = Daemon::start_with(&world, &["run", "--pass-now", "data"]);
    daemon.hear("retry_in");
    assert_eq!(status(&world)["daemon"]["pid"], daemon.child.id(), "It is asked while it waits");
    let ran = world.archiver(&["pause"]).expect(2);
    assert!(ran.stderr.contains("waits for its catalog or its vault"), "{}", ran.stderr);
    world.vault = right;
    world.archiver(&["reload"]).expect(0);
    daemon.hear("Pass ended");
    let bad = std::mem::replace(&mut world.vault, world.root.path().join("no vault"));
    daemon.reload(&world);
    daemon.hear("Configuration refused");
    assert!(daemon.said().contains("vault.url: "), "{}", daemon.said());
    assert!(!world.vault.exists(), "A vault that was used is never made anew");
    world.vault = bad;
    daemon.stop();
}

#[test]
fn a_reload_to_the_vault_of_somebody_else_is_refused() {
    let (mut world, other) = (World::new(), World::new());
    for world in [&world, &other] {
        fill(world);
        world.run_once().expect(0);
    }
    let daemon = Daemon::start(&world);
    daemon.hear("Nothing is due");
    world.vault.clone_from(&other.vault);
    let ran = world.archiver(&["reload"]).expect(2);
    assert!(ran.stderr.contains("vault.url: archiver.json names the vault "), "{}", ran.stderr);
    daemon.stop();
}

#[test]
fn a_pass_keeps_the_names_with_which_it_began_and_the_next_one_takes_others() {
    let mut world = World::new();
    fill(&world);
    (world.setup.cap, world.setup.more) = ("3600kB".to_owned(), closed());
    let daemon = Daemon::start(&world);
    daemon.hear("Waiting for room");
    world.setup.vault = "names = \"opaque\"".to_owned();
    daemon.reload(&world);
    daemon.hear("Configuration taken");
    // A restart in the middle of it changes nothing about that.
    drop(daemon);
    world.setup.more = String::new();
    let daemon = Daemon::start(&world);
    daemon.hear("Pass under way");
    wait_until("the pass has ended", || has_ended(&world, 0));
    daemon.stop();
    let before = archived(&world);
    assert!(before.iter().all(|key| key.starts_with("nas1/data/")), "{before:?}");
    assert!(before.iter().any(|key| key.contains("000002-")), "Labels are part of the names: {before:?}");
    is_restored(&world);

    world.archiver(&["run", "--once", "--pass-now", "data"]).expect(0);
    let after = archived(&world);
    let new: Vec<_> = after.iter().filter(|key| !before.contains(key)).collect();
    assert!(
        new.len() >= before.len() && new.iter().all(|key| !key.contains("nas1") && !key.contains("data")),
        "{new:?}"
    );
}

#[test]
fn a_storm_of_reloads_changes_nothing_about_the_work() {
    let world = World::new();
    fill(&world);
    let daemon = Daemon::start(&world);
    daemon.hear("Pass under way");
    for _ in 0..1000 {
        signal(&daemon.child, "-HUP");
    }
    wait_until("the pass has ended", || has_ended(&world, 0));
    daemon.hear("Configuration taken");
    assert_eq!(daemon.said().matches("Setting changed").count(), 0);
    assert_eq!(daemon.said().matches("Pass under way").count(), 1, "{}", daemon.said());
    daemon.stop();
    is_restored(&world);
    let Ran { code, .. } = world.run_once();
    assert_eq!(code, 0, "Nothing is left to do");
}

#[test]
fn a_file_that_is_not_what_holds_is_told_once_and_that_it_is_again() {
    let mut world = World::new();
    fill(&world);
    let (daemon, heard) = Daemon::start_notifying(&world, Duration::from_secs(60));
    wait_until("the pass has ended", || has_ended(&world, 0));
    let differs = |remedy: &str| wait_until(remedy, || heard.headline().contains(remedy));
    let agrees = || wait_until("it is what holds", || heard.headline().ends_with("Idle"));
    let said = |what: &str| daemon.said().matches(what).count();
    world.setup.more = "[upload]\nbandwidth = \"90MB/s\"".to_owned();
    world.config();
    let told = "The configuration file is not what holds: `systemctl reload archiver` takes it (upload.bandwidth)";
    differs(told);
    assert!(world.archiver(&["status"]).expect(0).text().contains("upload.bandwidth: none -> 90MB/s"));
    world.setup.more.clear();
    world.config();
    agrees();
    daemon.hear("file is what holds again");
    assert_eq!(said("file is not what holds"), 1, "{}", daemon.said());

    // One that cannot be taken, one that is taken, and one that only a start takes.
    world.setup.more = "[upload]\nbandwidht = \"90MB/s\"".to_owned();
    world.config();
    differs("`archiver check` says what is wrong in it");
    let began = Instant::now();
    wait_until("it was looked at again", || 7 <= began.elapsed().as_secs());
    world.setup.more = "[upload]\nbandwidth = \"90MB/s\"".to_owned();
    world.archiver(&["reload"]).expect(0);
    agrees();
    let elsewhere = world.dir("elsewhere");
    let state = std::mem::replace(&mut world.state, elsewhere);
    world.config();
    differs("`systemctl restart archiver` takes it (");
    daemon.reload(&world);
    daemon.hear("Setting changes at the next start");
    daemon.hear_times("file is not what holds", 4);
    differs("`systemctl restart archiver` takes it (");
    world.state = state;
    assert_eq!((said("file is not what holds"), said("file is what holds again")), (4, 1), "{}", daemon.said());
    daemon.stop();
}
