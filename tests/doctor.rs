//! Promises about `archiver doctor`: what is wrong with a vault is told before a run meets it, with what to do and the
//! very permission that is missing. The program runs as it is, against a server in this process.

mod common;
#[path = "doctor/bucket.rs"]
mod bucket;
#[path = "doctor/local.rs"]
mod local;

use archiver_s3_double::{ACCESS_KEY, Act, Double, Options, Persona, Rule, SECRET_KEY};
use common::{BINARY, Ran, World};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const BUCKET: &str = "backup";

/// A vault on a server of its own, and a configuration for it.
struct Clinic {
    world: World,
    double: Double,
    /// The bucket that the configuration names.
    bucket: String,
    endpoint: String,
}

impl Clinic {
    fn new() -> Clinic {
        Clinic::with(Options::default())
    }

    fn with(options: Options) -> Clinic {
        let double = Double::spawn(options.buckets(&[BUCKET]));
        let mut world = World::new();
        // What is tried on the staging disk goes by the cap.
        "4MiB".clone_into(&mut world.setup.cap);
        let clinic = Clinic { world, endpoint: double.endpoint(), double, bucket: BUCKET.to_owned() };
        clinic.write_keys(ACCESS_KEY, SECRET_KEY);
        // As it should be.
        clinic.double.deny("DeleteObject");
        clinic
    }

    fn keys(&self) -> PathBuf {
        self.world.root.path().join("credentials")
    }

    fn write_keys(&self, access: &str, secret: &str) {
        let text = format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
        fs::write(self.keys(), text).unwrap();
        fs::set_permissions(self.keys(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn doctor(&self, args: &[&str]) -> Ran {
        let text = fs::read_to_string(self.world.config()).unwrap();
        let url = format!("url = \"file://{}\"", self.world.vault.display());
        let more = format!(
            "url = \"s3://{}/lab/nas\"\nendpoint_url = {:?}\npath_style = true\ncredentials_file = {:?}",
            self.bucket,
            self.endpoint,
            self.keys()
        );
        let file = self.world.root.path().join("s3.toml");
        fs::write(&file, text.replace(&url, &more)).unwrap();
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "150", BINARY, "--config"]).arg(file).arg("doctor").args(args);
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// What it finds of one check, and the code that it ends with.
    fn found(&self, check: &str) -> (Finding, i32) {
        let (findings, code) = self.findings();
        let found = findings.iter().find(|one| one.check == check && one.state != "ok");
        let found = found.or_else(|| findings.iter().find(|one| one.check == check)).cloned();
        (found.unwrap_or_else(|| panic!("nothing of {check}: {findings:#?}")), code)
    }

    fn findings(&self) -> (Vec<Finding>, i32) {
        let ran = self.doctor(&["--json"]);
        assert_eq!(ran.stderr, "");
        (ran.json_lines().iter().map(Finding::of).collect(), ran.code)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Finding {
    check: String,
    state: String,
    what: String,
    hint: String,
    permission: Option<String>,
}

impl Finding {
    fn of(line: &Value) -> Finding {
        let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} in {line}")).to_owned();
        let permission = line["permission"].as_str().map(str::to_owned);
        Finding { check: text("check"), state: text("state"), what: text("what"), hint: text("hint"), permission }
    }
}

/// Checks that did not end well.
fn amiss(findings: &[Finding]) -> Vec<(&str, &str)> {
    let amiss = findings.iter().filter(|one| one.state != "ok");
    amiss.map(|one| (one.check.as_str(), one.state.as_str())).collect()
}

#[test]
fn everything_is_tried_for_real_and_little_stays() {
    let clinic = Clinic::new();
    let (findings, code) = clinic.findings();
    assert_eq!(amiss(&findings), [("lifecycle", "warning"), ("mail", "warning")], "{findings:#?}");
    assert_eq!(code, 0);
    let checks: Vec<&str> = findings.iter().map(|one| one.check.as_str()).collect();
    let expected = "configuration state keys source staging staging-room staging-speed vault clock list put \
                    put-if-absent get checksum part parts complete receipt class absent complete-if-absent abort \
                    uploads delete versioning object-lock lifecycle encryption mail";
    assert_eq!(checks, expected.split_whitespace().collect::<Vec<_>>());
    let objects = clinic.double.objects(BUCKET);
    let kept: Vec<(&str, &str)> = objects
        .iter()
        .map(|(key, object)| {
            assert!(key.starts_with("lab/nas/nas1/_doctor/") && object.bytes().len() < 64, "{key}");
            (key.rsplit('/').next().unwrap(), object.class.as_str())
        })
        .collect();
    assert_eq!(kept, [("piece", "DEEP_ARCHIVE"), ("small", "STANDARD")]);
    assert!(clinic.double.uploads(BUCKET).is_empty());
    let (again, _) = clinic.findings();
    assert_eq!(amiss(&again), amiss(&findings), "Probes do not meet those of before");
    assert_eq!(clinic.double.objects(BUCKET).len(), 4);
    assert!(fs::read_dir(&clinic.world.staging).unwrap().next().is_none());
    assert!(fs::read_dir(&clinic.world.state).unwrap().next().is_none());
}

/// What is taken away, the check that tells of it, and the permission that it names.
const DENIED: [(&str, &str, &str); 10] = [
    ("PutObject", "put", "s3:PutObject"),
    ("CreateMultipartUpload", "begin", "s3:PutObject"),
    ("UploadPart", "part", "s3:PutObject"),
    ("CompleteMultipartUpload", "complete", "s3:PutObject"),
    ("AbortMultipartUpload", "abort", "s3:AbortMultipartUpload"),
    ("ListParts", "parts", "s3:ListMultipartUploadParts"),
    ("ListMultipartUploads", "uploads", "s3:ListBucketMultipartUploads"),
    ("HeadObject", "receipt", "s3:GetObject"),
    ("GetObject", "get", "s3:GetObject"),
    ("ListObjectsV2", "list", "s3:ListBucket"),
];

#[test]
fn each_permission_that_is_missing_is_named() {
    let clinic = Clinic::new();
    for (operation, check, permission) in DENIED {
        clinic.double.deny(operation);
        let (findings, code) = clinic.findings();
        assert_eq!(code, 4, "{operation}: {findings:#?}");
        let problems: Vec<&Finding> = findings.iter().filter(|one| one.state == "problem").collect();
        assert_eq!(problems.len(), 1, "Once, and of nothing else: {operation}: {problems:#?}");
        let told = problems[0];
        assert_eq!((told.check.as_str(), told.permission.as_deref()), (check, Some(permission)), "{told:#?}");
        assert!(told.what.contains(permission) && told.hint.contains("aws-policy iam"), "{told:#?}");
        clinic.double.allow(operation);
    }
    clinic.double.deny("PutObject");
    let text = clinic.doctor(&[]).expect(4).text();
    let line = text.lines().find(|line| line.starts_with("problem")).unwrap();
    assert_eq!(line.matches("it takes the permission s3:PutObject").count(), 1, "{line}");
    let quiet = clinic.doctor(&["--quiet"]).expect(4).text();
    assert!(!quiet.contains("ok ") && quiet.contains(line.split("request").next().unwrap()), "{quiet}");
}

#[test]
fn what_is_absent_must_not_look_forbidden() {
    let clinic = Clinic::new();
    clinic.double.script(Rule::new(Act::refuse("AccessDenied")).on("HeadObject").key("/absent"));
    let (told, code) = clinic.found("absent");
    assert_eq!((told.state.as_str(), told.permission.as_deref(), code), ("problem", Some("s3:ListBucket"), 4));
}

/// How the clinic is changed, the check that tells, its state, and what is said.
type Way = (&'static str, fn(&mut Clinic), &'static str, &'static str, &'static str);

const WAYS: &[Way] = &[
    ("another bucket", |clinic| clinic.bucket = "nowhere".into(), "vault", "problem", "NoSuchBucket"),
    (
        "another region",
        |clinic| clinic.double.script(Rule::new(Act::redirect("eu-central-1"))),
        "vault",
        "problem",
        "region = \"eu-central-1\"",
    ),
    ("an expired token", |clinic| clinic.double.expire_token(ACCESS_KEY), "vault", "problem", "ExpiredToken"),
    ("a wrong secret", |clinic| clinic.write_keys(ACCESS_KEY, "x"), "vault", "problem", "SignatureDoesNotMatch"),
    ("a wrong key", |clinic| clinic.write_keys("AKIX", "x"), "vault", "problem", "InvalidAccessKeyId"),
    ("no key", |clinic| fs::write(clinic.keys(), "\n").unwrap(), "vault", "problem", "no credentials were found"),
    ("no server", |clinic| clinic.endpoint = "http://127.0.0.1:1".into(), "vault", "problem", "got no answer"),
    ("no name", |clinic| clinic.endpoint = "http://no.invalid:80".into(), "vault", "problem", "could not be resolved"),
    ("no S3", |clinic| clinic.double.script(Rule::new(Act::refuse_as(500, "Oops"))), "vault", "problem", "500 Oops"),
    ("30 s", |clinic| clinic.double.clock().set_skew(30_000), "clock", "ok", "behind the server's"),
    ("5 min", |clinic| clinic.double.clock().set_skew(300_000), "clock", "warning", "behind the server's"),
    ("5 min back", |clinic| clinic.double.clock().set_skew(-300_000), "clock", "warning", "ahead of the server's"),
    ("20 min", |clinic| clinic.double.clock().set_skew(1_200_000), "clock", "problem", "behind the server's"),
];

#[test]
fn what_stands_in_the_way_is_told_once_and_the_rest_is_not_tried() {
    for (name, change, check, state, said) in WAYS {
        let mut clinic = Clinic::new();
        change(&mut clinic);
        let (findings, code) = clinic.findings();
        let (told, _) = clinic.found(check);
        assert_eq!(told.state, *state, "{name}: {findings:#?}");
        assert!(told.what.contains(said), "{name}: {told:#?}");
        let problems = findings.iter().filter(|one| one.state == "problem").count();
        let is_problem = *state == "problem";
        assert_eq!((problems, code), if is_problem { (1, 4) } else { (0, 0) }, "{name}: {findings:#?}");
        assert_eq!(findings.iter().any(|one| one.check == "put"), !is_problem, "{name}: {findings:#?}");
        assert_eq!(findings.last().unwrap().check, "mail", "The rest is looked at");
    }
}

#[test]
fn what_a_server_does_not_guarantee_is_told_and_it_can_be_used() {
    let warned = |persona: Persona| {
        let clinic = Clinic::with(Options::default().persona(persona));
        clinic.double.deny("DeleteObject");
        let (findings, code) = clinic.findings();
        assert_eq!(code, 0, "{findings:#?}");
        amiss(&findings).into_iter().map(|(check, _)| check.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(warned(Persona::ceph16()), ["checksum", "receipt", "complete-if-absent", "lifecycle", "mail"]);
    assert_eq!(warned(Persona::garage()), ["put-if-absent", "class", "complete-if-absent", "lifecycle", "mail"]);
    let minio = Persona { rejects_storage_class: vec!["DEEP_ARCHIVE".into()], ..Persona::default() };
    assert_eq!(warned(minio), ["class", "lifecycle", "mail"]);
}

#[test]
fn a_server_that_never_answers_does_not_keep_us() {
    for operation in ["ListObjectsV2", "UploadPart"] {
        let clinic = Clinic::new();
        clinic.double.script(Rule::new(Act::Hang { read: true }).on(operation));
        let began = Instant::now();
        let (findings, code) = clinic.findings();
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        let problems: Vec<&Finding> = findings.iter().filter(|one| one.state == "problem").collect();
        assert_eq!((problems.len(), code), (1, 4), "{problems:#?}");
        assert!(problems[0].what.contains("took too long"), "{problems:#?}");
    }
}

#[test]
fn bytes_that_change_on_their_way_are_told() {
    for (act, check) in [
        (Rule::new(Act::WrongChecksum).on("UploadPart"), "part"),
        (Rule::new(Act::WrongChecksum).on("HeadObject"), "receipt"),
        (Rule::new(Act::CorruptAnswer { at: 3 }).on("GetObject"), "get"),
    ] {
        let clinic = Clinic::new();
        clinic.double.script(act);
        let (told, code) = clinic.found(check);
        assert_eq!((told.state.as_str(), code), ("problem", 4), "{told:#?}");
    }
}

#[test]
fn a_host_that_may_delete_is_told_that_it_should_not() {
    let clinic = Clinic::new();
    clinic.double.allow("DeleteObject");
    let (told, code) = clinic.found("delete");
    assert_eq!((told.state.as_str(), code), ("warning", 0));
    assert!(told.hint.contains("s3:DeleteObject"));
    assert!(clinic.double.objects(BUCKET).is_empty(), "What proved it is gone");
}
