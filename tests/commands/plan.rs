//! Promises about what is said of a pass before its first byte.

use super::common::{Ran, World, snapshot::snapshot};
use serde_json::Value;
use std::fs;

fn plan(world: &World, args: &[&str]) -> Ran {
    world.archiver(&[&["plan"], args].concat())
}

fn report(world: &World, args: &[&str]) -> Value {
    plan(world, &[&["--json"], args].concat()).expect(0).json_lines().pop().unwrap()
}

/// Everything below the world with its times, but for the configuration, which is written for each command.
fn all(world: &World) -> String {
    world
        .bash("cd \"$1\"; find . ! -name archiver.toml -printf '%p %s %T@ %C@ %m\\n' | sort", &[world.root.path()])
        .expect(0)
        .text()
}

#[test]
fn a_plan_names_the_pieces_that_a_run_makes_and_changes_nothing() {
    let world = World::nasty_and_large();
    world.config();
    let before = all(&world);
    let mut planned = plan(&world, &["--pieces", "--json"]).expect(0).json_lines();
    assert_eq!(all(&world), before);
    let report = planned.pop().unwrap();
    assert_eq!(report["pieces"], planned.len());

    world.run_once().expect(0);
    let made = world.pieces();
    let text = |piece: &Value, key: &str| piece[key].to_string();
    let ranges = |pieces: &[Value]| pieces.iter().map(|piece| text(piece, "last")).collect::<Vec<_>>();
    assert_eq!(ranges(&planned), ranges(&made));
    for (planned, made) in planned.iter().zip(&made) {
        let (estimate, size) = (planned["tar_size"].as_u64().unwrap(), made["tar_size"].as_u64().unwrap());
        // What stat does not tell, as attributes, is little; that a file is mostly holes it does not tell either.
        assert!(size <= estimate + (40 << 10), "{planned} {made}");
        let is_sparse = planned["first"].as_str().unwrap().starts_with("sparse");
        assert!(estimate <= size + (40 << 10) || is_sparse, "{planned} {made}");
    }
    let entries = snapshot(&world.source).len() as u64;
    let skipped: u64 = report["skipped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(report["entries"].as_u64().unwrap() + skipped, entries, "{report}");

    // The next time it is known how well it compresses.
    let known = self::report(&world, &[]);
    let ratio = known["ratio"].as_f64().unwrap();
    assert!(known["ratio_is"] == "measured" && 0.0 < ratio && ratio < 1.1, "{known}");
    assert_eq!(self::report(&world, &["--ratio", "0.5"])["ratio_is"], "given");
}

#[test]
fn time_follows_from_the_link_the_bandwidth_and_the_window() {
    let mut world = World::new();
    world.fill("truncate -s 100000000 file");
    assert_eq!(report(&world, &[])["upload"], Value::Null);
    let sealed = report(&world, &["--link", "1MB/s"]);
    let seconds = sealed["upload"]["seconds"].as_u64().unwrap();
    assert!((100..=103).contains(&seconds), "{sealed}");
    world.setup.more = "[upload]\nbandwidth = \"100kB/s\"\nwindow = [\"Mon 00:00-00:01\"]".to_owned();
    let slow = report(&world, &["--link", "1MB/s"]);
    assert_eq!(slow["upload"]["bytes_per_second"], 100_000);
    let minutes = slow["upload"]["seconds"].as_u64().unwrap().div_ceil(60);
    let ends: jiff::Timestamp = slow["upload"]["ends"].as_str().unwrap().parse().unwrap();
    let weeks = ends.duration_since(jiff::Timestamp::now()).as_hours() as u64 / (7 * 24);
    assert!(weeks == minutes || weeks == minutes - 1, "one minute a week: {slow}");
}

#[test]
fn money_is_told_where_prices_are_known() {
    let mut world = World::new();
    world.fill("truncate -s 10G file");
    world.setup.max_size = "1GiB".to_owned();
    world.setup.cap = "4GiB".to_owned();
    assert_eq!(report(&world, &[])["money"], Value::Null, "a directory costs nothing");
    world.setup.url = Some("s3://bucket/prefix".to_owned());
    let money = report(&world, &[])["money"].take();
    let (month, minimum) = (money["month"].as_f64().unwrap(), money["minimum"].as_f64().unwrap());
    assert!((month - 10.0 * 0.00099).abs() < 0.0002, "{money}");
    assert!((minimum / month - 180.0 * 12.0 / 365.0).abs() < 0.02, "{money}");
    assert_eq!((&money["region"], &money["date"]), (&"us-east-1".into(), &"2026-06-01".into()));
    // 11 pieces; 10 of them with a beginning and 16 parts.
    let requests = 11.0 * 0.05 + (10.0 * 17.0 + 13.0) * 0.005;
    assert!((money["delivery"].as_f64().unwrap() - requests / 1000.0).abs() < 0.0002, "{money}");
    world.setup.vault = "storage_class = \"GLACIER\"".to_owned();
    assert_eq!(report(&world, &[])["money"], Value::Null, "of that class nothing is known");
    world.setup.more =
        "[prices]\ndate = \"2026-11-01\"\nregion = \"eu-west-1\"\nstorage = 1\negress = [\"2\"]".to_owned();
    let refused = plan(&world, &[]).expect(2).stderr;
    assert!(refused.contains("prices.thaw_bulk: is missing") && !refused.contains("prices.date"), "{refused}");
    for key in ["storage_standard", "requests", "requests_standard", "minimum_days", "thaw_bulk", "thaw_bulk_requests"]
    {
        world.setup.more += &format!("\n{key} = 0");
    }
    world.setup.more += "\nthaw_standard = 0\nthaw_standard_requests = 0";
    let money = report(&world, &[])["money"].take();
    assert!((money["month"].as_f64().unwrap() - 10.0).abs() < 0.05 && money["minimum"] == 0.0, "{money}");
    assert!((money["restore_egress"].as_f64().unwrap() - 20.0).abs() < 0.05, "{money}");
    assert_eq!((&money["region"], &money["date"]), (&"eu-west-1".into(), &"2026-11-01".into()));
}

#[test]
fn a_source_that_is_not_there_is_told_and_the_others_are_planned() {
    let mut world = World::new();
    world.fill("echo 1 > file");
    let other = world.root.path().join("other");
    world.setup.source = format!("[[source]]\nname = \"other\"\npath = {other:?}");
    let ran = plan(&world, &[]).expect(75);
    assert!(ran.text().contains("data: ") && ran.stderr.contains("Source other: "), "{}{}", ran.text(), ran.stderr);
    plan(&world, &["other"]).expect(75);
    plan(&world, &["data"]).expect(0);
    assert!(plan(&world, &["nothing"]).expect(2).stderr.contains("There is no source \"nothing\""));
}

#[test]
fn how_far_it_came_that_cannot_be_read_is_told_and_fresh_starts_over() {
    let world = World::new();
    world.fill("echo 1 > file");
    let file = world.state.join("plan-data.json");
    fs::write(&file, "{}").unwrap();
    let ran = plan(&world, &[]).expect(7);
    assert!(ran.stderr.contains("plan-data.json") && ran.stderr.contains("--fresh"), "{}", ran.stderr);
    plan(&world, &["--fresh"]).expect(0);
    assert!(!file.exists());
}

#[test]
fn sums_that_no_disk_could_hold_are_told_all_the_same() {
    let mut world = World::new();
    let mount = super::left_out::Mount::tmpfs(&world.source);
    world.fill("for n in 1 2 3; do truncate -s 9223372036854775807 $n; done");
    world.setup.max_size = "48TiB".to_owned();
    world.setup.cap = "146TiB".to_owned();
    let report = report(&world, &["--link", "1kB/s"]);
    assert_eq!(report["file_bytes"], u64::MAX, "{report}");
    drop(mount);
}

#[test]
fn prices_that_cannot_be_are_told_with_their_lines() {
    let mut world = World::new();
    for (line, told) in [
        ("storage = -1", "prices.storage: must be a price"),
        ("storage = nan", "prices.storage: must be a price"),
        ("storage = \"cheap\"", "prices.storage: must be a price"),
        ("egress = [\"0.09\", \"0.05\"]", "prices.egress: must be steps"),
        ("egress = [\"much\"]", "prices.egress: write a price"),
        ("minimum_days = 9999", "prices.minimum_days: must be a number"),
    ] {
        world.setup.url = Some("s3://bucket/prefix".to_owned());
        world.setup.more = format!("[prices]\ndate = \"2026-11-01\"\nregion = \"eu-west-1\"\n{line}");
        let stderr = plan(&world, &[]).expect(2).stderr;
        let place = fs::read_to_string(world.config()).unwrap().lines().position(|text| text == line).unwrap() + 1;
        assert!(stderr.contains(told) && stderr.contains(&format!(":{place}: ")), "{line}: {stderr}");
    }
}
