//! What `archiver verify` finds in a bucket: without reading anything, from what S3 computes itself, and in pieces that are
//! thawed for it. And that nothing is asked for that costs more than was agreed to.

use crate::{
    restore::wait_for_thaws,
    tools::{BUCKET, MIB, Random, sh, wait_until},
    world::{Ran, World},
};
use archiver_s3_double::{Act, Rule, Thaw};
use serde_json::Value;
use std::{collections::BTreeMap, fs, time::Duration};

/// A thousand dollars for a gigabyte, thawed: about two for all four.
const PRICES: &str = "[prices]\ndate = \"2026-06-01\"\nregion = \"eu-west-1\"\nstorage = 0.01\nstorage_standard = 0\n\
                      minimum_days = 180\nrequests = 0\nrequests_standard = 0\nthaw_bulk = 1000\nthaw_bulk_requests = 0\n\
                      thaw_standard = 0\nthaw_standard_requests = 0\negress = [\"0\"]\n";

/// Four pieces of one size; a thaw takes so many seconds by the clock of the server.
fn archived(thaw: u64) -> World {
    let mut world = World::new(0);
    world.max_size = MIB;
    for n in 0..4 {
        fs::write(world.path(&format!("source/{n}")), Random::new(n).bytes(700_000)).unwrap();
    }
    assert_eq!(world.run_once().code, Some(0));
    assert_eq!(world.pieces().len(), 4);
    world.double.set_thaw(Thaw { standard: Duration::from_secs(thaw), bulk: Duration::from_secs(thaw) });
    world
}

/// How it ended, verdict and key of each finding, and the outcome.
fn verify(world: &World, args: &[&str]) -> (Ran, Vec<(String, String)>, Value) {
    let (ran, out) = world.start_and_read(&[&["verify", "--json"], args].concat());
    let mut lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcome = lines.iter_mut().find_map(|line| line.get_mut("outcome").map(Value::take)).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = lines.iter().filter(|line| line["verdict"].is_string());
    let found = found.map(|line| (text(&line["verdict"]), text(&line["key"]))).collect();
    (ran, found, outcome)
}

fn proofs(world: &World, how: &str) -> u64 {
    let statement = format!("SELECT count(*) FROM proof WHERE how = '{how}'");
    sql(world, &statement).trim().parse().unwrap()
}

fn sql(world: &World, statement: &str) -> String {
    let script = format!(
        "python3 - <<'END'\nimport sqlite3\nwith sqlite3.connect('state/catalog.sqlite') as db:\n    for row in \
         db.execute(\"{statement}\"): print(*row)\nEND"
    );
    sh(&world.path(""), &script)
}

fn keys(world: &World) -> Vec<String> {
    world.pieces().iter().map(|piece| piece["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_bucket_is_compared_with_what_was_sealed_without_reading_anything() {
    let world = archived(0);
    let before = world.double.requests("GetObject");
    let (ran, found, outcome) = verify(&world, &["--vault"]);
    assert_eq!((ran.code, found.len()), (Some(0), 0), "{}", ran.log);
    assert_eq!((&outcome["vault"]["objects"], proofs(&world, "listed")), (&10.into(), 4));
    assert_eq!((world.double.requests("GetObject"), world.double.requests("RestoreObject")), (before, 0));
    let keys = keys(&world);
    let index = keys[0].rsplit_once('/').unwrap().0.to_owned() + "/index.json.zst";
    assert!(world.double.lose_object(BUCKET, &format!("lab/{}", keys[1])));
    assert!(world.double.lose_object(BUCKET, &format!("lab/{index}")));
    // What the server keeps as checksum is held against the catalog.
    sql(&world, "UPDATE piece SET sealed_crc64 = sealed_crc64 + 1 WHERE seq = 1");
    sql(&world, "UPDATE piece SET sealed_size = sealed_size + 1 WHERE seq = 3");
    sql(&world, "DELETE FROM proof");
    let (ran, found, _) = verify(&world, &["--vault"]);
    let told: Vec<(&str, &str)> = found.iter().map(|(verdict, key)| (verdict.as_str(), key.as_str())).collect();
    let expected = [("damaged", &*keys[0]), ("missing", &*keys[1]), ("damaged", &*keys[2]), ("missing", &*index)];
    assert_eq!((ran.code, told.as_slice()), (Some(3), &expected[..]), "{}", ran.log);
    assert_eq!(proofs(&world, "listed"), 1);
}

#[test]
fn another_class_is_told_and_no_damage() {
    let mut world = archived(0);
    world.vault = format!("{}\nstorage_class = \"GLACIER_IR\"", world.vault);
    let (ran, found, _) = verify(&world, &["--vault"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert!(found.len() == 4 && found.iter().all(|(verdict, _)| verdict == "changed"), "{found:?}");
}

#[test]
fn a_vault_that_cannot_be_asked_is_told_within_seconds() {
    let world = archived(0);
    for operation in ["HeadObject", "ListObjectsV2"] {
        world.double.script(Rule::new(Act::refuse_as(503, "SlowDown")).on(operation).named("busy"));
    }
    for check in [&["--vault"][..], &["--deep", "1", "--yes"]] {
        let (ran, found, _) = verify(&world, check);
        assert_eq!((ran.code, found.len()), (Some(4), 0), "{}", ran.log);
    }
    world.double.clear_script();
    world.double.deny("HeadObject");
    world.double.deny("GetObject");
    let (ran, found, _) = verify(&world, &["--vault"]);
    assert_eq!((ran.code, found.len()), (Some(4), 0), "{}", ran.log);
    assert_eq!(proofs(&world, "listed"), 0);
}

#[test]
fn pieces_are_thawed_proven_and_left_as_they_were() {
    let world = archived(2);
    let (ran, found, outcome) = verify(&world, &["--deep", "2", "--yes"]);
    assert_eq!((ran.code, found.len()), (Some(0), 0), "{}", ran.log);
    assert_eq!((&outcome["deep"]["whole"], world.double.requests("RestoreObject")), (&2.into(), 2));
    assert_eq!((proofs(&world, "opened"), sh(&world.path("state/restore"), "find . -type f").as_str()), (2, ""));
    verify(&world, &["--deep", "2", "--yes"]);
    assert_eq!((proofs(&world, "opened"), world.double.requests("RestoreObject")), (4, 4));
}

#[test]
fn what_rots_in_the_bucket_is_found_by_opening_it() {
    let world = World::new(2);
    assert_eq!(world.run_once().code, Some(0));
    world.double.set_thaw(Thaw { standard: Duration::ZERO, bulk: Duration::ZERO });
    // The server keeps objects in files, and serves what is in them.
    let flip = "for f in $(find objects -type f -size +900k); do s=$(stat -c %s $f); printf x | \
                dd of=$f bs=1 seek=$((s / 2)) conv=notrunc status=none; done";
    sh(&world.path(""), flip);
    assert_eq!(verify(&world, &["--vault"]).0.code, Some(0), "S3 itself says nothing of it");
    let (ran, found, _) = verify(&world, &["--deep", "4", "--yes"]);
    assert_eq!(ran.code, Some(3), "{}", ran.log);
    let expected: Vec<(String, String)> = keys(&world).into_iter().map(|key| ("damaged".to_owned(), key)).collect();
    assert_eq!((found, proofs(&world, "opened")), (expected, 0));
}

#[test]
fn nothing_is_asked_for_that_was_not_agreed_to() {
    let mut world = archived(0);
    PRICES.clone_into(&mut world.more);
    let asked = || ["RestoreObject", "GetObject", "HeadObject"].map(|operation| world.double.requests(operation));
    let before = asked();
    let (ran, ..) = verify(&world, &["--deep", "4"]);
    assert!(ran.code == Some(2) && ran.log.contains("--yes"), "{}", ran.log);
    let (ran, ..) = verify(&world, &["--deep", "4", "--yes", "--budget", "0.5"]);
    assert!(ran.code == Some(75) && ran.log.contains("--budget is 0.50 $"), "{}", ran.log);
    let (ran, ..) = verify(&world, &["--deep", "4", "--dry-run"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(asked(), before);
    let (ran, ..) = verify(&world, &["--deep", "1", "--yes", "--budget", "5"]);
    assert_eq!((ran.code, world.double.requests("RestoreObject")), (Some(0), 1), "{}", ran.log);
}

#[test]
fn a_wait_for_a_thaw_that_is_interrupted_goes_on() {
    let world = archived(48 * 3600);
    let args = ["verify", "--deep", "4", "--yes"];
    let mut run = world.start(&args);
    wait_for_thaws(&world, 4);
    run.kill();
    let run = world.start(&args);
    let heads = world.double.requests("HeadObject");
    wait_until("it is asked how far they are", || world.double.requests("HeadObject") > heads + 8);
    world.double.clock().advance(Duration::from_secs(49 * 3600));
    let ran = run.wait();
    assert_eq!((ran.code, world.double.requests("RestoreObject")), (Some(0), 4), "{}", ran.log);
    assert_eq!(proofs(&world, "opened"), 4);
}

#[test]
fn a_drill_on_what_is_frozen_says_what_it_takes_and_thaws_when_it_is_meant() {
    let mut world = archived(2);
    PRICES.clone_into(&mut world.more);
    let (ran, _) = world.start_and_read(&["drill"]);
    let told = ["is frozen, and nothing was asked for", "within 48 hours", " $: ", "--yes"];
    assert!(ran.code == Some(75) && told.iter().all(|told| ran.log.contains(told)), "{:?} {}", ran.code, ran.log);
    assert_eq!(world.double.requests("RestoreObject"), 0);
    let (ran, _) = world.start_and_read(&["drill", "--yes", "--budget", "0.01"]);
    assert_eq!((ran.code, world.double.requests("RestoreObject")), (Some(75), 0), "{}", ran.log);
    let (ran, _) = world.start_and_read(&["drill", "--yes", "--piece", "2"]);
    assert_eq!(
        (ran.code, world.double.requests("RestoreObject"), proofs(&world, "opened")),
        (Some(0), 1, 1),
        "{}",
        ran.log
    );
    // It is thawed now: nothing is asked.
    let (ran, _) = world.start_and_read(&["drill", "--piece", "2"]);
    assert_eq!((ran.code, world.double.requests("RestoreObject")), (Some(0), 1), "{}", ran.log);
}

/// The report of a job over this list, as S3 writes it: checksums as the server computes them, by name of algorithm.
fn report(world: &World, list: &str, algorithm: &str) -> String {
    let mut lines = String::new();
    for line in list.lines() {
        let (bucket, name) = line.split_once(',').unwrap();
        let plain = name.replace("%20", " ");
        let Some(object) = world.double.object(bucket, &plain) else {
            lines += &format!(
                "{line},,failed,200,PermanentFailure,\"error details: {{\"\"failureMessage\"\":\"Task 1 Key not found\", \
                 \"\"errorCode\"\": \"404\"}}\"\n"
            );
            continue;
        };
        fs::write(world.path("object"), object.bytes()).unwrap();
        let script = match algorithm {
            "SHA256" => "openssl dgst -sha256 -binary object | base64 -w0",
            "CRC64NVME" => CRC64,
            _ => "printf AAAAAA==",
        };
        let sum = sh(&world.path(""), script).trim().replace('=', "\\u003d");
        lines += &format!(
            "{line},,succeeded,200,,\"{{\"\"checksum_base64\"\":\"\"{sum}\"\",\"\"etag\"\":\"\"3c3c\"\",\
             \"\"checksumAlgorithm\"\":\"\"{algorithm}\"\",\"\"checksumType\"\":\"\"FULL_OBJECT\"\",\"\"checksum_hex\"\":\"\"00\"\"}}\"\n"
        );
    }
    lines
}

/// By a table, in another language than ours.
const CRC64: &str = "python3 - <<'END'
import base64
table = []
for n in range(256):
    for _ in range(8): n = n >> 1 ^ (0x9a6c9329ac4bc9b5 if n & 1 else 0)
    table.append(n)
crc = (1 << 64) - 1
for byte in open('object', 'rb').read(): crc = crc >> 8 ^ table[(crc ^ byte) & 255]
print(base64.b64encode((crc ^ (1 << 64) - 1).to_bytes(8, 'big')).decode())
END";

#[test]
fn a_job_of_s3_gets_its_list_and_its_report_is_compared() {
    let mut world = World::new(0);
    world.max_size = MIB;
    world.vault = format!("url = \"s3://{BUCKET}/la%20b\"\n{}", world.vault).replace("%20", "-");
    for n in 0..3 {
        fs::write(world.path(&format!("source/{n}")), Random::new(n).bytes(700_000)).unwrap();
    }
    assert_eq!(world.run_once().code, Some(0));
    let file = world.path("list.csv");
    let list = ["--batch", file.to_str().unwrap()];
    assert_eq!(verify(&world, &list).0.code, Some(0));
    let list = fs::read_to_string(&file).unwrap();
    let names: Vec<&str> = list.lines().map(|line| line.strip_prefix("backup,").unwrap()).collect();
    let held: Vec<String> = world.double.objects(BUCKET).into_keys().collect();
    assert!(names.len() == 6 && names.iter().all(|name| held.iter().any(|key| key == name)), "{list} {held:?}");
    let judge = |text: &str| {
        fs::write(world.path("report.csv"), text).unwrap();
        sql(&world, "DELETE FROM proof");
        let path = world.path("report.csv");
        let (ran, found, outcome) = verify(&world, &["--batch-report", path.to_str().unwrap()]);
        let mut count = BTreeMap::new();
        for (verdict, _) in found {
            *count.entry(verdict).or_insert(0) += 1;
        }
        (ran.code, count, outcome, proofs(&world, "hashed"))
    };
    let good = report(&world, &list, "CRC64NVME");
    let (code, found, outcome, hashed) = judge(&good);
    assert_eq!((code, found.len(), &outcome["batch"]["objects"], hashed), (Some(0), 0, &6.into(), 3));
    // Of manifests no SHA-256 is known; nothing is wrong with them for that.
    let (code, found, _, hashed) = judge(&report(&world, &list, "SHA256"));
    assert_eq!((code, found.len(), hashed), (Some(0), 0, 3));
    let (code, found, _, hashed) = judge(&report(&world, &list, "MD5"));
    assert_eq!((code, found, hashed), (Some(3), BTreeMap::from([("unproven".to_owned(), 6)]), 0));
    // Objects that are others, gone, of somebody else, or not in it.
    let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
    let sum = |line: &str| line.split("checksum_base64\"\":\"\"").nth(1).unwrap()[..8].to_owned();
    lines[0] = lines[0].replace(&sum(&lines[0]), &sum(&lines[2]));
    lines.push(lines[4].replace("backup,", "other,"));
    lines.remove(4);
    let (code, found, outcome, hashed) = judge(&lines.join("\n"));
    assert_eq!((code, found, hashed), (Some(3), BTreeMap::from([("damaged".to_owned(), 1)]), 1));
    assert_eq!((&outcome["batch"]["foreign"], &outcome["batch"]["absent"]), (&1.into(), &1.into()), "{outcome}");
    assert!(world.double.lose_object(BUCKET, names[1]));
    let (code, found, _, hashed) = judge(&report(&world, &list, "CRC64NVME"));
    assert_eq!((code, found, hashed), (Some(3), BTreeMap::from([("missing".to_owned(), 1)]), 2));
    for bad in ["{\"Format\": \"Report_CSV_20180820\"}", "bucket,key"] {
        assert_eq!(judge(bad).0, Some(2), "{bad}");
    }
}
