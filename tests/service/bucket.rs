//! The whole job with a vault in S3, under every limit of the unit.

use crate::{
    common::{World, snapshot},
    job::CONFIGURATION,
    machine::Machine,
    smtp::Sink,
};
use archiver_s3_double::{self as double, Double};
use std::{fs, time::Duration};

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
    a_detached_restore_outlives_kills_and_boots(machine, &double);
    machine.drop_in("");
}

/// By a unit of its own, while the pieces thaw for two days.
fn a_detached_restore_outlives_kills_and_boots(machine: &Machine, double: &Double) {
    machine.sh("d=/etc/systemd/system/archiver-restore@.service.d; mkdir -p $d
        sed '1a RestartSec=1' /host/drop-in.conf >$d/test.conf; systemctl daemon-reload; systemctl start archiver");
    let sink = Sink::start();
    let mail = format!(
        "[mail]\nsmtp = \"smtp://127.0.0.1:{}\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n",
        sink.port
    );
    machine.hand("mail", &mail);
    machine.sh("cat /host/mail >>/etc/archiver.toml");
    let job = machine.sh("archiver restore / --source data --to /srv/back/data --yes --detach");
    let unit = format!("archiver-restore@{}.service", job.trim());
    let is = |what: &str| format!("archiver restore --list --json | grep '{what}'");
    machine.wait_until(&is("\"phase\":\"thawing "));
    let thaws = double.requests("RestoreObject");
    machine.sh(&format!("systemctl kill -s KILL {unit}"));
    machine
        .wait_until(&format!("systemctl show {unit} -p NRestarts --value | grep -x 1 && systemctl is-active {unit}"));
    // What a boot starts.
    machine.sh(&format!("systemctl stop {unit}; systemctl start multi-user.target; systemctl is-active {unit}"));
    assert_eq!(machine.sh("ls /srv/back/data"), "");
    double.clock().advance(Duration::from_secs(49 * 60 * 60));
    machine.sh(&format!("systemctl restart {unit}"));
    machine.wait_until(&is("\"state\":\"complete\""));
    machine.wait_until(&format!("! systemctl is-active {unit}"));
    machine.sh(&format!("! systemctl is-enabled {unit}; ! systemctl is-failed {unit}"));
    let told = sink.mails.recv_timeout(Duration::from_secs(60)).expect("a mail");
    assert!(told.contains("The restore to") && told.contains("is complete"), "{told}");
    machine.sh("diff -r --no-dereference /data /srv/back/data");
    let owners = "find . -printf '%P %U:%G %m %T@\\n' | sort | sha256sum";
    assert_eq!(
        machine.sh(&format!("cd /data; {owners}")),
        machine.sh(&format!("cd /srv/back/data; {owners}")),
        "owners, modes and times"
    );
    assert_eq!(double.requests("RestoreObject"), thaws);
    // The daemon's own catalog has stayed its own.
    machine.sh("systemctl restart archiver; archiver status >/dev/null; systemctl stop archiver");
    machine.sh("rm -r /etc/systemd/system/archiver-restore@.service.d /srv/back; systemctl daemon-reload");
}
