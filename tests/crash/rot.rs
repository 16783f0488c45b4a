//! Files of staging that rot, are cut short, emptied or lost while nothing runs: found before delivery, and their
//! pieces made again from the source.

use crate::{
    check::{Compare, assert_right, judge},
    progress,
    source::{self, Random, setting, sh},
    world::{Setup, World},
};
use std::{fs, path::Path};

/// What may happen to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Cut,
    Zero,
    Empty,
    Lose,
}

const DAMAGES: [Damage; 5] = [Damage::Flip, Damage::Cut, Damage::Zero, Damage::Empty, Damage::Lose];

fn damage(path: &Path, how: Damage, random: &mut Random) {
    let mut bytes = fs::read(path).unwrap();
    let len = bytes.len();
    match how {
        _ if len == 0 => bytes.push(0),
        Damage::Flip => {
            let bit = random.below(8 * len as u64) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Damage::Cut => bytes.truncate(random.below(len as u64) as usize),
        Damage::Zero => bytes.fill(0),
        Damage::Empty => bytes.clear(),
        Damage::Lose => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// A state in which nothing runs, and what of it can rot.
struct Still {
    world: World,
    name: &'static str,
}

impl Still {
    /// Runs until something is so, then kills, and keeps a copy of how it stands.
    fn at(name: &'static str, world: World, more: &str, mut is_so: impl FnMut(&World) -> bool) -> Still {
        world.configure(more);
        let mut running = world.start();
        assert!(running.until(|_| is_so(&world)), "{name} was never reached\n{}", running.log());
        running.kill();
        world.configure("");
        let still = Still { world, name };
        sh(&still.world.path(""), "mkdir kept; cp -a staging state vault kept; cp -a source kept");
        still
    }

    fn restore(&self) {
        sh(&self.world.path(""), "for d in staging state vault; do rm -rf $d; cp -a kept/$d $d; done");
    }

    /// Changes the source. Its files are new ones then, as if it came from a backup.
    fn change(&self, how: &str) {
        let script = "find source -mindepth 1 -delete; cp -a kept/source/. source; touch -r kept/source source";
        sh(&self.world.path(""), script);
        sh(&self.world.source(), how);
    }

    /// All files that could rot: `dir/name`.
    fn files(&self) -> Vec<String> {
        let dirs = ["tmp", "tar", "xz", "gpg", "list"];
        let files =
            dirs.iter().flat_map(|dir| self.world.staged(dir).into_iter().map(move |name| format!("{dir}/{name}")));
        files.filter(|file| !file.ends_with(".new")).collect()
    }
}

/// What sort of file it is: one sample of each is enough for a test.
fn sort_of(file: &str) -> String {
    let (dir, name) = file.split_once('/').unwrap();
    let dots =
        name.find(".tar").or(name.find(".manifest")).or(name.find(".row")).or(name.find(".xz.")).or(name.find(".gpg."));
    format!("{dir}/*{}", &name[dots.unwrap_or(0)..])
}

/// Whether it is a piece (not a record of one) of which no later form stands: a kill may leave an earlier one beside it,
/// that is only to be removed.
fn is_last_form(file: &str, files: &[String]) -> bool {
    let name_of = |file: &str| file.split_once('/').map(|(_, name)| name.to_owned()).unwrap();
    let is_shelved = |file: &str| !file.starts_with("list/") && !file.starts_with("tmp/") && file.contains(".tar");
    let is_later = |other: &String| is_shelved(other) && name_of(other).starts_with(&(name_of(file) + "."));
    is_shelved(file) && !files.iter().any(is_later)
}

fn ruin(still: &Still, compare: Compare, change: Option<&str>) -> Vec<String> {
    let seed = setting("ARCHIVER_SEED", u64::from(std::process::id()));
    let all = setting("ARCHIVER_ROT_ALL", 0) == 1;
    let (mut random, mut violations, mut count) = (Random::new(seed), Vec::new(), 0);
    let files = still.files();
    let mut sorts: Vec<String> = files.iter().map(|file| sort_of(file)).collect();
    sorts.sort();
    sorts.dedup();
    for sort in &sorts {
        let of_sort: Vec<&String> = files.iter().filter(|file| sort_of(file) == *sort).collect();
        let cases = if all { of_sort.len() * DAMAGES.len() } else { 1 };
        let first = random.below((of_sort.len() * DAMAGES.len()) as u64) as usize;
        for case in first..first + cases {
            let (file, how) = (of_sort[case % of_sort.len()], DAMAGES[case / of_sort.len() % DAMAGES.len()]);
            still.restore();
            if let Some(change) = change {
                still.change(change);
            }
            damage(&still.world.staging(file), how, &mut random);
            count += 1;
            let ran = still.world.run();
            let mut wrong = judge(&still.world, &ran, compare);
            // What is gone cannot be delivered unnoticed, and before its row stands nobody has heard of it.
            if is_last_form(file, &files) && !matches!(how, Damage::Lose) && !ran.log.contains("Piece rotten") {
                wrong.push(format!("It was not found\n{}", ran.log));
            }
            for line in &wrong {
                println!("seed {seed}, {}: {how:?} {file}: {line}", still.name);
            }
            if let Some(line) = wrong.first() {
                violations.push(format!("{}: {how:?} {file}: {}", still.name, line.lines().next().unwrap()));
            }
        }
    }
    println!("{}: {count} damages to {sorts:?}, {} violations", still.name, violations.len());
    violations
}

/// No room for a wait, so that shelves fill.
fn roomy() -> Setup {
    Setup { cap: 64 << 20, ..Setup::default() }
}

fn sealed_but_not_delivered() -> Still {
    // Open for one hour, twelve hours from now.
    let window = sh(Path::new("/"), "h=$(( (10#$(date -u +%H) + 12) % 24 )); printf '%02d:00-%02d:30' $h $h");
    let more = format!("[upload]\nwindow = [\"{window}\"]");
    let world = World::new(roomy(), source::mixed);
    Still::at("sealed", world, &more, |world| {
        // The last piece holds the last entry; the walk has ended when all are here and no earlier form is.
        let sealed = world.staged("gpg").iter().filter(|name| name.contains(".tar")).count();
        sealed >= 8 && ["tmp", "tar", "xz"].iter().all(|dir| world.staged(dir).is_empty())
    })
}

fn packed() -> Still {
    let world = World::new(Setup { compress: "level = 9", ..roomy() }, source::mixed);
    Still::at("packed", world, "", |world| world.staged("tar").len() >= 5)
}

fn compressed() -> Still {
    let world = World::new(Setup { encrypted: true, ..roomy() }, source::mixed);
    Still::at("compressed", world, "", |world| world.staged("xz").len() >= 2)
}

fn draft_of_packing() -> Still {
    let marks = |world: &World| world.staged("tmp").iter().any(|name| name.ends_with(".tar.mark"));
    Still::at("packing", progress::slow_packing(), "", marks)
}

fn draft_of_compressing() -> Still {
    let marks = |world: &World| world.staged("tmp").iter().any(|name| name.ends_with(".xz.mark"));
    Still::at("compressing", progress::slow_compressing(), "", marks)
}

#[test]
fn what_rots_on_a_shelf_is_found_and_made_again() {
    let violations: Vec<String> = [sealed_but_not_delivered(), packed(), compressed()]
        .iter()
        .flat_map(|still| ruin(still, Compare::Equal, None))
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn what_rots_in_a_draft_is_found_and_made_again() {
    let violations: Vec<String> = [draft_of_packing(), draft_of_compressing()]
        .iter()
        .flat_map(|still| ruin(still, Compare::Equal, None))
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// In the range of every piece something has gone, come, grown and shrunk, so the same cut is not made again.
const CHANGE: &str = "rm -r alpha/00 alpha/deep many/11; head -c 300000 /dev/urandom > many/0;
    head -c 2000000 /dev/urandom > alpha/02; echo new > alpha/02-new; : > many/3; echo more >> big/F; mkdir big/more";

#[test]
fn a_piece_made_again_from_a_source_that_changed_is_consistent() {
    let violations: Vec<String> = [sealed_but_not_delivered(), packed()]
        .iter()
        .flat_map(|still| ruin(still, Compare::Consistent, Some(CHANGE)))
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn everything_on_the_shelves_may_be_lost_at_once() {
    for still in [sealed_but_not_delivered(), packed()] {
        sh(&still.world.path("staging"), "rm -rf tar/* xz/* gpg/* tmp/*");
        assert_right(&still.world, Compare::Equal, still.name);
    }
}

#[test]
fn kills_while_lost_pieces_are_made_again_lose_and_double_nothing() {
    let still = sealed_but_not_delivered();
    let step = setting("ARCHIVER_POINTS_STEP_AGAIN", 67);
    let mut violations = Vec::new();
    let mut point = 1 + u64::from(std::process::id()) % step;
    loop {
        still.restore();
        sh(&still.world.path("staging"), "rm gpg/*00000[2467]-*.tar.xz");
        let (ran, seen, last) = crate::points::run_until(&still.world, point);
        let is_killed = ran.code == Some(crate::world::KILLED);
        if is_killed {
            // What was just made again is lost, too.
            sh(&still.world.path("staging"), "rm -f {tar,xz,gpg}/*.tar*");
        }
        let wrong = match is_killed {
            true => crate::check::finish(&still.world, Compare::Equal),
            false => judge(&still.world, &ran, Compare::Equal),
        };
        for line in &wrong {
            println!("point {point} ({last}): {line}");
            violations.push(format!("point {point} ({last}): {}", line.lines().next().unwrap()));
        }
        if !is_killed {
            println!("again: killed at every {step} of {seen} points, {} violations", violations.len());
            break;
        }
        point += step;
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
