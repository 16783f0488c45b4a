//! The real binary, killed, cut short and its disk corrupted, and after each of that the same question: does one
//! more run, without any operator, end with every entry of the source in the vault exactly once?
//!
//! `campaign.sh` does at length what the tests here do in samples.

#![expect(clippy::disallowed_methods, reason = "these tests play the operator and the bad disk, from outside")]

#[path = "crash/catalog.rs"]
mod catalog;
#[path = "crash/check.rs"]
mod check;
#[path = "crash/check_tests.rs"]
mod check_tests;
#[path = "crash/corners.rs"]
mod corners;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/failing.rs"]
mod failing;
#[path = "crash/full.rs"]
mod full;
#[path = "crash/inside.rs"]
mod inside;
#[path = "crash/kills.rs"]
mod kills;
#[path = "crash/leaks.rs"]
mod leaks;
#[path = "crash/leftovers.rs"]
mod leftovers;
#[path = "crash/limits.rs"]
mod limits;
#[path = "crash/mounts.rs"]
mod mounts;
#[path = "crash/points.rs"]
mod points;
#[path = "crash/power.rs"]
mod power;
#[path = "crash/progress.rs"]
mod progress;
#[path = "crash/restored.rs"]
mod restored;
#[path = "crash/rot.rs"]
mod rot;
#[path = "crash/source.rs"]
mod source;
#[path = "crash/world.rs"]
mod world;
