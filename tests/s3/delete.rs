//! `archiver delete` in a bucket: what it costs, what a bucket refuses, and that it goes on after any interruption.

use crate::{
    tools::{BUCKET, Random, wait_until},
    world::World,
};
use archiver_s3_double::{Act, Rule};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    primitives::DateTime,
    types::{
        BucketVersioningStatus, ObjectLockRetention, ObjectLockRetentionMode, VersioningConfiguration as Versioning,
    },
};
use aws_smithy_http_client::Builder;
use serde_json::Value;
use std::{fs, time::Duration};

const PIECES: u64 = 40;
const PRICES: &str = "[prices]\ndate = \"2026-06-01\"\nregion = \"here\"\nstorage = 512.0\nstorage_standard = 256.0\n\
                      minimum_days = 180\nrequests = 0\nrequests_standard = 0\nthaw_bulk = 0\nthaw_bulk_requests = 0\n\
                      thaw_standard = 0\nthaw_standard_requests = 0\negress = [\"0\"]\n";

/// Two passes of the same pieces.
fn archived() -> World {
    let mut world = World::new(0);
    world.max_size = 1 << 20;
    PRICES.clone_into(&mut world.more);
    for n in 0..PIECES {
        fs::write(world.path(&format!("source/{n:02}")), Random::new(n).bytes(530_000)).unwrap();
    }
    let ran = world.run_once();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    // A pass is named by the second in which it began.
    std::thread::sleep(Duration::from_millis(1_100));
    let again = world.start(&["run", "--once", "--pass-now", "data"]).wait();
    assert_eq!(again.code, Some(0), "{}", again.log);
    assert_eq!(world.pieces().len() as u64, 2 * PIECES);
    world
}

/// The older pass.
fn old(world: &World) -> String {
    world.pieces().iter().map(|row| row["pass"].as_str().unwrap().to_owned()).min().unwrap()
}

fn keys_of(world: &World, pass: &str) -> Vec<String> {
    world.double.objects(BUCKET).into_keys().filter(|key| key.contains(pass)).collect()
}

fn delete<'a>(pass: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["delete", "--yes", "--pass", pass][..], more].concat()
}

/// Nothing of the pass is left, and all of the other one is.
fn is_gone(world: &World, pass: &str) {
    assert_eq!(keys_of(world, pass), [""; 0]);
    assert_eq!(world.pieces().len() as u64, PIECES);
    assert_eq!(world.wrong(), [""; 0]);
}

fn client(world: &World) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(world.double.endpoint())
        .force_path_style(true)
        .http_client(Builder::new().build_http())
        .credentials_provider(Credentials::new(
            archiver_s3_double::ACCESS_KEY,
            archiver_s3_double::SECRET_KEY,
            None,
            None,
            "test",
        ));
    Client::from_conf(config.build())
}

#[test]
fn it_says_what_leaving_early_costs_and_what_is_saved() {
    let world = archived();
    let old = old(&world);
    let text = world.ask(&delete(&old, &["--dry-run", "--json"]));
    let plan: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let rows: Vec<Value> = world.pieces().into_iter().filter(|row| row["pass"] == *old).collect();
    let bytes: u64 = rows.iter().map(|row| row["sealed_size"].as_u64().unwrap()).sum();
    let classes = &plan["plan"]["classes"];
    assert_eq!((&classes[0]["class"], &classes[1]["class"]), (&"DEEP_ARCHIVE".into(), &"STANDARD".into()));
    assert_eq!((&classes[0]["objects"], &classes[0]["bytes"]), (&PIECES.into(), &bytes.into()));
    assert_eq!((&classes[0]["young"], &classes[0]["days_left"]), (&PIECES.into(), &180.into()));
    // 512 $ per GiB and month, and 180 days of 30.4 to come.
    let month = bytes as f64 / f64::from(1 << 21);
    let is_about = |value: &Value, expected: f64| (value.as_f64().unwrap() / expected - 1.0).abs() < 0.001;
    assert!(is_about(&classes[0]["a_month"], month), "{classes}");
    assert!(is_about(&classes[0]["early"], month * 180.0 * 12.0 / 365.0), "{classes}");
    assert_eq!((&classes[1]["young"], &classes[1]["early"]), (&0.into(), &0.0.into()));
    assert_eq!(classes[1]["objects"], PIECES + 2, "manifests, listing and index");
    // Two hundred days later nothing is paid any more, as the catalog knows when they came.
    let then = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(200 * 24)).to_string();
    crate::tools::sh(
        &world.path("state"),
        &format!(
            "python3 -c 'import sqlite3; c = sqlite3.connect(\"catalog.sqlite\"); \
             c.execute(\"UPDATE piece SET delivered_at = ?\", (\"{then}\",)); c.commit()'"
        ),
    );
    let text = world.ask(&delete(&old, &["--dry-run", "--json"]));
    let plan: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&plan["plan"]["classes"][0]["young"], &plan["plan"]["classes"][0]["early"]), (&0.into(), &0.0.into()));
    assert_eq!(keys_of(&world, &old).len() as u64, 2 * PIECES + 2);
}

#[test]
fn a_few_requests_remove_all_of_a_pass_the_index_first() {
    let world = archived();
    let old = old(&world);
    let ran = world.start(&delete(&old, &[])).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    is_gone(&world, &old);
    assert_eq!((world.double.requests("DeleteObjects"), world.double.requests("DeleteObject")), (4, 0));
}

#[test]
fn who_may_not_delete_is_told_what_it_takes_and_nothing_is_forgotten() {
    let world = archived();
    let old = old(&world);
    world.double.deny("DeleteObject");
    let ran = world.start(&delete(&old, &[])).wait();
    assert_eq!(ran.code, Some(4), "{}", ran.log);
    assert!(ran.log.contains("it takes the permission s3:DeleteObject on arn:aws:s3:::backup/lab/*"), "{}", ran.log);
    assert_eq!(world.double.requests("DeleteObjects"), 1, "where the index stays, all stays");
    assert_eq!((keys_of(&world, &old).len() as u64, world.pieces().len() as u64), (2 * PIECES + 2, 2 * PIECES));
    world.double.allow("DeleteObject");
    // Keys of its own, which the daemon does not have.
    world.double.revoke_key(archiver_s3_double::ACCESS_KEY);
    let key = archiver_s3_double::Key::new("AKIDELETER0000000001", "a-secret-of-the-deleter");
    world.double.add_key(key.clone());
    assert_eq!(world.start(&delete(&old, &[])).wait().code, Some(4));
    crate::direct::write_keys(&world.path("deleter"), &key.access, &key.secret);
    let file = world.path("deleter");
    let ran = world.start(&delete(&old, &["--credentials-file", file.to_str().unwrap()])).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    is_gone(&world, &old);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retention_holds_is_named_and_stays_whole() {
    let world = archived();
    let old = old(&world);
    let client = client(&world);
    let versioning = Versioning::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning).send().await.unwrap();
    let held = world.pieces().into_iter().find(|row| row["pass"] == *old && row["seq"] == 5).unwrap();
    let name = format!("lab/{}", held["key"].as_str().unwrap());
    let hold = async |until: i64| {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(DateTime::from_secs(until))
            .build();
        let asked = client.put_object_retention().bucket(BUCKET).key(&name).retention(retention);
        asked.bypass_governance_retention(true).send().await.unwrap();
    };
    hold(4_000_000_000).await;
    // Of a bucket with versions nothing of this pass must be left but what is held: no version, and no mark of deletion.
    let stored = async || {
        let all = client.list_object_versions().bucket(BUCKET).send().await.unwrap();
        let versions = all.versions().iter().map(|version| version.key().unwrap().to_owned());
        let marks = all.delete_markers().iter().map(|mark| mark.key().unwrap().to_owned());
        versions.chain(marks).filter(|key| key.contains(&old)).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let ran = world.start(&delete(&old, &[])).wait();
        assert_eq!(ran.code, Some(4), "{}", ran.log);
        assert!(ran.log.contains(&name["lab/".len()..]) && ran.log.contains("retention has not ended"), "{}", ran.log);
        let manifest = format!("lab/{}", held["manifest_key"].as_str().unwrap());
        let mut expected = vec![manifest, name.clone()];
        expected.sort();
        assert_eq!(stored().await, expected);
        let rows: Vec<Value> = world.pieces().into_iter().filter(|row| row["pass"] == *old).collect();
        assert!(rows.len() == 1 && rows[0] == held, "as it was: {rows:?}");
    }
    hold(1).await;
    let ran = world.start(&delete(&old, &[])).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(stored().await, [""; 0]);
    is_gone(&world, &old);
}

#[test]
fn one_that_is_killed_at_any_moment_goes_on() {
    let world = archived();
    let old = old(&world);
    // A server that knows one deletion at a time shows every moment between two.
    world.double.script(Rule::new(Act::refuse("NotImplemented")).on("DeleteObjects"));
    let (mut kills, mut counts) = (0, Vec::new());
    for at in [1, 2, 3, 4, 5, 10, 20, 30, 43, 44, 45, 46, 60, 70, 80, 83, 84] {
        let before = world.double.requests("DeleteObject");
        let mut run = world.start(&delete(&old, &["--force"]));
        wait_until("it deletes, or is done", || {
            world.double.requests("DeleteObject") >= before + at || !run.is_running()
        });
        kills += u32::from(run.is_running());
        run.kill();
        counts.push(keys_of(&world, &old).len());
        // An index that is there claims nothing that is gone.
        let keys = keys_of(&world, &old);
        let is_indexed = keys.iter().any(|key| key.contains("index.json"));
        assert!(!is_indexed || keys.iter().filter(|key| key.ends_with(".tar")).count() as u64 == PIECES, "{keys:?}");
        // A piece has its manifest, and what the catalog has forgotten is not stored.
        let manifests = |key: &str| key.replace(".tar", ".manifest.jsonl.zst");
        let tars = keys.iter().filter(|key| key.ends_with(".tar"));
        assert!(tars.map(|key| manifests(key)).all(|manifest| keys.contains(&manifest)), "{keys:?}");
        let is_known = world.pieces().iter().any(|row| row["pass"] == *old);
        assert!(is_known || keys.is_empty(), "{keys:?}");
    }
    println!("{kills} kills, {counts:?} objects left");
    assert!(kills >= 5, "{counts:?}");
    if world.pieces().iter().any(|row| row["pass"] == *old) {
        let ran = world.start(&delete(&old, &[])).wait();
        assert_eq!(ran.code, Some(0), "{}", ran.log);
    }
    is_gone(&world, &old);
    // What the kills left on this host is no riddle to the next run.
    std::thread::sleep(Duration::from_millis(1_100));
    let again = world.start(&["run", "--once", "--pass-now", "data"]).wait();
    assert_eq!(again.code, Some(0), "{}", again.log);
}

#[test]
fn an_outage_in_the_middle_ends_it_with_what_is_left_told() {
    let world = archived();
    let old = old(&world);
    world.double.script(Rule::new(Act::refuse("SlowDown")).on("DeleteObjects").skip(2).times(2));
    let ran = world.start(&delete(&old, &[])).wait();
    assert_eq!(ran.code, Some(0), "a short one is waited for: {}", ran.log);
    is_gone(&world, &old);
}
