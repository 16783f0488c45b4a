//! The catalog is damaged, old, of another version or gone while nothing runs: never started over in silence, never a
//! false "done". The next run goes back to the last good copy, finds out what that does not know, and ends well; where
//! that cannot be found out, it says so and changes nothing.

use crate::{
    check::{Compare, assert_right, files, judge},
    points::{Interrupted, campaign, first, run_until},
    source::{self, setting, sh},
    world::{KILLED, Setup, World},
};
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

/// Damage, and what the next run must say of it.
struct Case {
    name: &'static str,
    damage: &'static str,
    said: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "cut", damage: "truncate -s -5000 catalog.sqlite", said: "damaged" },
    Case { name: "cut to a page", damage: "truncate -s 4096 catalog.sqlite", said: "damaged" },
    Case { name: "empty", damage: ": > catalog.sqlite", said: "it is empty" },
    Case { name: "gone", damage: "rm -f catalog.sqlite catalog.sqlite-*", said: "it is gone" },
    Case {
        name: "zeros",
        damage: "dd if=/dev/zero of=catalog.sqlite bs=$(stat -c %s catalog.sqlite) count=1 conv=notrunc status=none",
        said: "damaged",
    },
    Case {
        name: "flipped bits",
        damage: "for at in 5000 9000 20000 45000 70000; do printf '\\377' | \
            dd of=catalog.sqlite bs=1 seek=$at conv=notrunc status=none; done",
        said: "damaged",
    },
];

/// Left as it is, with or without a copy.
const NEWER: Case = Case {
    name: "of a newer version",
    damage: "printf '\\000\\000\\003\\347' | dd of=catalog.sqlite bs=1 seek=60 conv=notrunc status=none",
    said: "use a newer archiver",
};

fn world() -> World {
    World::new(Setup { cap: 64 << 20, compress: "level = 9", ..Setup::default() }, source::mixed)
}

/// Runs until so many pieces are in the vault, and is told to stop.
pub fn stop_at(world: &World, count: usize) {
    let mut running = world.start();
    let is_piece = |path: &String| path.starts_with("h1/") && path.contains(".tar.");
    assert!(running.until(|_| files(&world.path("vault")).iter().filter(|path| is_piece(path)).count() >= count));
    running.terminate();
    assert_eq!(running.code(), Some(143), "{}", running.log());
}

/// When the copy was made: names of catalogs that were kept.
const BEFORE: &str = "of before the pass";
const AT_TWO: &str = "of two pieces";
const AT_FIVE: &str = "of five pieces";
const MOMENTS: [&str; 3] = [BEFORE, AT_TWO, AT_FIVE];

/// A catalog that was closed is one file.
fn keep_catalog(world: &World, moment: &str) {
    sh(&world.path(""), &format!("cp -p state/catalog.sqlite '{moment}'"));
}

/// A world in which so many pieces of a pass were delivered, with catalogs of earlier moments kept beside it.
fn in_the_middle() -> World {
    let world = world();
    // A source that is not there is held, and no pass is begun.
    sh(&world.path(""), "mv source away");
    assert_eq!(world.run().code, Some(75));
    sh(&world.path(""), "mv away source");
    keep_catalog(&world, BEFORE);
    stop_at(&world, 2);
    keep_catalog(&world, AT_TWO);
    stop_at(&world, 5);
    keep_catalog(&world, AT_FIVE);
    world
}

/// Keeps state, staging and vault as they are now, to be brought back again and again.
fn keep(world: &World) {
    sh(&world.path(""), "mkdir whole; cp -a state staging vault whole");
}

fn bring_back(world: &World) {
    sh(&world.path(""), "rm -rf state staging vault; cp -a whole/* .");
}

/// The copy of that moment is the last one, and the catalog is damaged.
fn damage(world: &World, moment: &str, case: &Case) {
    sh(&world.path("state"), &format!("cp -p '../{moment}' catalog.sqlite.copy; {}", case.damage));
}

/// Every object and when it was written, in seconds and nanoseconds, as no other of the same name was.
fn pieces(world: &World) -> BTreeMap<String, (i64, i64)> {
    let all = files(&world.path("vault")).into_iter().filter(|path| path.starts_with("h1/"));
    let written = |path: &String| fs::metadata(world.path("vault").join(path)).unwrap();
    all.map(|path| (path.clone(), (written(&path).mtime(), written(&path).mtime_nsec()))).collect()
}

/// What Python's own SQLite reads in the catalog.
fn sql(world: &World, statement: &str) -> String {
    sql_in(world, "state/catalog.sqlite", statement)
}

fn sql_in(world: &World, file: &str, statement: &str) -> String {
    let script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())";
    sh(&world.path(""), &format!("python3 -c \"{script}\" '{file}' \"{statement}\"")).trim().to_owned()
}

/// One more run ends well: everything is in the vault once, and what was there before is what is there now.
fn goes_on(world: &World, before: &BTreeMap<String, (i64, i64)>, what: &str) -> Vec<String> {
    let ran = world.run();
    let mut wrong = judge(world, &ran, Compare::Equal);
    wrong.extend(unlike(world, before));
    for (what, statement, expected) in [
        ("retired pieces", "SELECT count(*) FROM piece WHERE state = 'retired'", "0"),
        ("passes", "SELECT count(*) || count(ended) FROM pass", "11"),
        ("uploads", "SELECT count(*) FROM upload", "0"),
        ("signs of being behind", "SELECT count(*) FROM setting WHERE name = 'behind'", "0"),
    ] {
        let found = sql(world, statement);
        if found != expected {
            wrong.push(format!("{found} {what}"));
        }
    }
    wrong.into_iter().map(|line| format!("{what}: {line}")).collect()
}

/// What was delivered before, and is not the same now.
fn unlike(world: &World, before: &BTreeMap<String, (i64, i64)>) -> Vec<String> {
    let now = pieces(world);
    let other = before.iter().filter(|(path, written)| now.get(*path) != Some(written));
    other.map(|(path, _)| format!("{path} was delivered before, and is not the same now")).collect()
}

/// What was put aside.
fn aside(world: &World) -> Vec<String> {
    files(&world.path("state")).into_iter().filter(|name| name.contains(".damaged-")).collect()
}

/// Damaged in every way, with the copy of every moment.
fn damaged(world: &World) {
    keep(world);
    let before = pieces(world);
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        // Each with one moment, and the first with all.
        for (other, moment) in MOMENTS.into_iter().enumerate() {
            if number > 0 && other != number % MOMENTS.len() {
                continue;
            }
            bring_back(world);
            damage(world, moment, case);
            let what = format!("{}, copy {moment}", case.name);
            if let Err(said) = world.ask(&["ls", "--all", "--json"])
                && said.contains(case.said)
                && said.contains("goes back to the copy")
                && aside(world).is_empty()
            {
            } else {
                wrong.push(format!("{what}: `ls` does not say what is wrong and what will be done"));
            }
            wrong.extend(goes_on(world, &before, &what));
            let log = fs::read_to_string(world.path("log")).unwrap();
            let told = log.lines().filter(|line| line.contains("The catalog is behind")).count();
            if told != 1 || !log.contains(case.said) || !log.contains("The catalog has caught up") {
                wrong.push(format!("{what}: it is not told once\n{log}"));
            }
            if aside(world).is_empty() && case.name != "gone" {
                wrong.push(format!("{what}: the damaged one was not kept"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_damaged_catalog_in_the_middle_of_a_pass_goes_back_to_its_copy_and_loses_and_doubles_nothing() {
    damaged(&in_the_middle());
}

#[test]
fn a_damaged_catalog_after_a_pass_goes_back_to_its_copy_and_begins_no_other() {
    let world = in_the_middle();
    assert_right(&world, Compare::Equal, "undamaged");
    damaged(&world);
}

#[test]
fn a_damaged_catalog_of_pieces_that_rotted_after_the_copy_was_made_goes_on_behind_them() {
    let world = world();
    stop_at(&world, 2);
    keep_catalog(&world, AT_TWO);
    // The first that wait are made again under other seqs, and everything is delivered but the last.
    sh(
        &world.path("staging"),
        "for file in $(ls -d tar/* xz/* gpg/*.tar* | head -2); do truncate -s -1000 $file; done",
    );
    stop_at(&world, 6);
    let retired = sql(&world, "SELECT count(*) FROM piece WHERE state = 'retired'");
    assert_ne!(retired, "0");
    let before = pieces(&world);
    damage(&world, AT_TWO, &CASES[0]);
    let mut wrong = judge(&world, &world.run(), Compare::Equal);
    wrong.extend(unlike(&world, &before));
    assert_eq!(sql(&world, "SELECT count(*) FROM piece WHERE state = 'retired'"), retired);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_kill_at_any_point_of_going_back_loses_and_doubles_nothing() {
    let world = in_the_middle();
    keep(&world);
    let before = pieces(&world);
    let step = setting("ARCHIVER_POINTS_STEP_COPY", 9);
    let most = setting("ARCHIVER_POINTS_MOST_COPY", 12);
    let (count, violations) = campaign("going back", (first(step), step, most), |point| {
        bring_back(&world);
        damage(&world, MOMENTS[point as usize % 3], &CASES[point as usize % CASES.len()]);
        let (ran, seen, last) = run_until(&world, point);
        let wrong = match ran.code {
            Some(KILLED) => goes_on(&world, &before, "killed"),
            _ => judge(&world, &ran, Compare::Equal),
        };
        Interrupted { seen, last, wrong }
    });
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(count >= 5, "{count} kills: the program is traced no more");
}

#[test]
fn an_older_catalog_in_its_place_loses_and_doubles_nothing() {
    let world = in_the_middle();
    keep(&world);
    let before = pieces(&world);
    let mut wrong = Vec::new();
    for moment in MOMENTS {
        bring_back(&world);
        sh(&world.path("state"), &format!("rm catalog.sqlite*; cp -p '../{moment}' catalog.sqlite"));
        wrong.extend(goes_on(&world, &before, moment));
    }
    // Not even a copy of it is left, but records of all that it knew.
    bring_back(&world);
    sh(&world.path("state"), "rm catalog.sqlite*");
    wrong.extend(goes_on(&world, &before, "none at all"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pieces_of_which_only_the_manifest_is_left_are_known_again() {
    let world = in_the_middle();
    keep(&world);
    let before = pieces(&world);
    let mut wrong = Vec::new();
    for damage_of_records in ["rm", "truncate -s 20"] {
        bring_back(&world);
        damage(&world, BEFORE, &CASES[0]);
        // Of segments before the last, the record is needed.
        let records = "for n in $(ls manifests/data/*/*.jsonl.zst | grep -v -e 00000[1-5] | head -1) manifests/data/*/{000001,pass}; do";
        let script = format!("{records} {damage_of_records} ${{n%.jsonl.zst}}*.json; done");
        sh(&world.path("state"), &script);
        wrong.extend(goes_on(&world, &before, damage_of_records));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The host can read nothing of what is in the vault: no secret key is on it before everything is judged.
#[test]
fn a_damaged_catalog_of_a_host_that_has_certificates_only_loses_and_doubles_nothing() {
    let world =
        World::new(Setup { cap: 64 << 20, compress: "level = 9", encrypted: true, ..Setup::default() }, source::mixed);
    let make = "mkdir -m 700 away; export GNUPGHOME=$PWD/away
        gpg --batch --quiet --passphrase '' --quick-gen-key backup@example.org future-default default never 2>/dev/null
        gpg --armor --export > certificate.asc; gpgconf --kill all
        sed -i \"s|^passphrase_file.*|recipients = ['$PWD/certificate.asc']|\" archiver.toml";
    sh(&world.path(""), make);
    stop_at(&world, 1);
    keep_catalog(&world, AT_TWO);
    stop_at(&world, 4);
    let before = pieces(&world);
    damage(&world, AT_TWO, &CASES[0]);
    let ran = world.run();
    sh(&world.path(""), "mv away gnupg");
    let mut wrong = judge(&world, &ran, Compare::Equal);
    wrong.extend(unlike(&world, &before));
    assert!(ran.log.contains("The catalog has caught up"), "{}", ran.log);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Refused with these words, and left as it was found.
fn is_refused(world: &World, what: &str, said: &[&str]) -> Vec<String> {
    let look = "find vault state -type f ! -name '*-wal' ! -name '*-shm' | sort; cat state/catalog.sqlite | sha256sum";
    let before = sh(&world.path(""), look);
    let ran = world.run();
    let mut wrong = Vec::new();
    if ran.code != Some(7) || !said.iter().all(|said| ran.log.contains(said)) {
        wrong.push(format!("{what}: exit code {:?}\n{}", ran.code, ran.log));
    }
    let after = sh(&world.path(""), look);
    if before != after {
        wrong.push(format!("{what}: something was changed\n{before}\n{after}"));
    }
    if world.ask(&["ls", "--all", "--json"]).is_ok() {
        wrong.push(format!("{what}: `ls` says nothing of it"));
    }
    wrong
}

#[test]
fn without_a_good_copy_a_damaged_catalog_stops_a_run() {
    let world = world();
    stop_at(&world, 2);
    keep_catalog(&world, AT_TWO);
    keep(&world);
    let mut wrong = Vec::new();
    // One that is gone without a copy is made again from what is on record beside it.
    for case in CASES.iter().filter(|case| case.name != "gone") {
        bring_back(&world);
        sh(&world.path("state"), &format!("{}; rm -f catalog.sqlite.copy", case.damage));
        wrong.extend(is_refused(&world, case.name, &[case.said, "archiver rebuild"]));
        bring_back(&world);
        sh(
            &world.path("state"),
            &format!("{}; head -c 6000 ../whole/state/catalog.sqlite > catalog.sqlite.copy", case.damage),
        );
        wrong.extend(is_refused(
            &world,
            &format!("{}, copy too", case.name),
            &["its copy is no better", "archiver rebuild"],
        ));
    }
    bring_back(&world);
    damage(&world, AT_TWO, &NEWER);
    wrong.extend(is_refused(&world, NEWER.name, &[NEWER.said]));
    bring_back(&world);
    wrong.extend(judge(&world, &world.run(), Compare::Equal));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_vault_holds_and_nobody_here_knows_stops_a_run_that_went_back() {
    let world = in_the_middle();
    keep(&world);
    let mut wrong = Vec::new();
    // Delivered after the copy was made.
    let delivered = |file| sql_in(&world, file, "SELECT group_concat(seq) FROM piece WHERE state = 'delivered'");
    let (then, now) = (delivered(AT_TWO), delivered("state/catalog.sqlite"));
    let is_new = |seq: &&str| !then.split(',').any(|before| before == *seq);
    let later: u32 = now.split(',').find(is_new).unwrap().parse().unwrap();
    for (forgotten, moment) in [(&*format!("{later:06}"), AT_TWO), ("0*", BEFORE), ("", BEFORE)] {
        bring_back(&world);
        damage(&world, moment, &CASES[0]);
        sh(&world.path("state"), &format!("rm -r manifests/data/*/{forgotten}*"));
        let before = pieces(&world);
        for _ in 0..2 {
            let ran = world.run();
            if ran.code != Some(7)
                || !["The vault holds h1/data/", "archiver rebuild"].iter().all(|said| ran.log.contains(said))
            {
                wrong.push(format!("{forgotten:?}: exit code {:?}\n{}", ran.code, ran.log));
            }
        }
        if before != pieces(&world) {
            wrong.push(format!("{forgotten:?}: the vault was changed"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_oldest_of_what_was_put_aside_goes() {
    let world = world();
    assert_right(&world, Compare::Equal, "undamaged");
    for year in 2001..2007 {
        let names = format!("touch -m catalog.sqlite.damaged-{year}0101T000000Z{{,-wal}}; chmod 600 catalog*");
        sh(&world.path("state"), &names);
    }
    sh(&world.path("state"), ": > catalog.sqlite");
    assert_right(&world, Compare::Equal, "damaged");
    let left = aside(&world);
    let of = |year: &str| left.iter().filter(|name| name.contains(&format!("-{year}"))).count();
    assert!(["2001", "2002", "2003", "2004"].iter().all(|year| of(year) == 0), "{left:?}");
    assert!(of("2005") == 2 && of("2006") == 2 && left.len() > 4, "{left:?}");
}
