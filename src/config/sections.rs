//! One function per section: each key with its default and what it must be.
//!
//! A section with a problem gives its defaults in that place, or nothing; no settings are made of it.

use super::{
    Credentials,
    address::{VaultUrl, endpoint, loopback, mailbox},
    document::{Section, quoted},
    keys,
    problem::{FileKind, Found},
    settings::{
        Compress, Encrypt, Heartbeat, Log, LogLevel, Mail, Metrics, Names, Pack, Restore, Source, Staging, Upload,
        Vault, Zone,
    },
};
use crate::{
    name::{Compression, Encryption, WORD_LEN_MAX},
    price::{self, Prices},
    units::{Bandwidth, ByteSize, Seconds},
    window::Window,
};
use jiff::tz::TimeZone;
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

/// What S3 calls its classes.
const STORAGE_CLASSES: [&str; 10] = [
    "DEEP_ARCHIVE",
    "GLACIER",
    "GLACIER_IR",
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "REDUCED_REDUNDANCY",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
];
/// 10,000 parts of 5 GiB are the largest object of S3; some room for what sealing adds.
const PIECE_SIZE_MAX: u64 = 48 * ByteSize::TIB;
/// Where catalog and manifests are, if nothing else is said.
pub(super) const STATE: &str = "/var/lib/archiver";
const SIZE_MAX: u64 = i64::MAX as u64;
const MIB: u64 = ByteSize::MIB;
const GIB: u64 = ByteSize::GIB;

pub(super) fn state(top: &Section<'_>, found: &mut Found) -> PathBuf {
    top.path(found, "state").unwrap_or_else(|| STATE.into())
}

pub(super) fn time_zone(top: &Section<'_>, found: &mut Found) -> Zone {
    Zone(top.text(found, "time_zone", |name| match TimeZone::get(name) {
        Ok(zone) => Ok((name.to_owned(), zone)),
        Err(_) => Err(format!(
            "must be a time zone that this system knows, like \"Europe/Berlin\" or \"UTC\", not {}",
            quoted(name)
        )),
    }))
}

pub(super) fn staging(section: &Section<'_>, found: &mut Found, state: &Path) -> Staging {
    section.require(found, "cap", "\"2TB\"");
    let path = section.path(found, "path").unwrap_or_else(|| state.join("staging"));
    Staging { path, cap: section.size(found, "cap", 0..=SIZE_MAX).unwrap_or_default() }
}

pub(super) fn source(section: &Section<'_>, found: &mut Found) -> Option<Source> {
    section.require(found, "name", "\"data\"");
    section.require(found, "path", "\"/srv/data\"");
    let name = section.text(found, "name", |name| name.parse().map_err(|err| format!("{err}")));
    let path = section.path(found, "path");
    let tag = |name: &str| {
        let fits = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        if fits { Ok(name.to_owned()) } else { Err(format!("must be the name of a file, not {}", quoted(name))) }
    };
    let exclude = section.list(found, "exclude", pattern).unwrap_or_default();
    let include = section.list(found, "include", pattern).unwrap_or_default();
    let exclude_tag = section.text(found, "exclude_tag", tag);
    let one_file_system = section.flag(found, "one_file_system").unwrap_or(false);
    let require_mount = section.flag(found, "require_mount").unwrap_or(false);
    let repeat = section.seconds(found, "repeat", Seconds(Seconds::HOUR));
    Some(Source { name: name?, path: path?, exclude, include, exclude_tag, one_file_system, require_mount, repeat })
}

/// Only what gitignore syntax would pass over without a word; the rest is compiled by whoever uses it.
fn pattern(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty: an empty pattern matches nothing".to_owned());
    }
    if text.starts_with('#') {
        let what = "must not begin with `#`, which makes it a comment; a backslash before it takes it as a name";
        return Err(format!("{what}, not {}", quoted(text)));
    }
    if text.contains(['\n', '\r', '\0']) {
        return Err(format!("must be one pattern of one line, not {}", quoted(text)));
    }
    Ok(text.to_owned())
}

pub(super) fn pack(section: &Section<'_>, found: &mut Found) -> Pack {
    Pack {
        max_size: section.size(found, "max_size", MIB..=PIECE_SIZE_MAX).unwrap_or(ByteSize(512 * GIB)),
        max_members: section.number(found, "max_members", 1..=100_000_000).unwrap_or(1_000_000),
        retries: small(section.number(found, "retries", 0..=100), 3),
        checkpoint: section.size(found, "checkpoint", MIB..=SIZE_MAX).unwrap_or(ByteSize(8 * GIB)),
        checkpoint_every: section.seconds(found, "checkpoint_every", Seconds(1)).unwrap_or(Seconds(600)),
    }
}

pub(super) fn compress(section: &Section<'_>, found: &mut Found) -> Compress {
    let methods = [("xz", Compression::Xz), ("zstd", Compression::Zstd), ("none", Compression::None)];
    let method = section.text(found, "method", |text| one_of(text, &methods));
    // A level is only wrong for a method that is known.
    let levels = match method {
        None if section.has("method") => 0..=19,
        None | Some(Compression::Xz) => 0..=9,
        Some(Compression::Zstd) => 1..=19,
        Some(Compression::None) => 0..=19,
    };
    let method = method.unwrap_or(Compression::Xz);
    let level = match method {
        Compression::Xz => 6,
        Compression::Zstd => 9,
        Compression::None => 0,
    };
    Compress {
        method,
        level: small(section.number(found, "level", levels), level),
        threads: small(section.number(found, "threads", 0..=1024), 0),
        memory: section.size(found, "memory", MIB..=SIZE_MAX).unwrap_or(ByteSize(2 * GIB)),
        stream: section.size(found, "stream", MIB..=4 * GIB).unwrap_or(ByteSize(4 * GIB)),
    }
}

pub(super) fn encrypt(section: &Section<'_>, found: &mut Found, credentials: &Credentials) -> Encrypt {
    let methods = [("openpgp", Encryption::OpenPgp), ("none", Encryption::None)];
    let method = section.text(found, "method", |text| one_of(text, &methods)).unwrap_or(Encryption::OpenPgp);
    let recipients = section.list(found, "recipients", |text| {
        let path = PathBuf::from(text);
        let fits = path.is_absolute() && !text.contains('\0');
        if fits { Ok(path) } else { Err(format!("must be absolute paths of certificates, not {}", quoted(text))) }
    });
    let passphrase = section.path(found, "passphrase_file");
    let (has_passphrase, has_recipients) = (section.has("passphrase_file"), section.has("recipients"));
    let mut passphrase_file = None;
    match method {
        Encryption::None => {
            for key in ["passphrase_file", "recipients"].into_iter().filter(|key| section.has(key)) {
                let what = "must be absent with method \"none\", which encrypts nothing; or write method = \"openpgp\"";
                section.problem(found, key, what);
            }
        }
        Encryption::OpenPgp if has_passphrase && has_recipients => {
            let what = "must be absent where passphrase_file is given: there is either a passphrase or recipients";
            section.problem(found, "recipients", what);
        }
        Encryption::OpenPgp if has_recipients => {
            if recipients.as_ref().is_some_and(Vec::is_empty) {
                section.problem(found, "recipients", "must name at least one public certificate");
            }
        }
        Encryption::OpenPgp => {
            passphrase_file = secret(section, found, "passphrase_file", passphrase, credentials);
            if passphrase_file.is_none() && !has_passphrase {
                let what = "is missing; write `passphrase_file = \"/etc/archiver/passphrase\"` or \
                            `recipients = [\"/etc/archiver/backup.asc\"]` in [encrypt], or method = \"none\"; a systemd \
                            credential `passphrase` is seen by the service, and by other commands while it runs";
                section.problem(found, "passphrase_file", what);
            }
        }
    }
    for (index, path) in recipients.iter().flatten().enumerate() {
        section.note_file(found, "recipients", &format!("recipients[{index}]"), path, FileKind::Public);
    }
    let prove = section.flag(found, "prove").unwrap_or(true);
    Encrypt { method, passphrase_file, recipients: recipients.unwrap_or_default(), prove }
}

pub(super) fn vault(section: &Section<'_>, found: &mut Found, credentials: &Credentials) -> Option<Vault> {
    section.require(found, "url", "\"s3://my-bucket/prefix\"");
    let url = section.text(found, "url", |text| text.parse().map_err(|what| format!("{what}, not {}", quoted(text))));
    let names = [("plain", Names::Plain), ("opaque", Names::Opaque)];
    let classes = STORAGE_CLASSES.map(|class| (class, class.to_owned()));
    let file = section.path(found, "credentials_file");
    Some(Vault {
        storage_class: section
            .text(found, "storage_class", |text| one_of(text, &classes))
            .unwrap_or_else(|| STORAGE_CLASSES[0].to_owned()),
        region: section.text(found, "region", |text| word(text, "a region like \"eu-west-1\"")),
        endpoint_url: section.text(found, "endpoint_url", endpoint),
        path_style: section.flag(found, "path_style").unwrap_or(false),
        profile: section.text(found, "profile", profile),
        credentials_file: secret(section, found, "credentials_file", file, credentials),
        part_size: section.size(found, "part_size", 5 * MIB..=5 * GIB).unwrap_or(ByteSize(64 * MIB)),
        concurrency: small(section.number(found, "concurrency", 1..=64), 4),
        names: section.text(found, "names", |text| one_of(text, &names)).unwrap_or(Names::Plain),
        host: section.text(found, "host", |text| word(text, "a host's name")),
        // The last, so that the problems of all others are told.
        url: url?,
    })
}

pub(super) fn upload(section: &Section<'_>, found: &mut Found) -> Upload {
    let spans = section.list(found, "window", |text| match Window::parse(&[text.to_owned()]) {
        Ok(_) => Ok(text.to_owned()),
        Err(err) => Err(err.to_string()),
    });
    let window = Window::parse(&spans.unwrap_or_default());
    if let Err(err) = &window {
        section.problem(found, "window", err.to_string());
    }
    let bandwidth = section.text(found, "bandwidth", |text| match Bandwidth::from_str(text) {
        // Slower than this, a part would outlast every server's patience.
        Ok(Bandwidth(bytes)) if bytes < 1_000 => Err(format!("must be at least \"1kB/s\", not {}", quoted(text))),
        Ok(bandwidth) => Ok(bandwidth),
        Err(err) => Err(err.to_string()),
    });
    Upload { window: window.unwrap_or_else(|_| Window::always()), bandwidth }
}

pub(super) fn restore(section: &Section<'_>, found: &mut Found, state: &Path, credentials: &Credentials) -> Restore {
    let file = section.path(found, "secret_key_file");
    Restore {
        secret_key_file: secret(section, found, "secret_key_file", file, credentials),
        profile: section.text(found, "profile", profile),
        path: section.path(found, "path").unwrap_or_else(|| state.join("restore")),
        cap: section.size(found, "cap", MIB..=SIZE_MAX).unwrap_or(ByteSize(500_000_000_000)),
    }
}

/// The built-in prices are those of one class of one vendor; for all else there are none until they are written down.
pub(super) fn prices(section: &Section<'_>, found: &mut Found, vault: Option<&Vault>) -> Option<Prices> {
    let is_built_in = vault.is_some_and(|vault| {
        let is_aws = matches!(vault.url, VaultUrl::S3 { .. }) && vault.endpoint_url.is_none();
        is_aws && vault.storage_class == STORAGE_CLASSES[0]
    });
    let known = is_built_in.then(Prices::default);
    if !section.is_there() {
        return known;
    }
    for key in keys::of("prices") {
        match *key {
            "date" => section.require(found, key, "\"2026-06-01\""),
            "region" => section.require(found, key, "\"eu-west-1\""),
            // What is built in is of use only for that class of that vendor.
            _ if is_built_in => {}
            "egress" => section.require(found, key, "[\"0.09\"]"),
            "minimum_days" => section.require(found, key, "180"),
            _ => section.require(found, key, "0.01"),
        }
    }
    let known = known.unwrap_or_default();
    let mut price = |key, known| section.price(found, key).unwrap_or(known);
    let prices = Prices {
        storage: price("storage", known.storage),
        storage_standard: price("storage_standard", known.storage_standard),
        requests: price("requests", known.requests),
        requests_standard: price("requests_standard", known.requests_standard),
        thaw_bulk: price("thaw_bulk", known.thaw_bulk),
        thaw_bulk_requests: price("thaw_bulk_requests", known.thaw_bulk_requests),
        thaw_standard: price("thaw_standard", known.thaw_standard),
        thaw_standard_requests: price("thaw_standard_requests", known.thaw_standard_requests),
        date: section.text(found, "date", day).unwrap_or(known.date),
        region: section.text(found, "region", |text| word(text, "a region like \"eu-west-1\"")).unwrap_or(known.region),
        minimum_days: small(section.number(found, "minimum_days", 0..=3650), known.minimum_days),
        egress: section
            .list(found, "egress", |text| text.parse().map_err(|what| format!("{what}, not {}", quoted(text))))
            .unwrap_or(known.egress),
    };
    if let Err(what) = price::check_steps(&prices.egress) {
        section.problem(found, "egress", what);
    }
    Some(prices)
}

fn day(text: &str) -> Result<jiff::civil::Date, String> {
    text.parse().map_err(|_| format!("must be a day like \"2026-06-01\", not {}", quoted(text)))
}

pub(super) fn mail(section: &Section<'_>, found: &mut Found, credentials: &Credentials) -> Option<Mail> {
    if !section.is_there() {
        return None;
    }
    section.require(found, "smtp", "\"smtps://backup@mail.example.org\"");
    section.require(found, "from", "\"archiver@example.org\"");
    section.require(found, "to", "[\"ops@example.org\"]");
    let smtp = section.text(found, "smtp", str::parse::<super::SmtpUrl>);
    let file = section.path(found, "password_file");
    let password_file = secret(section, found, "password_file", file, credentials);
    let has_user = smtp.as_ref().is_some_and(|smtp| smtp.user.is_some());
    if has_user && password_file.is_none() && !section.has("password_file") {
        let what =
            "is missing, as smtp names a user; write `password_file = \"/etc/archiver/mail-password\"` in [mail]";
        section.problem(found, "password_file", what);
    }
    let from = section.text(found, "from", mailbox);
    let to = section.list(found, "to", mailbox);
    if to.as_ref().is_some_and(Vec::is_empty) {
        section.problem(found, "to", "must name at least one mail address");
    }
    let digest = section.seconds(found, "digest", Seconds(1)).unwrap_or(Seconds(Seconds::DAY));
    let silence = section.seconds(found, "silence", Seconds(1)).unwrap_or(Seconds(Seconds::DAY));
    Some(Mail { smtp: smtp?, password_file, from: from?, to: to?, digest, silence })
}

pub(super) fn heartbeat(section: &Section<'_>, found: &mut Found) -> Option<Heartbeat> {
    if !section.is_there() {
        return None;
    }
    section.require(found, "url", "\"https://hc-ping.com/…\"");
    let url = section.text(found, "url", str::parse);
    let every = section.seconds(found, "every", Seconds(1)).unwrap_or(Seconds(3600));
    Some(Heartbeat { url: url?, every })
}

pub(super) fn metrics(section: &Section<'_>, found: &mut Found) -> Metrics {
    Metrics { textfile: section.path(found, "textfile"), listen: section.text(found, "listen", loopback) }
}

pub(super) fn log(section: &Section<'_>, found: &mut Found) -> Log {
    let levels = LogLevel::ALL.map(|level| (level.as_str(), level));
    Log { level: section.text(found, "level", |text| one_of(text, &levels)).unwrap_or(LogLevel::Info) }
}

/// The file of this key, or the credential that stands in for it; either must be there.
fn secret(
    section: &Section<'_>,
    found: &mut Found,
    key: &'static str,
    path: Option<PathBuf>,
    credentials: &Credentials,
) -> Option<PathBuf> {
    let path = if section.has(key) { path } else { credentials.find(key) }?;
    let kind = if credentials.holds(&path) { FileKind::Credential } else { FileKind::Secret };
    section.note_file(found, key, key, &path, kind);
    Some(path)
}

fn one_of<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("must be one of {}, not {}", names.join(", "), quoted(text))
    })
}

/// What may stand in a key of the vault.
fn word(text: &str, what: &str) -> Result<String, String> {
    let fits = (1..=WORD_LEN_MAX).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let right =
        || format!("must be {what}: 1 to {WORD_LEN_MAX} of A-Z, a-z, 0-9, ., _ and -, not beginning with a dot");
    if fits { Ok(text.to_owned()) } else { Err(format!("{}, not {}", right(), quoted(text))) }
}

fn profile(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty() && !text.contains(|c: char| c.is_control() || c == '[' || c == ']');
    if fits { Ok(text.to_owned()) } else { Err(format!("must be the name of an AWS profile, not {}", quoted(text))) }
}

/// The ranges of the numbers read here are far below 2^32.
fn small(number: Option<u64>, default: u32) -> u32 {
    number.map_or(default, |number| u32::try_from(number).unwrap_or(u32::MAX))
}
