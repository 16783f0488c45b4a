//! Promises about what the program remembers.

use crate::{common::World, daemon::Daemon, fill, is_restored, signal, status, wait_until};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// What SQL says of a database, as Python's own SQLite reads it.
fn sql(world: &World, file: &Path, statement: &str) -> String {
    let script = "python3 -c '
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    for row in db.execute(sys.argv[2]): print(*row)
' \"$1\" \"$2\"";
    world.bash(script, &[file, Path::new(statement)]).expect(0).text().trim().to_owned()
}

#[test]
fn a_verified_copy_of_the_catalog_is_made_when_a_pass_ends_and_every_day() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let copy = world.state.join("catalog.sqlite.copy");
    assert_eq!(sql(&world, &copy, "PRAGMA integrity_check"), "ok");
    let delivered = sql(&world, &copy, "SELECT count(*) FROM piece WHERE state = 'delivered'");
    assert_eq!(delivered, world.keys().len().to_string());
    assert_eq!(sql(&world, &copy, "SELECT count(ended) FROM pass"), "1");
    let facts = || fs::metadata(&copy).unwrap();
    assert_eq!(facts().permissions().mode() & 0o777, 0o600);
    let made = facts().modified().unwrap();
    world.run_once().expect(0);
    assert_eq!(facts().modified().unwrap(), made, "It is of today");
    world.bash("touch -d '25 hours ago' \"$1\"", &[&copy]).expect(0);
    let mut daemon = world.spawn(&["--quiet", "run"]);
    wait_until("the copy of yesterday is replaced", || facts().modified().unwrap() > made);
    signal(&daemon, "-TERM");
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(fs::read_dir(&world.state).unwrap().all(|entry| !entry.unwrap().path().ends_with(".new")));
}

#[test]
fn a_pass_that_does_not_add_up_is_told() {
    for miscount in ["seen = seen + 1", "seen = seen - 1", "counts = json_set(counts, '$.clean', 0)"] {
        let mut world = World::new();
        fill(&world);
        world.setup.more = "[upload]\nbandwidth = \"20kB/s\"".to_owned();
        let mut run = world.spawn(&["--quiet", "run", "--once"]);
        wait_until("an upload is under way", || status(&world)["sources"][0]["pieces"]["sealed"].as_u64() > Some(0));
        signal(&run, "-TERM");
        run.wait().unwrap();
        world.setup.more = String::new();
        sql(&world, &world.state.join("catalog.sqlite"), &format!("UPDATE piece SET {miscount} WHERE seq = 1"));
        let ran = world.run_once().expect(1);
        assert!(ran.stderr.contains("does not add up"), "{miscount}: {}", ran.stderr);
        is_restored(&world);
    }
}

#[test]
fn what_is_wrong_with_staging_is_told_before_a_vault_is_waited_for() {
    let mut world = World::new();
    world.setup.url = Some(format!("file://{}/away/vault", world.root.path().display()));
    fs::remove_dir(&world.staging).unwrap();
    fs::write(&world.staging, "in the way").unwrap();
    let mut daemon = Daemon::start(&world);
    let mut ended = None;
    wait_until("it has ended", || {
        ended = daemon.child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(6));
}
