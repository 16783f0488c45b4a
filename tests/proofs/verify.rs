//! What `archiver verify` finds in a source and in a vault that is a directory, and that it finds nothing else.

use super::{common::*, proofs, sql};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Verdict and path or key of each finding, and the outcome.
fn verify(world: &World, args: &[&str], code: i32) -> (Vec<(String, String)>, Value) {
    let ran = world.archiver(&[&["verify", "--json"], args].concat()).expect(code);
    let mut lines = ran.json_lines();
    let outcome = lines.pop().unwrap()["outcome"].take();
    lines.retain(|line| line["plan"].is_null());
    let found = lines.iter().map(|line| {
        assert!(!line["why"].as_str().unwrap().is_empty() && line["check"].is_string(), "{line}");
        let subject = line["key"].as_str().map_or_else(|| shown(&path_of(line)).replace('"', ""), str::to_owned);
        (line["verdict"].as_str().unwrap().to_owned(), subject)
    });
    (found.collect(), outcome)
}

fn is(found: &[(String, String)], expected: &[(&str, &str)]) {
    let found: Vec<(&str, &str)> =
        found.iter().map(|(verdict, subject)| (verdict.as_str(), subject.as_str())).collect();
    assert_eq!(found, expected);
}

/// Eight files in two directories: three pieces at least.
fn archived() -> World {
    let world = World::new();
    world.fill(
        "mkdir -p a/deep b; for i in 1 2 3 4; do head -c 400000 /dev/urandom >a/deep/$i; head -c 400000 /dev/urandom >b/$i; done
         echo linked >b/7; ln b/7 b/8; ln -s deep/1 a/link; setfattr -n user.a -v 1 b/7",
    );
    world.run_once().expect(0);
    assert!(world.keys().len() >= 3);
    world
}

#[test]
fn a_source_that_nobody_touched_is_clean_whatever_is_in_it() {
    let world = World::nasty_and_large();
    world.run_once();
    let (found, outcome) = verify(&world, &["--local"], 0);
    is(&found, &[]);
    let told = world.bash("cd \"$1\"; find . ! -type s -printf x | wc -c; find . -type f -printf '%i %s\\n' | sort -u | awk '{s += $2} END {printf \"%d\", s}'", &[&world.source]);
    let told = told.expect(0).text();
    let mut lines = told.lines().map(|line| line.parse::<u64>().unwrap());
    assert_eq!((&outcome["local"]["entries"], &outcome["local"]["new"]), (&lines.next().unwrap().into(), &0.into()));
    assert!(outcome["local"]["bytes"].as_u64() <= lines.next(), "{outcome}: every inode once");
}

#[test]
fn what_is_missing_or_changed_since_is_told_apart_and_new_entries_are_counted() {
    let world = archived();
    world.fill("echo more >>a/deep/2; chmod 600 a/deep/3; rm b/1; mkdir new; touch new/x b/5; ln -sfn other a/link; rm -r b/4; mkdir b/4");
    let (found, outcome) = verify(&world, &["--local"], 3);
    let of = |verdict: &str| -> Vec<&str> {
        found.iter().filter(|(found, _)| found == verdict).map(|(_, path)| path.as_str()).collect()
    };
    assert_eq!(of("missing"), ["b/1"]);
    // Directories change with what is in them.
    assert_eq!(of("changed"), ["", "a", "a/deep/2", "a/deep/3", "a/link", "b", "b/4"]);
    assert_eq!((of("damaged"), of("unproven")), (vec![], vec![]));
    assert_eq!((&outcome["local"]["new"], &outcome["missing"]), (&3.into(), &1.into()), "{outcome}");
    // Nothing lost: changed alone is clean.
    world.fill("cp a/deep/2 b/1");
    let (found, _) = verify(&world, &["--local"], 0);
    assert!(found.iter().all(|(verdict, _)| verdict == "changed"), "{found:?}");
}

/// A filesystem in a file, mounted at the source.
struct Image<'a>(&'a World);

impl Image<'_> {
    fn mount(&self) {
        self.0.bash("mount -o loop \"$1/image\" \"$1/source\"", &[self.0.root.path()]).expect(0);
    }

    fn unmount(&self) {
        self.0.bash("umount \"$1/source\"", &[self.0.root.path()]).expect(0);
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        self.0.bash("umount \"$1/source\"", &[self.0.root.path()]);
    }
}

#[test]
fn a_bit_that_rots_below_a_file_is_damage_and_a_hole_is_none() {
    if !rustix::process::geteuid().is_root() {
        println!("Only root can mount a disk: not tested");
        return;
    }
    let world = World::new();
    world.bash("cd \"$1\"; truncate -s 64M image; mkfs.ext4 -q image", &[world.root.path()]).expect(0);
    let image = Image(&world);
    image.mount();
    world.fill(
        "mkdir a; echo MARK-of-small >a/small; head -c 700000 /dev/urandom >a/large; echo MARK-of-large >>a/large
         head -c 2500000 /dev/urandom >a/parts; echo MARK-of-parts | dd of=a/parts bs=1 seek=2000000 conv=notrunc status=none
         truncate -s 30M a/holes; echo MARK-of-holes | dd of=a/holes bs=1M seek=20 conv=notrunc status=none
         echo MARK-of-linked >a/first; ln a/first b; echo same >a/zz",
    );
    world.run_once().expect(0);
    image.unmount();
    image.mount();
    is(&verify(&world, &["--local"], 0).0, &[]);
    let times = || world.bash("cd \"$1\"; find . -printf '%p %s %T@ %C@\\n' | sort", &[&world.source]).text();
    let before = times();
    image.unmount();
    // The byte where each mark begins, in the blocks of the disk.
    let script = "cd \"$1\"; for at in $(grep -abo MARK-of- image | cut -d: -f1); do \
                  printf n | dd of=image bs=1 seek=$at conv=notrunc status=none; done";
    world.bash(script, &[world.root.path()]).expect(0);
    image.mount();
    assert_eq!(times(), before);
    let (found, _) = verify(&world, &["--local"], 3);
    let of = |path| ("damaged", path);
    is(&found, &[of("a/first"), of("a/holes"), of("a/large"), of("a/parts"), of("a/small"), of("b")]);
    let told = world.archiver(&["verify", "--local"]).expect(3);
    assert!(told.text().contains("damaged  a/parts: its content is not what was archived\n"), "{}", told.text());
    assert!(told.stderr.contains("6 damaged, 0 missing"), "{}", told.stderr);
}

#[test]
fn no_link_in_the_way_is_followed() {
    let world = archived();
    world.fill("mv a/deep ../elsewhere; ln -s ../../elsewhere a/deep");
    let (found, _) = verify(&world, &["--local"], 0);
    for n in ["a/deep", "a/deep/1", "a/deep/4"] {
        assert!(found.contains(&("changed".to_owned(), n.to_owned())), "{found:?}");
    }
    world.fill("rm a/deep; mv ../elsewhere a/deep");
    let (found, _) = verify(&world, &["--local"], 0);
    is(&found, &[("changed", "a"), ("changed", "a/deep")]);
}

#[test]
fn a_source_that_is_away_or_empty_is_held() {
    let world = archived();
    world.bash("mv \"$1\" \"$1.away\"", &[&world.source]).expect(0);
    assert!(world.archiver(&["verify", "--local"]).expect(75).stderr.contains("not there"));
    fs::create_dir(&world.source).unwrap();
    assert!(world.archiver(&["verify", "--local"]).expect(75).stderr.contains("is empty"));
}

#[test]
fn what_the_vault_holds_is_compared_with_what_was_sealed() {
    let world = archived();
    let keys = world.keys();
    let (found, outcome) = verify(&world, &["--vault"], 0);
    is(&found, &[]);
    assert_eq!(outcome["vault"]["objects"], keys.len() * 2 + 2);
    assert_eq!(proofs(&world, "listed"), keys.len());
    sql(&world, "DELETE FROM proof");
    let at = |key: &str| world.vault.join(key);
    let index = world.objects().into_iter().find(|key| key.contains("/index.json")).unwrap();
    let manifest = World::manifest_key(&keys[2]);
    fs::remove_file(at(&keys[0])).unwrap();
    world.bash("printf x | dd of=\"$1\" bs=1 seek=1000 conv=notrunc status=none", &[at(&keys[1])]).expect(0);
    world.bash("truncate -s -1 \"$1\"", &[at(&manifest)]).expect(0);
    fs::remove_file(at(&index)).unwrap();
    let (found, _) = verify(&world, &["--vault"], 3);
    is(&found, &[("missing", &keys[0]), ("damaged", &keys[1]), ("damaged", &manifest), ("missing", &index)]);
    assert_eq!(proofs(&world, "listed"), keys.len() - 3);
}

#[test]
fn a_vault_that_is_away_is_told_and_proves_nothing() {
    let mut world = archived();
    world.setup.url = Some(format!("file://{}/away", world.root.path().display()));
    for check in [&["--vault"][..], &["--deep", "1"]] {
        world.archiver(&[&["verify"], check].concat()).expect(4);
    }
    world.archiver(&["verify"]).expect(2);
    world.archiver(&["verify", "--vault", "--dry-run"]).expect(2);
    world.archiver(&["verify", "--batch", "x"]).expect(2);
    assert_eq!(proofs(&world, "opened") + proofs(&world, "listed"), 0);
}

/// What lies in the directory of restores.
fn left(world: &World) -> String {
    world.bash("cd \"$1\"; test ! -d restore || find restore -type f", &[&world.state]).text()
}

#[test]
fn pieces_are_opened_to_the_last_member_in_turn_and_leave_nothing() {
    for method in ["zstd", "none"] {
        let mut world = if method == "none" { World::nasty_and_large() } else { World::nasty() };
        world.setup.method = method.to_owned();
        world.run_once();
        let count = world.keys().len();
        let first = count / 2;
        let (found, outcome) = verify(&world, &["--deep", &first.to_string()], 0);
        is(&found, &[]);
        assert_eq!((&outcome["deep"]["whole"], proofs(&world, "opened")), (&first.into(), first));
        // Those that were not opened yet come first.
        verify(&world, &["--deep", &(count - first).to_string()], 0);
        assert_eq!(proofs(&world, "opened"), count);
        let (_, outcome) = verify(&world, &["--deep", "1000"], 0);
        let members: u64 = world.pieces().iter().map(|piece| piece["members"].as_u64().unwrap()).sum();
        assert_eq!(outcome["deep"]["members"], members);
        assert_eq!(left(&world), "");
    }
}

#[test]
fn the_longest_unopened_comes_first() {
    let world = archived();
    let count = world.keys().len();
    verify(&world, &["--deep", "100"], 0);
    sql(&world, "UPDATE proof SET at = '2020-01-01T00:00:00Z' WHERE seq = 2");
    verify(&world, &["--deep", "1"], 0);
    assert_eq!(sql(&world, "SELECT count(*) FROM proof WHERE at < '2021'"), "0");
    assert_eq!(proofs(&world, "opened"), count);
}

#[test]
fn damage_anywhere_in_a_piece_or_its_manifest_is_found() {
    let world = archived();
    let key = world.keys()[1].clone();
    let (piece, manifest) = (world.vault.join(&key), world.vault.join(World::manifest_key(&key)));
    for file in [&piece, &manifest] {
        let (whole, len) = (fs::read(file).unwrap(), fs::metadata(file).unwrap().len());
        for at in [0, len / 3, len - 1] {
            let mut bytes = whole.clone();
            bytes[at as usize] ^= 1;
            fs::write(file, &bytes).unwrap();
            let (found, _) = verify(&world, &["--deep", "100"], 3);
            assert!(!found.is_empty() && found.iter().all(|(verdict, _)| verdict == "damaged"), "{found:?}");
            let subject = file.strip_prefix(&world.vault).unwrap().to_str().unwrap();
            assert_eq!(found[0].1, subject, "{at}");
            assert_eq!((proofs(&world, "opened"), left(&world).as_str()), (world.keys().len() - 1, ""));
        }
        fs::remove_file(file).unwrap();
        is(
            &verify(&world, &["--deep", "100"], 3).0,
            &[("missing", file.strip_prefix(&world.vault).unwrap().to_str().unwrap())],
        );
        fs::write(file, &whole).unwrap();
    }
    verify(&world, &["--deep", "100"], 0);
    assert_eq!(proofs(&world, "opened"), world.keys().len());
}

/// Makes the catalog believe that this is how the manifest of the first piece was sealed.
fn believe(world: &World, manifest: &Path) {
    let script = "python3 -c '
import sqlite3, sys
data = open(sys.argv[1], \"rb\").read()
crc = (1 << 64) - 1
for byte in data:
    crc ^= byte
    for _ in range(8): crc = crc >> 1 ^ (0x9a6c9329ac4bc9b5 if crc & 1 else 0)
crc ^= (1 << 64) - 1
with sqlite3.connect(sys.argv[2]) as db:
    db.execute(\"UPDATE piece SET manifest_size = ?, manifest_crc64 = ? WHERE seq = 1\",
        (len(data), crc - (1 << 64) if crc >> 63 else crc))
' \"$1\" \"$2\"";
    world.bash(script, &[manifest, &world.state.join("catalog.sqlite")]).expect(0);
}

#[test]
fn every_member_is_held_against_its_line() {
    let mut world = World::new();
    "method = \"none\"".clone_into(&mut world.setup.encrypt);
    "8MiB".clone_into(&mut world.setup.max_size);
    world.fill("mkdir a; echo one >a/1; echo two >a/2; setfattr -n user.a -v 1 a/2; ln a/2 a/3; truncate -s 1M a/4; echo x >>a/4");
    world.run_once().expect(0);
    let key = world.keys()[0].clone();
    let manifest = world.vault.join(World::manifest_key(&key));
    let whole = fs::read(&manifest).unwrap();
    let sha =
        |path: &str| world.bash("sha256sum <\"$1\" | cut -c 1-64", &[world.source.join(path)]).text().trim().to_owned();
    let xattr =
        world.bash("printf 'user.a\\0\\061\\0\\061' | sha256sum | cut -c 1-64", &[""; 0]).text().trim().to_owned();
    let other = "0".repeat(64);
    for (from, path) in [(sha("a/1"), "a/1"), (sha("a/4"), "a/4"), (xattr, "a/2")] {
        let script = "zstd -qdc \"$1\" | grep -c $2; zstd -qdc \"$1\" | sed s/$2/$3/ | zstd -qc >\"$1.new\"; mv \"$1.new\" \"$1\"";
        world.bash(script, &[manifest.as_os_str(), from.as_ref(), other.as_ref()]).expect(0);
        believe(&world, &manifest);
        let (found, _) = verify(&world, &["--deep", "1"], 3);
        assert!(found.contains(&("damaged".to_owned(), path.to_owned())), "{path}: {found:?}");
        assert_eq!(proofs(&world, "opened"), 0);
        fs::write(&manifest, &whole).unwrap();
    }
    for script in [
        "sed 3d",
        "sed 's/\"size\":4,/\"size\":5,/'",
        "sed 's/\"tar_sha256\":\"./\"tar_sha256\":\"x/'",
        "sed 's/\"a\\/1\"/\"a\\/0\"/'",
    ] {
        let script = format!("zstd -qdc \"$1\" | {script} | zstd -qc >\"$1.new\"; mv \"$1.new\" \"$1\"");
        world.bash(&script, &[&manifest]).expect(0);
        believe(&world, &manifest);
        let (found, _) = verify(&world, &["--deep", "1"], 3);
        assert!(found.iter().any(|(_, subject)| *subject == key), "{script}: {found:?}");
        fs::write(&manifest, &whole).unwrap();
    }
    believe(&world, &manifest);
    verify(&world, &["--deep", "1"], 0);
}

#[test]
fn without_a_key_nothing_is_called_damaged() {
    let mut world = archived();
    let other = world.root.path().join("other");
    fs::write(&other, "another passphrase of many words\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    world.setup.encrypt = format!("passphrase_file = {other:?}");
    let ran = world.archiver(&["verify", "--deep", "1", "--json"]).expect(5);
    assert!(!ran.text().contains("damaged"), "{}", ran.text());
}

#[test]
fn who_may_not_write_the_catalog_has_looked_all_the_same() {
    if !rustix::process::geteuid().is_root() {
        println!("Only root can mount anything: not tested");
        return;
    }
    let world = archived();
    let catalog = world.state.join("catalog.sqlite");
    world.bash("mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"", &[&catalog]).expect(0);
    let ran = world.archiver(&["verify", "--vault"]);
    world.bash("umount \"$1\"", &[&catalog]).expect(0);
    let ran = ran.expect(0);
    assert!(ran.stderr.contains("It is not on record that this was proven: "), "{}", ran.stderr);
    assert_eq!(proofs(&world, "listed"), 0);
}
