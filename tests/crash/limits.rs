//! Limits of the system that are too low for a run: a clear end or none, and nothing lost.

use crate::{
    check::{Compare, assert_right},
    source::{self, setting},
    world::{Setup, World},
};

/// One limit, by prlimit(1), and what a run within it may say when it ends.
fn within(option: &str, values: impl Iterator<Item = u64>, said: &[&str]) {
    for value in values {
        let world = World::new(Setup { encrypted: true, cap: 32 << 20, ..Setup::default() }, source::mixed);
        let limit = format!("--{option}={value}");
        let ran = world.start_with(world.command("prlimit", &[&limit])).wait();
        println!("{limit}: exit code {:?}", ran.code);
        assert!(ran.code.is_some_and(|code| code < 128), "{limit}: {:?}\n{}", ran.code, ran.log);
        assert!(ran.code == Some(0) || said.iter().any(|said| ran.log.contains(said)), "{limit}\n{}", ran.log);
        assert_right(&world, Compare::Equal, &limit);
    }
}

fn step() -> usize {
    usize::try_from(setting("ARCHIVER_LIMITS_STEP", 20)).unwrap()
}

#[test]
fn a_run_with_few_open_files_ends_clearly_or_well() {
    let said = ["Too many open files", "os error 24", "unable to open database file"];
    within("nofile", (8..40).step_by(step()), &said);
}
