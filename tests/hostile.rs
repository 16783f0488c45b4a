//! Promises about sources that are against us: filesystems that hang, fail and lie, trees that move under the walk to
//! lead it outside, names that forge lines, and mounts that come and go. All of it with the whole program.
//!
//! Most of it needs root, to mount; without it those tests say so and do nothing.

mod common;
#[path = "hostile/extremes.rs"]
mod extremes;
#[path = "hostile/faults.rs"]
mod faults;
#[path = "hostile/hung.rs"]
mod hung;
#[path = "hostile/mounts.rs"]
mod mounts;
#[path = "hostile/odd.rs"]
mod odd;
#[path = "hostile/others.rs"]
mod others;
#[path = "hostile/rights.rs"]
mod rights;
#[path = "hostile/swaps.rs"]
mod swaps;
#[path = "hostile/words.rs"]
mod words;

use common::{World, path_of};
use serde_json::Value;

/// Whether this can be tested here; says so if not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("Only root can mount: not tested");
    }
    is_root
}

/// Reason and severity of all exceptions, by path.
fn exceptions(world: &World) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |line: &Value| {
        (String::from_utf8_lossy(&path_of(line)).into_owned(), text(&line["reason"]), text(&line["severity"]))
    };
    world.exceptions().iter().map(of).collect()
}

fn told(path: &str, reason: &str, severity: &str) -> (String, String, String) {
    (path.to_owned(), reason.to_owned(), severity.to_owned())
}

/// Everything that is archived, unpacked with stock tools.
fn unpacked(world: &World) -> std::path::PathBuf {
    let to = world.root.path().join("together");
    let _ = std::fs::remove_dir_all(&to);
    std::fs::create_dir(&to).unwrap();
    for key in world.keys() {
        world.open_piece_alone(&key, &to);
    }
    to
}

/// A number from the environment, so that a campaign can do more than a test.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
