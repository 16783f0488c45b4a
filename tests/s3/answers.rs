//! Servers that do what they are asked and say something else, or the other way round, once: the same run finds out,
//! and delivers.

use crate::{
    tools::{BUCKET, setting, side_by_side, wait_until},
    world::World,
};
use archiver_s3_double::{ACCESS_KEY, Act, Closing, Flip, Key, Rule};
use std::time::{Duration, Instant};

struct Case {
    name: &'static str,
    rule: Rule,
    /// How often the object is completed, parts come whole, and uploads are begun.
    completes: u64,
    parts: u64,
    begins: u64,
}

fn case(name: &'static str, rule: Rule) -> Case {
    Case { name, rule: rule.key(".tar").once(), completes: 1, parts: 3, begins: 1 }
}

fn completing() -> Vec<Case> {
    let on = |name, act| case(name, Rule::new(act).on("CompleteMultipartUpload"));
    let error = |done| Act::ErrorIn200 { code: "InternalError".into(), done };
    let closed = |when| Act::Close { when };
    let twice = |case: Case| Case { completes: 2, ..case };
    vec![
        on("an error that is done all the same", Act::do_and_fail("InternalError")),
        on("200 and an error, done all the same", error(true)),
        twice(on("200 and an error", error(false))),
        on("an answer that is cut off", Act::Truncate { after: 60 }),
        on("an answer without a body", Act::EmptyBody),
        on("no answer, and done", closed(Closing::AfterDoing)),
        twice(on("no answer, and not done", closed(Closing::AfterReading))),
        twice(on("only pretended", Act::Pretend)),
        on("a wrong checksum", Act::WrongChecksum),
        on("a wrong ETag", Act::WrongEtag),
        on("no upload of this name, though it is done", Act::do_and_fail("NoSuchUpload")),
        twice(on("a conflict", Act::refuse("ConditionalRequestConflict"))),
    ]
}

fn sending() -> Vec<Case> {
    let on = |name, act| case(name, Rule::new(act).on("UploadPart").part(2));
    let again = |case: Case| Case { parts: 4, ..case };
    let flip = |keep_checksum| Act::Corrupt(Flip { at: 5_000_000, keep_checksum });
    let wrong_sum = Case { parts: 4, ..on("a part with a wrong checksum", Act::WrongChecksum) };
    vec![
        again(on("a part that is done and failed", Act::do_and_fail("InternalError"))),
        again(on("a part without an answer", Act::Close { when: Closing::AfterDoing })),
        again(on("a part that is stored wrong", flip(false))),
        wrong_sum,
        // Complete tells that something is wrong, and which part it was is not known.
        Case { completes: 2, ..again(on("a part that is only pretended", Act::Pretend)) },
    ]
}

fn check(case: Case) -> Vec<String> {
    let world = World::new(1);
    world.double.script(case.rule.named("lie"));
    let ran = world.run_patiently(60);
    let mut wrong = world.wrong();
    let count = |operation: &str| {
        let asked = world.double.log_of(operation);
        asked.iter().filter(|entry| entry.key.as_ref().is_some_and(|key| key.ends_with(".tar"))).count() as u64
    };
    let found = (count("CompleteMultipartUpload"), count("UploadPart"), count("CreateMultipartUpload"));
    if ran.code != Some(0) || world.double.fired("lie") != 1 {
        wrong.push(format!("it ended with {:?}\n{}", ran.code, ran.log));
    }
    if found != (case.completes, case.parts, case.begins) {
        wrong.push(format!("{found:?} were completed, sent and begun\n{}", ran.log));
    }
    wrong.into_iter().map(|what| format!("{}: {what}", case.name)).collect()
}

fn check_all(what: &str, cases: Vec<Case>) {
    let (count, began) = (cases.len(), Instant::now());
    let wrong = side_by_side(cases, 6, check);
    println!("figure: {what}: {count} cases, {} violations; {:.0} s", wrong.len(), began.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_vault_holds_counts_and_not_what_it_answers() {
    check_all("answers to Complete", completing());
    check_all("answers to parts", sending());
}

/// The server takes an upload away, as a rule of its owner's may.
#[test]
fn an_upload_that_is_gone_in_the_middle_is_begun_anew() {
    let mut world = World::new(1);
    world.vault = "concurrency = 1".to_owned();
    world.double.script(Rule::new(Act::Nothing).on("UploadPart").part(2).delay(Duration::from_millis(700)));
    let running = world.start(&["run", "--once"]);
    let mut lost = String::new();
    wait_until("a part is there", || {
        let uploads = world.double.uploads(BUCKET);
        uploads.iter().filter(|upload| upload.parts.len() == 1).for_each(|upload| lost = upload.id.clone());
        !lost.is_empty()
    });
    assert!(world.double.lose_upload(BUCKET, &lost));
    let ran = running.wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert!(ran.log.contains("404 NoSuchUpload"), "{}", ran.log);
    assert_eq!(world.wrong(), Vec::<String>::new());
    assert_eq!(world.double.requests("CreateMultipartUpload"), 2);
}

/// Keys that expire in the middle and are replaced on disk: the same upload goes on.
#[test]
fn keys_that_are_replaced_in_the_middle_go_on_with_the_same_upload() {
    let concurrency = 2;
    let mut world = World::new(2);
    world.vault = format!("concurrency = {concurrency}");
    world.double.add_key(Key::new("AKIDNEXT", "next-secret"));
    world.double.script(Rule::new(Act::Nothing).on("UploadPart").part(3).delay(Duration::from_millis(500)));
    let running = world.start(&["run", "--once", "--give-up-after", "90s"]);
    wait_until("parts are there", || world.double.uploads(BUCKET).iter().any(|upload| !upload.parts.is_empty()));
    world.double.expire_token(ACCESS_KEY);
    world.write_keys("AKIDNEXT", "next-secret");
    let ran = running.wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(world.wrong(), Vec::<String>::new());
    let parts = world.double.log_of("UploadPart");
    let again = parts.len() as u64 - 6;
    println!("figure: keys replaced in the middle: {again} parts sent again of {concurrency} at once, the same upload");
    assert!(ran.log.contains("ExpiredToken"), "{}", ran.log);
    assert!(again <= concurrency && world.parts_again().is_empty(), "{again}: {:?}", world.parts_again());
    assert_eq!(world.double.requests("CreateMultipartUpload"), 2, "one for each piece");
}

/// One request in ten is refused, whatever it is.
#[test]
fn a_storm_of_refusals_that_lets_some_through_is_outlasted() {
    let seed = setting("ARCHIVER_SEED", u64::from(std::process::id()));
    let codes = ["SlowDown", "InternalError", "TooManyRequests", "RequestTimeout"];
    let wrong = side_by_side(codes.to_vec(), 4, |code| {
        let (world, began) = (World::new(1), Instant::now());
        world.double.script(Rule::new(Act::refuse(code)).chance(0.1, seed).named("storm"));
        let ran = world.start(&["run", "--once", "--give-up-after", "10m"]).wait();
        println!(
            "figure: a tenth of all refused with {code}: {} of {} requests, {:.0} s",
            world.double.fired("storm"),
            world.double.log().len(),
            began.elapsed().as_secs_f64()
        );
        let mut wrong = world.wrong();
        if ran.code != Some(0) {
            wrong.push(format!("{code}, seed {seed}: it ended with {:?}\n{}", ran.code, ran.log));
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
