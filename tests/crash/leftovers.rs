//! What others leave in staging, and what goes away under a daemon: nothing foreign is removed, nothing is followed out of
//! it, and what is missing is an error that says so or is made again.

use crate::{
    check::{Compare, judge},
    source::{self, setting, sh},
    world::{Ran, Setup, World},
};

fn roomy() -> World {
    World::new(Setup { cap: 64 << 20, compress: "level = 9", ..Setup::default() }, source::mixed)
}

/// Two of all cases, others in every run of the tests, or all.
fn some<T>(cases: &[T]) -> impl Iterator<Item = &T> {
    let count = if setting("ARCHIVER_LEFTOVERS_ALL", 0) == 1 { cases.len() } else { 2 };
    cases.iter().cycle().skip(std::process::id() as usize % cases.len()).take(count)
}

/// What lies in staging without being ours: each must be there afterwards as it was.
const FOREIGN: &str = "
    echo mine > note; mkdir 'some dir'; echo deep > 'some dir/file'; ln -s ../outside link
    for shelf in tmp tar xz gpg list; do
        echo mine > $shelf/notes.txt; mkdir $shelf/photos; echo deep > $shelf/photos/x; ln -s ../../outside $shelf/away
        mkfifo $shelf/pipe; echo mine > $shelf/\"$(printf 'a\\nb\\377')\"
    done";

/// Of no pass that the catalog knows: under names of ours, so they may go, but nothing behind them.
const NAMES: &str = "
    for name in data.20200101T000000Z.000001-a.tar data.20200101T000000Z.000002-a.tar.xz; do
        for shelf in tmp tar xz gpg list; do
            ln -s ../../outside/kept $shelf/$name; ln -s ../../outside $shelf/$name.mark; mkfifo $shelf/$name.gpg
        done
    done
    ln -s ../../outside/kept gpg/data.20200101T000000Z.index.json.zst";

const LIST: &str = "find . \\( -name lock -o -name 'data.*' \\) -prune -o -printf '%P %y %l\\n' | sort | tr -d '\\377'; cat note */notes.txt */photos/x";

#[test]
fn foreign_files_in_staging_stay_and_hinder_nobody() {
    let world = roomy();
    sh(&world.path(""), "mkdir -m 700 staging staging/{tmp,tar,xz,gpg,list} outside; echo kept > outside/kept");
    sh(&world.path("staging"), FOREIGN);
    sh(&world.path("staging"), NAMES);
    let before = sh(&world.path("staging"), LIST);
    let ran = world.run();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(sh(&world.path("staging"), LIST), before, "{}", ran.log);
    assert_eq!(sh(&world.path("outside"), "ls; cat kept"), "kept\nkept\n");
    sh(&world.path("staging"), "find . -mindepth 1 -delete");
    assert_eq!(judge(&world, &world.run(), Compare::Equal), Vec::<String>::new());
}

/// What stands where ours should, what the run must end with and say, and what puts it right.
const IN_THE_WAY: &[(&str, i32, &str, &str)] = &[
    ("flock -nF staging/lock sleep 60 & echo $! > holder; sleep 0.2", 7, "is in use by another", "kill $(cat holder)"),
    ("rmdir staging/tar; echo > staging/tar", 6, "staging/tar", "rm staging/tar"),
    ("rmdir staging/gpg; ln -s ../nowhere staging/gpg", 6, "staging/gpg", "rm staging/gpg"),
    ("rm -r staging; echo > staging", 6, "staging", "rm staging"),
];

#[test]
fn what_stands_in_the_way_is_named() {
    for (spoil, code, said, repair) in some(IN_THE_WAY) {
        let world = roomy();
        sh(
            &world.path(""),
            "mkdir -m 700 staging staging/{tmp,tar,xz,gpg,list}; install -m 600 /dev/null staging/lock",
        );
        sh(&world.path(""), &format!("({spoil}) > /dev/null 2>&1"));
        let ran = world.run();
        sh(&world.path(""), repair);
        assert_eq!(ran.code, Some(*code), "{spoil}\n{}", ran.log);
        let told = ran.log.lines().any(|line| line.contains("ERROR") && line.contains(said)) || ran.log.contains(said);
        assert!(told, "{spoil}\n{}", ran.log);
        let after = world.run();
        assert_eq!(judge(&world, &after, Compare::Equal), Vec::<String>::new(), "{spoil}");
    }
}

/// What goes away under a run, and what puts it right for the next one, if it does not put it right itself.
const GONE: &[(&str, &str)] = &[
    ("rm -r staging/tar", "true"),
    ("rm -r staging/gpg", "true"),
    ("rm -r staging/list", "true"),
    ("rm -r staging/tmp", "true"),
    ("rm staging/lock", "true"),
    ("rm -r staging", "true"),
    ("mv staging away", "rm -rf staging; mv away staging"),
];

#[test]
fn what_goes_away_under_a_run_is_made_again() {
    for (spoil, repair) in some(GONE) {
        let world = roomy();
        let mut running = world.start();
        assert!(running.until(|_| world.staged("tar").len() >= 3), "{}", running.log());
        // A file that appears while its directory is removed makes rm fail.
        sh(&world.path(""), &format!("{spoil} || {spoil}"));
        let Ran { code, log } = running.wait();
        println!("{spoil}: exit code {code:?}");
        assert!(matches!(code, Some(0 | 6)), "{spoil}: {code:?}\n{log}");
        sh(&world.path(""), repair);
        let after = world.run();
        assert_eq!(judge(&world, &after, Compare::Equal), Vec::<String>::new(), "{spoil}\n{log}");
    }
}

#[test]
fn what_a_kill_left_of_a_copy_of_the_catalog_goes() {
    let world = World::new(Setup::default(), source::mixed);
    let left = "mkdir -m 700 state; install -m 600 /dev/null state/catalog.sqlite.copy.new; \
        cp -p state/catalog.sqlite.copy.new{,-journal}";
    sh(&world.path(""), left);
    // No pass ends, so that no copy is made.
    sh(&world.path(""), "mv source away");
    let ran = world.run();
    assert_eq!(ran.code, Some(75), "{}", ran.log);
    let found = sh(&world.path("state"), "find . -name '*.copy.new*'");
    assert_eq!(found, "", "{}", ran.log);
}
