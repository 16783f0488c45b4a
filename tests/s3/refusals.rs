//! Servers that refuse: what is wrong is told with its class, the queue is kept, nothing is called delivered, and once
//! the trouble is over the next run delivers everything.

use crate::{
    tools::{BUCKET, side_by_side},
    world::World,
};
use archiver_s3_double::{ACCESS_KEY, Act, Flip, Key, Rule, SECRET_KEY};
use std::time::Instant;

/// Seconds after which a run gives up.
const TIME: u32 = 5;
/// Runs side by side; most of their time is waiting.
const AT_A_TIME: usize = 6;

type Change = Box<dyn Fn(&mut World) + Send>;

struct Case {
    name: String,
    spoil: Change,
    heal: Change,
    /// What the last word says.
    told: Vec<&'static str>,
    /// Whether parts that came whole may be sent again: where the server threw them away, or lied about them.
    again: bool,
}

fn case(name: &str, told: &[&'static str], spoil: impl Fn(&mut World) + Send + 'static) -> Case {
    let heal = Box::new(|world: &mut World| world.double.clear_script());
    Case { name: name.to_owned(), spoil: Box::new(spoil), heal, told: told.to_vec(), again: false }
}

impl Case {
    fn healed_by(mut self, heal: impl Fn(&mut World) + Send + 'static) -> Case {
        self.heal = Box::new(heal);
        self
    }

    fn sends_again(mut self) -> Case {
        self.again = true;
        self
    }
}

fn scripted(name: &str, told: &[&'static str], rule: Rule) -> Case {
    case(name, told, move |world| world.double.script(rule.clone()))
}

/// Everything is refused.
fn storms() -> Vec<Case> {
    [
        ("SlowDown", "503 SlowDown"),
        ("InternalError", "500 InternalError"),
        ("TooManyRequests", "429 TooManyRequests"),
        ("RequestTimeout", "400 RequestTimeout"),
    ]
    .into_iter()
    .flat_map(|(code, told)| {
        let all = scripted(&format!("a storm of {code}"), &[], Rule::new(Act::refuse(code)));
        let on = |operation| Rule::new(Act::refuse(code)).on(operation).key(".tar");
        let part = scripted(&format!("{code} for every part"), &["Cannot store a part of", told], on("UploadPart"));
        let last = scripted(&format!("{code} at the end"), &["Cannot complete", told], on("CompleteMultipartUpload"));
        [all, part, last]
    })
    .collect()
}

/// Each permission that is needed is missing, in turn.
fn permissions() -> Vec<Case> {
    [
        ("PutObject", "s3:PutObject on arn:aws:s3:::backup/lab/*"),
        ("CreateMultipartUpload", "s3:PutObject on arn:aws:s3:::backup/lab/*"),
        ("UploadPart", "s3:PutObject on arn:aws:s3:::backup/lab/*"),
        ("CompleteMultipartUpload", "s3:PutObject on arn:aws:s3:::backup/lab/*"),
        ("HeadObject", "s3:GetObject on arn:aws:s3:::backup/lab/*"),
    ]
    .into_iter()
    .map(|(operation, told)| {
        case(&format!("no permission for {operation}"), &["403", told], move |world| world.double.deny(operation))
            .healed_by(move |world| world.double.allow(operation))
    })
    .collect()
}

/// What is set up wrong, and says so.
fn setups() -> Vec<Case> {
    let endpoint = |world: &mut World| world.endpoint = world.double.endpoint();
    vec![
        scripted(
            "another region",
            &["301 PermanentRedirect", "write `region = ", "eu-central-1"],
            Rule::new(Act::redirect("eu-central-1")),
        ),
        scripted(
            "a region that is signed wrong",
            &["400 AuthorizationHeaderMalformed"],
            Rule::new(Act::refuse_as(400, "AuthorizationHeaderMalformed")),
        ),
        case("a bucket that is not there", &["404 NoSuchBucket"], |world| {
            world.vault += "\nurl = \"s3://elsewhere/lab\"";
        })
        .healed_by(|world| "concurrency = 3".clone_into(&mut world.vault)),
        case("a key that is not known", &["403 InvalidAccessKeyId"], |world| world.write_keys("AKIDOTHER", SECRET_KEY))
            .healed_by(|world| world.write_keys(ACCESS_KEY, SECRET_KEY)),
        case("another secret", &["403 SignatureDoesNotMatch"], |world| world.write_keys(ACCESS_KEY, "other"))
            .healed_by(|world| world.write_keys(ACCESS_KEY, SECRET_KEY)),
        case("a key that has expired", &["ExpiredToken"], |world| world.double.expire_token(ACCESS_KEY))
            .healed_by(|world| world.double.add_key(Key::new(ACCESS_KEY, SECRET_KEY))),
        case("no keys at all", &["no credentials were found"], |world| {
            std::fs::write(world.path("credentials"), "").unwrap();
        })
        .healed_by(|world| world.write_keys(ACCESS_KEY, SECRET_KEY)),
        scripted(
            "a clock that is wrong",
            &["403 RequestTimeTooSkewed"],
            Rule::new(Act::refuse("RequestTimeTooSkewed")),
        ),
        case("nobody at the address", &["got no answer"], |world| "http://127.0.0.1:1".clone_into(&mut world.endpoint))
            .healed_by(endpoint),
        case("a name that nobody has", &["its name could not be resolved"], |world| {
            "http://nobody.invalid".clone_into(&mut world.endpoint);
        })
        .healed_by(endpoint),
    ]
}

/// What the server answers is not what it did, again and again.
fn lies() -> Vec<Case> {
    let complete = |act| Rule::new(act).on("CompleteMultipartUpload");
    let part = |act| Rule::new(act).on("UploadPart");
    let flip = Flip { at: 1_000_000, keep_checksum: false };
    let small = Rule::new(Act::Corrupt(Flip { at: 10, keep_checksum: false })).on("PutObject").key("manifest");
    let error = Act::ErrorIn200 { code: "InternalError".into(), done: false };
    vec![
        scripted("Complete answers 200 and an error", &["InternalError"], complete(error)),
        scripted("Complete is only pretended", &["does not hold what was sent"], complete(Act::Pretend)),
        scripted("parts are only pretended", &["400 InvalidPart"], part(Act::Pretend)).sends_again(),
        scripted("parts are stored wrong", &["another checksum than was sent"], part(Act::Corrupt(flip))).sends_again(),
        scripted("parts have wrong ETags", &["400 InvalidPart"], part(Act::WrongEtag)).sends_again(),
        // Nothing of ours may remove it, so whoever owns the bucket has to.
        scripted("manifests are stored wrong", &["The vault holds other bytes under"], small).healed_by(|world| {
            world.double.clear_script();
            let keys = world.double.objects(BUCKET).into_keys();
            for key in keys.filter(|key| key.contains("manifest")) {
                assert!(world.double.lose_object(BUCKET, &key));
            }
        }),
    ]
}

fn check(case: Case) -> Vec<String> {
    let mut world = World::new(1);
    (case.spoil)(&mut world);
    let ran = world.run_patiently(TIME);
    let mut wrong = world.wrong_when_refused(&ran, &case.told);
    (case.heal)(&mut world);
    wrong.extend(world.wrong_when_healed());
    if !case.again {
        wrong.extend(world.parts_again());
    }
    wrong.into_iter().map(|what| format!("{}: {what}", case.name)).collect()
}

fn check_all(what: &str, cases: Vec<Case>) {
    let (count, began) = (cases.len(), Instant::now());
    let wrong = side_by_side(cases, AT_A_TIME, check);
    println!("figure: {what}: {count} cases, {} violations; {:.0} s", wrong.len(), began.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_refuses_for_a_while_is_told_and_nothing_is_lost() {
    check_all("storms of refusals", storms());
}

#[test]
fn what_an_operator_must_mend_is_told_and_nothing_is_lost() {
    check_all("wrong setups", permissions().into_iter().chain(setups()).collect());
}

#[test]
fn a_server_that_lies_is_never_believed() {
    check_all("lies", lies());
}
