//! What is right, to be made wrong.

use crate::targets::{Scratch, resealed, seed_catalog};
use archiver::compress;
use serde_json::{Value, json};
use std::{fs, io::Write};

const MANIFEST: &str = include_str!("../testdata/v1/manifest.jsonl");
const INDEX: &str = include_str!("../testdata/v1/index.json");
const MARK: &str = include_str!("../testdata/v1/mark.json");
const MARK_INSIDE: &str = include_str!("../testdata/v1/mark-inside.json");
const SAMPLE: &str = include_str!("../../config/archiver.toml");

const CONFIGURATION: &str = r#"
state = "/var/lib/archiver"
time_zone = "Europe/Berlin"
[staging]
path = "/var/lib/archiver/staging"
cap = "2TB"
[[source]]
name = "data"
path = "/data"
exclude = ["*.tmp", "/scratch/"]
include = ["keep.tmp"]
exclude_tag = "NOBACKUP"
one_file_system = true
require_mount = false
repeat = "90d"
[[source]]
name = "media-2"
path = "/media"
[pack]
max_size = "256GiB"
max_members = 1_000_000
retries = 3
[compress]
method = "zstd"
level = 9
threads = 0
memory = "2GiB"
[encrypt]
method = "openpgp"
recipients = ["/etc/archiver/backup.asc"]
prove = true
[vault]
url = "s3://my-bucket/prefix"
storage_class = "DEEP_ARCHIVE"
region = "eu-west-1"
endpoint_url = "https://127.0.0.1:9000"
path_style = true
part_size = "64MiB"
concurrency = 4
names = "opaque"
host = "nas1"
[upload]
window = ["20:00-07:00", "Sat-Sun 00:00-24:00"]
bandwidth = "10MB/s"
[mail]
smtp = "smtps://backup@mail.example.org"
password_file = "/etc/archiver/mail"
from = "archiver@example.org"
to = ["ops@example.org"]
digest = "24h"
silence = "24h"
[heartbeat]
url = "https://hc-ping.com/c0ffee"
every = "1h"
[log]
level = "info"
"#;

const NAMES: &str = "data.20261120T200000Z.000017-photos.2019_to_2021\nd-1.20261120T200000Z.1000000\n20261120T200000Z\n\
    nas1/data/20261120T200000Z/000017-a.1_to_b.tar.xz.gpg\n/a//b/./c/\nPhotos (old)/y\n512GiB\n1.5 TB\n10MB/s\n90d\n1d12h\n\
    20:00-07:00\nSat-Sun 00:00-24:00\nMon,Wed-Fri 08:00-12:00\n2026-11-01T10:00:00.000000001Z\n@253402300800.000000000\n@0.4294967295\n";

/// Cells of the catalog, and what is put into them.
const ROWS: &str = "pass.seen=100\npiece.first=a\npiece.last=z\npiece.label=photos.2019_to_2021\n\
    piece.tar_size=10240\npiece.segment_index=1\npiece.segment_count=3\npiece.counts={}\npiece.packed_at=2026-11-20T20:00:00Z\n\
    piece.state=sealed\npiece.position=z\npiece.members=9\npiece.sealed_crc64=-1\nexception.path=a\nexception.reason=denied\n\
    piece.seen=1000\npiece.archived=900\npass.host=nas1\n";

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let text = "one line of many, again and again\n".repeat(300);
    match target {
        "configuration" => vec![SAMPLE.into(), CONFIGURATION.into()],
        "manifest" => vec![MANIFEST.into()],
        "index" => vec![INDEX.into()],
        "member_list" => vec![member_list()],
        "mark" => vec![MARK.into(), MARK_INSIDE.into()],
        "names" => vec![NAMES.into()],
        "catalog" => {
            let file = Scratch::new("seed");
            seed_catalog(&file.0);
            vec![fs::read(&file.0).unwrap()]
        }
        "catalog_rows" => vec![ROWS.lines().next().unwrap().into(), ROWS.into()],
        "xz" => vec![xz(b""), xz(text.as_bytes()), [xz(b"one"), xz(b"and another stream")].concat()],
        "zstd" => vec![zstd(b""), zstd(text.as_bytes()), [zstd(b"one"), zstd(b"and another frame")].concat()],
        "openpgp" => vec![include_bytes!("seeds/short.gpg").into()],
        _ => panic!("{target} has no seeds"),
    }
}

/// The members of the manifest, as they stand in staging.
fn member_list() -> Vec<u8> {
    let mut lines: Vec<&str> = MANIFEST.lines().collect();
    lines.pop();
    let mark: Value = serde_json::from_str(MARK).unwrap();
    let packed = json!({
        "version": mark["version"], "tar_size": 10_240, "tar_sha256": "1".repeat(64), "list_sha256": "",
        "range": mark["range"], "took_ms": 7,
    });
    resealed(format!("{}\n{{\"packed\":{packed},\"sha256\":\"\"}}\n", lines[1..].join("\n")).as_bytes())
}

fn xz(clear: &[u8]) -> Vec<u8> {
    let mut writer = compress::xz_writer(Vec::new()).unwrap();
    writer.write_all(clear).unwrap();
    writer.finish().unwrap()
}

fn zstd(clear: &[u8]) -> Vec<u8> {
    let mut writer = compress::zstd_writer(Vec::new()).unwrap();
    writer.write_all(clear).unwrap();
    writer.finish().unwrap()
}
