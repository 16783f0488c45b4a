//! The real binary, killed at every point of an upload and at random moments: the next start goes on with the same
//! upload, sends no part that the server holds, and leaves one object and no upload behind.

use crate::{
    tools::{BUCKET, Random, setting, wait_until},
    world::{HANGS, World},
};
use archiver_s3_double::{Act, Double, Rule};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Longer than any test lasts.
const NEVER: Duration = Duration::from_secs(100_000);

/// So many kills of one run at most; then it is left alone.
const IN_A_ROW_MAX: u64 = 12;

/// A moment in the life of an upload: where the server keeps the client waiting, and when that is reached.
struct Point {
    name: &'static str,
    rule: Rule,
    reached: fn(&Double) -> bool,
}

/// Parts that the server holds of uploads under way.
fn held(double: &Double) -> usize {
    double.uploads(BUCKET).iter().map(|upload| upload.parts.len()).sum()
}

fn pieces(double: &Double) -> usize {
    double.objects(BUCKET).keys().filter(|key| key.ends_with(".tar")).count()
}

fn points() -> Vec<Point> {
    let hang = || Rule::new(Act::Hang { read: true }).key(".tar").named(HANGS);
    let lost = || Rule::new(Act::Nothing).key(".tar").named("lost").delay_answer(NEVER);
    let point = |name, rule, reached| Point { name, rule, reached };
    vec![
        point("before an upload is begun", hang().on("CreateMultipartUpload"), |_| true),
        point("when an upload is begun and not known", lost().on("CreateMultipartUpload"), |double| {
            double.uploads(BUCKET).len() == 1
        }),
        point("before the first part", hang().on("UploadPart").part(1), |_| true),
        point("between parts", hang().on("UploadPart").part(3), |double| held(double) == 2),
        point("when a part is taken and not known", lost().on("UploadPart").part(2), |double| held(double) == 3),
        point("before Complete is done", hang().on("CompleteMultipartUpload"), |_| true),
        point("when Complete is done and not known", lost().on("CompleteMultipartUpload"), |double| {
            pieces(double) == 1
        }),
        point("after Complete, before the catalog knows", hang().on("HeadObject").skip(1), |double| {
            pieces(double) == 1
        }),
    ]
}

/// Kills a run at a point, and lets the next one come to its end.
fn kill_at(point: Point, is_daemon: bool) -> Vec<String> {
    let world = World::new(2);
    let args: &[&str] = if is_daemon { &["run"] } else { &["run", "--once"] };
    world.double.script(point.rule.once());
    let mut running = world.start(args);
    wait_until(point.name, || {
        assert!(running.is_running(), "{}: {}", point.name, running.log());
        world.double.fired(HANGS) + world.double.fired("lost") == 1 && (point.reached)(&world.double)
    });
    running.kill();
    world.settle();
    world.double.clear_script();
    let mut wrong = world.false_receipts();
    let again = world.start(args);
    let ran = if is_daemon {
        wait_until("the pass has ended", || world.status()["sources"][0]["state"] == "ended");
        again.terminate()
    } else {
        again.wait()
    };
    if ran.code != Some(0) {
        wrong.push(format!("it ended with {:?}\n{}", ran.code, ran.log));
    }
    wrong.extend(world.wrong());
    wrong.extend(world.parts_again());
    wrong.into_iter().map(|what| format!("killed {}: {what}", point.name)).collect()
}

fn kill_at_all(is_daemon: bool) {
    let (points, began) = (points(), Instant::now());
    let count = points.len();
    let wrong: Vec<String> = points.into_iter().flat_map(|point| kill_at(point, is_daemon)).collect();
    let who = if is_daemon { "the daemon" } else { "run --once" };
    println!(
        "figure: kills of {who}: {count} points, {} violations, no part sent again, no upload left; {:.0} s",
        wrong.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_run_that_is_killed_at_any_point_of_an_upload_goes_on_with_it() {
    kill_at_all(false);
}

#[test]
fn a_daemon_that_is_killed_at_any_point_of_an_upload_goes_on_with_it() {
    kill_at_all(true);
}

/// How long a run takes here and now.
fn duration() -> Duration {
    let (world, began) = (world(), Instant::now());
    assert_eq!(world.run_once().code, Some(0));
    began.elapsed()
}

/// Answers take so long that most of a run is waiting for them.
fn world() -> World {
    let world = World::new(2);
    world.double.script(Rule::new(Act::Nothing).delay_answer(Duration::from_millis(50)));
    world
}

#[test]
fn kills_at_random_moments_lose_double_and_send_again_nothing() {
    let (count, seed) = (setting("ARCHIVER_KILLS", 50), setting("ARCHIVER_SEED", u64::from(std::process::id())));
    let (mut random, mut wrong, mut killed, mut worlds) = (Random::new(seed), Vec::new(), 0, 0);
    let (micros, began) = (duration().as_micros() as u64, Instant::now());
    while killed < count {
        let (world, mut left) = (world(), IN_A_ROW_MAX);
        worlds += 1;
        let ran = loop {
            let mut running = world.start(&["run", "--once"]);
            // What is left to do takes less time with every kill.
            thread::sleep(Duration::from_micros(random.below(micros / 2)));
            if left == 0 || killed >= count || !running.is_running() {
                break running.wait();
            }
            running.kill();
            // Every request has a rule here, so it is the bodies that are waited for.
            wait_until("the server rests", || world.double.log().iter().all(|entry| entry.took.is_some()));
            (killed, left) = (killed + 1, left - 1);
        };
        let mut told = world.wrong();
        told.extend(world.parts_again());
        if ran.code != Some(0) {
            told.push(format!("it ended with {:?}\n{}", ran.code, ran.log));
        }
        wrong.extend(told.into_iter().map(|what| format!("seed {seed}, world {worlds}: {what}")));
    }
    println!(
        "figure: kills at random: {killed} in {worlds} worlds, {} violations; {:.0} s",
        wrong.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
