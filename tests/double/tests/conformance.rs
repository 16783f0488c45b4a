//! The double is held to what Amazon documents, by a client that neither we nor the authors of the protocol's library
//! wrote: `conformance.py` with boto3. The same checks must notice a server that lacks something.

use archiver_s3_double::{ACCESS_KEY, Double, Options, Persona, SECRET_KEY};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const CHECKS: usize = 81;

/// What the double does otherwise than Amazon, each with the reason. Empty: s3s drops the status that RestoreObject
/// wants to answer and judges the age of signatures by its own clock, and the double makes up for both.
const KNOWN: &[(&str, &str)] = &[];

/// What a server like Ceph 16 fails at. The size is not at fault, but that check looks at the parts' checksums first.
const CEPH: [&str; 24] = [
    "CRC32: Put accepts, Head returns it",
    "CRC32: wrong value rejected (400 BadDigest)",
    "CRC32: UploadPart wrong value rejected",
    "CRC32C: Put accepts, Head returns it",
    "CRC32C: wrong value rejected (400 BadDigest)",
    "CRC32C: UploadPart wrong value rejected",
    "CRC64NVME: Put accepts, Head returns it",
    "CRC64NVME: wrong value rejected (400 BadDigest)",
    "CRC64NVME: UploadPart wrong value rejected",
    "SHA1: Put accepts, Head returns it",
    "SHA1: wrong value rejected (400 BadDigest)",
    "SHA1: UploadPart wrong value rejected",
    "SHA256: Put accepts, Head returns it",
    "SHA256: wrong value rejected (400 BadDigest)",
    "SHA256: UploadPart wrong value rejected",
    "MPU CRC64NVME FULL_OBJECT: stored, ListParts shows",
    "MPU CRC32C FULL_OBJECT: stored, ListParts shows",
    "MPU CRC32 FULL_OBJECT: stored, ListParts shows",
    "MPU SHA256 COMPOSITE: stored, ListParts shows",
    "MPU CRC32C COMPOSITE: stored, ListParts shows",
    "MPU FULL_OBJECT CRC64NVME wrong -> 400 BadDigest",
    "MpuObjectSize wrong -> 400",
    "Complete If-None-Match:* existing -> 412",
    "GetObjectAttributes (Checksum, ObjectParts)",
];

/// A Python that has boto3: the system's, or one of a virtual environment that outlives the test.
fn python() -> PathBuf {
    if has_boto3(Path::new("python3")) {
        return "python3".into();
    }
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // Two tests at once must not both build it.
    let lock = File::create(cache.join("conformance.lock")).unwrap();
    lock.lock().unwrap();
    let environment = cache.join("conformance-venv");
    let python = environment.join("bin/python");
    if has_boto3(&python) {
        return python;
    }
    let _ = fs::remove_dir_all(&environment);
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    let install = ["-m", "pip", "install", "--quiet", "--retries", "10", "boto3[crt]"];
    run(Command::new(&python).args(install));
    python
}

fn has_boto3(python: &Path) -> bool {
    let found = Command::new(python).args(["-c", "import boto3, awscrt"]).output();
    found.is_ok_and(|found| found.status.success())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The names of the checks that hold, and of those that do not, these with what was seen.
fn checks(persona: Persona) -> (BTreeSet<String>, Vec<(String, String)>) {
    let double = Double::spawn(Options::default().thaw(Duration::from_secs(2)).persona(persona));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance.py");
    let mut command = Command::new(python());
    command.arg(script).args([double.endpoint().as_str(), ACCESS_KEY, SECRET_KEY]);
    let output = command.output().unwrap();
    let (mut holds, mut fails) = (BTreeSet::new(), Vec::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["OK", name] => assert!(holds.insert(name.to_owned()), "twice: {name}"),
            ["NO", name, seen] => fails.push((name.to_owned(), seen.to_owned())),
            _ => panic!("{line}"),
        }
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(holds.len() + fails.len(), CHECKS, "not all checks ran: {errors}");
    (holds, fails)
}

#[test]
fn the_double_does_what_amazon_documents() {
    let (holds, fails) = checks(Persona::default());
    let known: BTreeSet<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<_> = fails.iter().filter(|(name, _)| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert_eq!(holds.len(), CHECKS - KNOWN.len(), "what is known to fail holds by now: take it off the list");
}

#[test]
fn the_checks_notice_a_server_that_lacks_something() {
    let (_, fails) = checks(Persona::ceph16());
    let fails: BTreeSet<&str> = fails.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(fails, BTreeSet::from(CEPH));
}
