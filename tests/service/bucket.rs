//! The whole job with a vault in S3, under every limit of the unit.

use crate::{
    common::{World, snapshot},
    job::CONFIGURATION,
    machine::Machine,
};
use archiver_s3_double::{self as double, Double};
use std::fs;

const BUCKET: &str = "nightly";

/// Keys and passphrase come from systemd; no path of a source asks the generator to take a limit back.
pub fn the_whole_job_goes_to_a_bucket_and_comes_back(machine: &Machine) {
    let double = Double::spawn(double::Options::default().buckets(&[BUCKET]));
    let (endpoint, access, secret) = (double.endpoint(), double::ACCESS_KEY, double::SECRET_KEY);
    machine.hand("keys", &format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"));
    machine.drop_in(
        "[Service]\nLoadCredential=credentials:/host/keys\nLoadCredential=passphrase:/etc/archiver/passphrase\n",
    );
    let system = "path = \"/\"\nexclude = [\"/*\", \"/var/*\"]\ninclude = [\"/home\", \"/var\", \"/var/tmp\"]";
    let vault = format!(
        "url = \"s3://{BUCKET}/x\"\nendpoint_url = \"{endpoint}\"\npath_style = true\nhost = \"nas1\"\nregion = \"us-east-1\""
    );
    machine.begin(
        &CONFIGURATION
            .replace(system, "path = \"/etc\"")
            .replace("passphrase_file = \"/etc/archiver/passphrase\"", "")
            .replace("url = \"file:///mnt/vault\"", &vault),
    );
    machine.sh("! grep -r '=no$' /run/systemd/generator/archiver.service.d");
    println!("{}", machine.sh("systemd-analyze security --threshold=18 archiver.service | tail -n 1").trim());
    machine.wait_until("test $(archiver status | grep -c 'pass .* ended') = 3");
    assert_eq!(machine.sh("for source in data homes system; do archiver exceptions $source; done"), "");
    machine.sh("systemctl stop archiver; ! ls '/arch ive/100%'/*/*");

    assert_eq!(double.uploads(BUCKET).len(), 0);
    let world = World::new();
    fs::copy(machine.path("/etc/archiver/passphrase"), &world.passphrase).unwrap();
    let objects = double.objects(BUCKET);
    for (key, object) in &objects {
        assert_eq!(object.class, if key.contains(".tar") { "DEEP_ARCHIVE" } else { "STANDARD" }, "{key}");
        let file = world.vault.join(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, object.bytes()).unwrap();
    }
    for (name, path) in [("data", "/data"), ("homes", "/home"), ("system", "/etc")] {
        let is_piece = |key: &&String| key.starts_with(&format!("x/nas1/{name}/")) && key.ends_with(".tar.xz.gpg");
        let keys: Vec<String> = objects.keys().filter(is_piece).cloned().collect();
        let source = snapshot::snapshot(&machine.path(path));
        let found = snapshot::differences_of_pieces(&world, &keys, &source, &world.dir(name));
        println!(
            "{path} from the bucket: {} entries, {} pieces, {} differences",
            source.len(),
            keys.len(),
            found.len()
        );
        assert!(found.is_empty(), "{}", snapshot::told(&found));
    }
    machine.drop_in("");
}
