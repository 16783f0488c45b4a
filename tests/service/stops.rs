//! Restarts in the middle of everything, with a vault in S3.

use crate::machine::Machine;
use archiver_s3_double::{self as double, Double};
use std::env;

const BUCKET: &str = "lab";
/// Longest that a stop may take, seconds.
const STOP_MAX: f64 = 20.0;

fn restarts() -> usize {
    env::var("ARCHIVER_RESTARTS").map_or(5, |count| count.parse().expect("a number"))
}

pub fn it_stops_soon_however_busy(machine: &Machine) {
    let double = Double::spawn(double::Options::default().buckets(&[BUCKET]));
    let (endpoint, access, secret) = (double.endpoint(), double::ACCESS_KEY, double::SECRET_KEY);
    let restarts = restarts();
    // What is left when the restarts are over ends by itself.
    let files = 30 + 2 * restarts;
    machine.hand("keys", &format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"));
    machine.sh(&format!(
        "install -m 600 /host/keys /etc/archiver/keys; mkdir -p /busy
        for n in $(seq {files}); do head -c 900000 /dev/urandom >/busy/$n; done; chmod -R go= /busy"
    ));
    machine.begin(&format!(
        "[staging]\npath = \"/busy-staging\"\ncap = \"20MB\"\n[[source]]\nname = \"busy\"\npath = \"/busy\"\n\
         [pack]\nmax_size = \"1MiB\"\n[encrypt]\npassphrase_file = \"/etc/archiver/passphrase\"\n\
         [vault]\nurl = \"s3://{BUCKET}/x\"\nendpoint_url = \"{endpoint}\"\npath_style = true\nhost = \"nas1\"\n\
         region = \"us-east-1\"\ncredentials_file = \"/etc/archiver/keys\"\n[upload]\nbandwidth = \"2MB/s\"\n"
    ));
    let mut longest: f64 = 0.0;
    for round in 0..restarts {
        let wait = [0.0, 0.3, 1.1, 0.1, 0.7][round % 5];
        let took = machine.sh(&format!(
            "sleep {wait}; date +%s.%N; systemctl stop archiver; date +%s.%N
            systemctl show archiver -p Result --value | grep -qx success; systemctl start archiver"
        ));
        let times: Vec<f64> = took.lines().map(|line| line.parse().unwrap()).collect();
        longest = longest.max(times[1] - times[0]);
    }
    println!("{restarts} restarts, the longest stop took {longest:.1} s");
    assert!(longest <= STOP_MAX, "{longest}");
    let journal = machine.journal();
    assert!(!journal.contains("stop-sigterm") && !journal.contains("Killing process"), "{journal}");
    machine.sh("sed -i '/bandwidth/d' /etc/archiver.toml; systemctl reload archiver");
    machine.wait_until("archiver status | grep 'pass .* ended'");
    let status = machine.sh("archiver status");
    assert!(status.contains("0 lost or damaged"), "{status}");
    assert_eq!(machine.sh("archiver tree busy | wc -l").trim(), (files + 1).to_string());
    let pieces = double.objects(BUCKET).keys().filter(|key| key.ends_with(".tar.xz.gpg")).count();
    assert_eq!(pieces, files, "One file a piece, each delivered once");
    assert_eq!(double.uploads(BUCKET).len(), 0);
    machine.sh("systemctl stop archiver; ! ls /busy-staging/*/*");
}
