//! The real binary, told to stop while a server that has taken its question never answers it.

use crate::{
    tools::{side_by_side, wait_until},
    world::{HANGS, World},
};
use archiver_s3_double::{Act, Rule};
use std::time::{Duration, Instant};

/// A stop takes no time but what a machine with other things to do needs for it.
const STOP_MAX: Duration = Duration::from_secs(15);

/// What is asked, and never answered.
fn questions() -> Vec<(&'static str, Rule)> {
    let hang = |operation| Rule::new(Act::Hang { read: true }).named(HANGS).on(operation);
    vec![
        ("whether the vault is there", hang("HeadObject").key("archiver.json")),
        ("to name the vault", hang("PutObject").key("archiver.json")),
        ("whether the listing of a pass is there", hang("HeadObject").key("tree.txt")),
        // The first one is asked by the delivery of the piece.
        ("which uploads a pass has left", hang("ListMultipartUploads").skip(1)),
    ]
}

fn stop_while((what, rule, is_daemon): (&str, Rule, bool)) -> Vec<String> {
    let world = World::new(1);
    world.double.script(rule);
    let (args, code): (&[&str], _) = if is_daemon { (&["run"], 0) } else { (&["run", "--once"], 143) };
    let mut running = world.start(args);
    wait_until(what, || {
        assert!(running.is_running(), "{what}: {}", running.log());
        world.double.fired(HANGS) == 1
    });
    let began = Instant::now();
    let ran = running.terminate();
    let (took, mut wrong) = (began.elapsed(), Vec::new());
    if ran.code != Some(code) || took > STOP_MAX {
        wrong.push(format!("it ended with {:?} after {took:?}\n{}", ran.code, ran.log));
    }
    world.double.clear_script();
    wrong.extend(world.wrong_when_healed());
    wrong.into_iter().map(|wrong| format!("asked {what}, {args:?}: {wrong}")).collect()
}

#[test]
fn a_server_that_never_answers_keeps_nobody_from_stopping() {
    let cases = questions().into_iter().flat_map(|(what, rule)| [(what, rule.clone(), false), (what, rule, true)]);
    let wrong = side_by_side(cases.collect(), 4, stop_while);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
