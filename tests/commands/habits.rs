//! Promises about how commands behave on a terminal, in a pipe and in a script.

use crate::{archived, common::World, fill, signal};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

const BINARY: &str = crate::common::BINARY;

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let world = World::new();
    world.fill("for n in $(seq 1500); do echo > $n-$(printf 'x%.0s' {1..200}); done");
    world.run_once().expect(0);
    for command in ["tree data", "tree data --json", "ls data 1", "ls data 1 --json"] {
        let script = "\"$1\" --config \"$2\" $3 | head -n 1 >/dev/null; echo ${PIPESTATUS[0]}";
        let ran = world.bash(script, &[Path::new(BINARY), &world.config(), Path::new(command)]).expect(0);
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("0\n", ""), "{command}");
    }
}

#[test]
fn a_rehearsal_that_is_stopped_says_so_and_compares_nothing() {
    let world = World::new();
    world.fill("head -c 30000000 /dev/urandom > large");
    let work = world.dir("work");
    let mut run = Command::new(BINARY);
    run.args(["rehearse", "--max-size", "1MiB", "--work"]).arg(&work).arg(&world.source);
    run.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let run = run.spawn().unwrap();
    crate::wait_until("pieces are made", || {
        let made = world.bash("find \"$1\" -name '*.tar.xz.gpg' | grep -q /vault/", &[&work]);
        made.code == 0
    });
    signal(&run, "-INT");
    let out = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    assert!(said.contains("Stopped; nothing was compared") && out.stdout.is_empty(), "{said}");
    assert!(fs::read_dir(&work).unwrap().next().is_none(), "Nothing is left");
}

#[test]
fn who_is_not_root_can_rehearse_on_files_of_others() {
    let world = World::new();
    fill(&world);
    world.bash("chmod -R go=rX \"$1\"; chmod 711 \"$(dirname \"$1\")\"", &[&world.source]).expect(0);
    let work = tempfile::TempDir::new().unwrap();
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let script = "cp \"$1\" \"$2/archiver\"; cd \"$2\"; \
                  HOME=\"$2\" setpriv --reuid 65534 --regid 65534 --clear-groups ./archiver rehearse --work . \"$3\"";
    let ran = world.bash(script, &[Path::new(BINARY), work.path(), &world.source]).expect(0);
    assert!(ran.text().contains("Everything came back") && ran.text().contains("Owners were not compared"));
}

#[test]
fn a_check_foresees_what_a_run_would_meet() {
    let world = World::new();
    let check = || world.archiver(&["--quiet", "check"]).expect(0);
    let ran = check();
    assert_eq!(ran.text(), "", "All is well, but for the vault");
    assert!(ran.stderr.contains("is no vault yet") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    world.run_once().expect(0);
    assert_eq!(check().stderr, "");
    fs::write(&world.passphrase, "").unwrap();
    fs::remove_dir(&world.source).unwrap();
    fs::write(&world.source, "").unwrap();
    let said = check().stderr;
    assert!(said.contains("it is empty") && said.contains("exit code 5"), "{said}");
    assert!(said.contains("is not a directory"), "{said}");
}

#[test]
fn a_vault_on_aws_without_keys_and_region_is_told() {
    let world = World::new();
    fill(&world);
    let text = fs::read_to_string(world.config()).unwrap();
    let file = world.root.path().join("s3.toml");
    let url = format!("file://{}", world.vault.display());
    fs::write(&file, text.replace(&url, "s3://bucket/prefix")).unwrap();
    // Nobody is asked who may not be there: files of the user, the environment of the test, the network.
    let script = "env -i AWS_EC2_METADATA_DISABLED=true \"$1\" --config \"$2\" run --once";
    let ran = world.bash(script, &[Path::new(BINARY), &file]).expect(4);
    let told = ["no credentials were found", "`profile` or `credentials_file` in [vault]"];
    assert!(told.iter().all(|told| ran.stderr.contains(told)), "{}", ran.stderr);
}

#[test]
fn a_new_vault_and_a_pass_that_is_not_due_are_told() {
    let mut world = World::new();
    fill(&world);
    let first = world.run_once().expect(0);
    assert!(first.stderr.contains("A new vault is made in"), "{}", first.stderr);
    let second = world.run_once().expect(0);
    assert!(!second.stderr.contains("A new vault"), "{}", second.stderr);
    assert!(second.stderr.contains("Nothing is due") && second.stderr.contains("repeat is not set"));
    world.setup.source = "repeat = \"90d\"".to_owned();
    let third = world.run_once().expect(0);
    assert!(third.stderr.contains("Nothing is due") && third.stderr.contains("next=\"20"), "{}", third.stderr);
}

#[test]
fn decrypted_objects_go_to_a_directory_beside_us() {
    let world = World::new();
    fill(&world);
    world.run_once().expect(0);
    let object = world.vault.join(&archived(&world)[0]);
    let script = "cd \"$1\"; \"$2\" --config /none decrypt --passphrase-file \"$3\" --to here \"$4\"; ls here | wc -l";
    let ran = world.bash(script, &[world.root.path(), Path::new(BINARY), &world.passphrase, &object]).expect(0);
    assert!(ran.text().ends_with("\n1\n"), "{}", ran.text());
}
