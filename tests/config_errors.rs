//! Promises about the configuration: the sample documents every key with its default, and every mistake is told
//! with its line, its key and what would be right.

use archiver::config::{self, ConfigError, Problem, Settings};
use std::{collections::BTreeSet, path::Path};

const SAMPLE: &str = include_str!("../config/archiver.toml");

/// What must be written; all else has a default.
const MINIMAL: &str = r#"
[staging]
cap = "2TB"
[[source]]
name = "data"
path = "/srv/data"
[encrypt]
passphrase_file = "/etc/archiver/passphrase"
[vault]
url = "s3://my-bucket/prefix"
"#;

fn parse(text: &str) -> Result<Settings, ConfigError> {
    config::parse(text, Path::new("archiver.toml"))
}

fn problems(text: &str) -> Vec<Problem> {
    parse(text).err().map(|err| err.problems().to_vec()).unwrap_or_default()
}

/// The sample with every key in use; of recipients and passphrase, which exclude each other, only the passphrase.
fn full_sample() -> String {
    let in_use = |line: &str| match line.strip_prefix('#') {
        Some(key)
            if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') && !key.starts_with("recipients") =>
        {
            key.to_owned()
        }
        _ => line.to_owned(),
    };
    SAMPLE.lines().map(in_use).collect::<Vec<_>>().join("\n")
}

/// A line `key = value` of a document.
struct KeyLine {
    /// From 1.
    line: usize,
    section: String,
    key: String,
    value: String,
}

impl KeyLine {
    fn name(&self) -> String {
        if self.section.is_empty() { self.key.clone() } else { format!("{}.{}", self.section, self.key) }
    }
}

fn key_lines(text: &str) -> Vec<KeyLine> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let (section, key, value) = (section.clone(), key.to_owned(), value.to_owned());
            found.push(KeyLine { line: at + 1, section, key, value });
        }
    }
    found
}

fn with_line(text: &str, line: usize, new: &str) -> String {
    text.lines().enumerate().map(|(at, old)| if at + 1 == line { new } else { old }).collect::<Vec<_>>().join("\n")
}

/// Values of another type than the one that is there. Sizes may be numbers.
fn wrong_types(at: &KeyLine) -> Vec<&'static str> {
    let mut values = vec!["{ x = 1 }", "1979-05-27"];
    let is_price = at.section == "prices" && at.value.starts_with("0.");
    if !is_price {
        values.push("1.5");
    }
    if !at.value.starts_with('[') {
        values.push("[\"x\"]");
    } else {
        values.extend(["\"x\"", "[5]", "[[\"x\"]]"]);
    }
    if at.value != "true" && at.value != "false" {
        values.push("true");
    } else {
        values.push("\"true\"");
    }
    let is_size = ["B\""].iter().any(|unit| at.value.ends_with(unit));
    let is_number = at.value.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    values.push(if is_number || is_price {
        "\"5\""
    } else if is_size {
        "-5"
    } else {
        "5"
    });
    values
}

/// Values of the right type that cannot be.
const IMPOSSIBLE: &[(&str, &[&str])] = &[
    ("state", &["\"\"", "\"var/lib\"", "\"/a/../b\"", "\"./x\"", "\"/a\\u0000b\""]),
    ("time_zone", &["\"\"", "\"Europa/Berlin\"", "\"CET+99\"", "\"../../etc/passwd\""]),
    ("staging.path", &["\"staging\"", "\"/var/lib/archiver\""]),
    ("staging.cap", &["0", "-1", "\"-2TB\"", "\"1MB\"", "\"1.6TB\"", "\"2tb\"", "\"99999999EiB\"", "\"2\u{a0}TB\""]),
    ("source.name", &["\"\"", "\"Data\"", "\"a/b\"", "\"-a\"", "\"é\"", "\"a.b\""]),
    (
        "source.path",
        &["\"\"", "\"data\"", "\"/var/lib/archiver/staging\"", "\"/var/lib/archiver/staging/x\"", "\"~/x\""],
    ),
    ("source.exclude", &["[\"\"]", "[\"#x\"]", "[\"a\", \" \"]", "[\"a\\nb\"]"]),
    ("source.include", &["[\"\"]", "[\"a\\u0000\"]"]),
    ("source.exclude_tag", &["\"\"", "\"a/b\"", "\"..\""]),
    ("source.repeat", &["\"59m\"", "\"0s\"", "\"90\"", "\"-1d\"", "\"3 months\"", "\"99999w\""]),
    ("pack.max_size", &["0", "-1", "\"1023KiB\"", "\"49TiB\"", "\"0.5\"", "\"1 gib\""]),
    ("pack.max_members", &["0", "-1", "1_000_000_000", "99999999999999999999"]),
    ("pack.retries", &["-1", "101"]),
    ("pack.checkpoint", &["0", "\"1kB\"", "\"10EB\""]),
    ("pack.checkpoint_every", &["\"0s\"", "\"10\"", "\"10 m\""]),
    ("compress.method", &["\"\"", "\"gzip\"", "\"XZ\""]),
    ("compress.level", &["-1", "10"]),
    ("compress.threads", &["-1", "2000"]),
    ("compress.memory", &["0", "\"2Gb\""]),
    ("compress.stream", &["0", "\"5GiB\""]),
    ("encrypt.method", &["\"gpg\"", "\"OpenPGP\""]),
    ("encrypt.passphrase_file", &["\"\"", "\"passphrase\"", "\"correct horse battery staple\""]),
    ("vault.url", &["\"\"", "\"my-bucket\"", "\"s3://\"", "\"S3://my-bucket\"", "\"file://x\"", "\"http://x\""]),
    ("vault.url", &["\"file:///var/lib/archiver/staging/v\"", "\"file:///var/lib/archiver\"", "\"file:///a/../b\""]),
    ("vault.storage_class", &["\"\"", "\"deep_archive\"", "\"COLD\""]),
    ("vault.region", &["\"\"", "\"eu west\""]),
    ("vault.endpoint_url", &["\"\"", "\"127.0.0.1:9000\"", "\"http://a:b@c\""]),
    ("vault.profile", &["\"\"", "\"a]\""]),
    ("vault.credentials_file", &["\"aws\""]),
    ("vault.part_size", &["\"4MiB\"", "\"6GiB\"", "0", "-1"]),
    ("vault.concurrency", &["0", "-1", "65"]),
    ("vault.names", &["\"secret\"", "\"Plain\""]),
    ("vault.host", &["\"\"", "\"a/b\"", "\".a\"", "\"a b\"", "\"a1234567890123456789012345678901234567890\""]),
    ("upload.window", &["[\"\"]", "[\"25:00-07:00\"]", "[\"20:00-20:00\"]", "[\"20:00-07:00\", \"Sam 08:00-12:00\"]"]),
    ("upload.bandwidth", &["\"10MB\"", "\"10Mbit/s\"", "\"0B/s\"", "\"-1MB/s\""]),
    ("restore.secret_key_file", &["\"key\""]),
    ("restore.profile", &["\"\""]),
    ("restore.path", &["\"restore\"", "\"/var/lib/archiver/staging\"", "\"/var/lib/archiver/staging/x\""]),
    ("restore.cap", &["0", "\"-1\"", "\"1KiB\""]),
    ("prices.date", &["\"\"", "\"June 2026\"", "\"2026-13-01\"", "\"01.06.2026\""]),
    ("prices.region", &["\"\"", "\"eu west\""]),
    ("prices.storage", &["-1", "-0.0", "nan", "inf", "1e400", "1000.5"]),
    ("prices.storage_standard", &["-0.1", "1001"]),
    ("prices.minimum_days", &["-1", "9999"]),
    ("prices.requests", &["-1", "nan"]),
    ("prices.requests_standard", &["-1", "-inf"]),
    ("prices.thaw_bulk", &["-1", "1001"]),
    ("prices.thaw_bulk_requests", &["-1", "1001"]),
    ("prices.thaw_standard", &["-1", "1001"]),
    ("prices.thaw_standard_requests", &["-1", "1001"]),
    (
        "prices.egress",
        &["[]", "[\"cheap\"]", "[\"0.09 up to 1TiB\"]", "[\"0.09\", \"0.05\"]", "[\"0 up to ten\", \"1\"]"],
    ),
    ("mail.smtp", &["\"\"", "\"mail.example.org\"", "\"smtps://a:b@c\"", "\"http://x\""]),
    ("mail.password_file", &["\"hunter2\""]),
    ("mail.from", &["\"\"", "\"archiver\"", "\"A <a@b>\""]),
    ("mail.to", &["[]", "[\"ops\"]", "[\"a@b\", \"c@\"]"]),
    ("mail.digest", &["\"0s\"", "\"1\""]),
    ("metrics.textfile", &["\"a\"", "\"\""]),
    ("metrics.listen", &["\"9617\"", "\"0.0.0.0:9617\"", "\"127.0.0.1\""]),
    ("mail.silence", &["\"0s\"", "\"1.5h\""]),
    ("heartbeat.url", &["\"\"", "\"hc-ping.com/x\"", "\"https://u:p@h/x\"", "\"https://h/…\""]),
    ("heartbeat.every", &["\"0s\"", "\"1\""]),
    ("log.level", &["\"\"", "\"INFO\"", "\"verbose\""]),
];

#[test]
fn the_sample_is_a_configuration_with_every_key_at_its_default() {
    let sample = parse(SAMPLE).unwrap();
    assert_eq!(sample.effective(), parse(MINIMAL).unwrap().effective());
    let full = parse(&full_sample()).unwrap();
    let mail = full.mail.expect("the sample shows [mail]");
    assert_eq!((mail.digest.0, mail.silence.0), (86_400, 86_400));
    // Without its optional keys [mail] has the values that the sample shows for them.
    let short = format!("{MINIMAL}\n[mail]\nsmtp = \"smtp://localhost\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n");
    let short = parse(&short).unwrap().mail.unwrap();
    assert_eq!((short.digest, short.silence), (mail.digest, mail.silence));
    let short = parse(&format!("{MINIMAL}\n[heartbeat]\nurl = \"https://h/x\"\n")).unwrap().heartbeat.unwrap();
    assert_eq!(short.every, full.heartbeat.expect("the sample shows [heartbeat]").every);
}

#[test]
fn the_sample_has_a_sentence_for_every_key() {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    for at in key_lines(&full_sample()).iter().map(|at| at.line) {
        let above = lines[at - 2];
        assert!(above.starts_with("# ") && above.len() > 10, "line {at}: {above:?} is no sentence");
    }
}

#[test]
fn what_is_in_force_is_a_configuration_that_means_the_same() {
    for text in [MINIMAL.to_owned(), SAMPLE.to_owned(), full_sample()] {
        let effective = parse(&text).unwrap().effective();
        // Only the path of a heartbeat is not shown.
        assert!(!effective.contains("hc-ping.com/0"), "{effective}");
        let whole = effective.replace("hc-ping.com/…", "hc-ping.com/0");
        let again = parse(&whole).unwrap_or_else(|err| panic!("{err}\n{whole}")).effective();
        assert_eq!(again, effective);
    }
}

/// The text is wrong, and a problem says so at this line, with this key.
fn expect(text: &str, line: usize, key: &str, why: &str) {
    let found = problems(text);
    assert!(
        found.iter().any(|problem| problem.line == Some(line) && problem.key == key),
        "{why}: nothing is said of {key} on line {line}, but {found:#?}"
    );
    assert!(found.iter().all(|problem| problem.what.len() > 10 && !problem.what.contains('\n')), "{why}: {found:#?}");
    let shown = parse(text).err().map(|err| err.to_string()).unwrap_or_default();
    assert!(shown.contains(&format!("archiver.toml:{line}: {key}: ")), "{why}: {shown}");
}

#[test]
fn hundreds_of_mutations_are_told_with_line_and_key() {
    let full = full_sample();
    let lines = key_lines(&full);
    let mut count = 0;
    for at in &lines {
        for value in wrong_types(at) {
            let new = format!("{} = {value}", at.key);
            expect(&with_line(&full, at.line, &new), at.line, &at.name(), &format!("{} {new}", at.section));
            count += 1;
        }
        // A letter is missing, and a key that nobody knows.
        for typo in [at.key[1..].to_owned(), format!("{}_x", at.key), "whatever".to_owned()] {
            let key = at.name().replace(&at.key, &typo);
            let key =
                if at.section.is_empty() { typo.clone() } else { format!("{}.{typo}", key.split('.').next().unwrap()) };
            let text = with_line(&full, at.line, &format!("{typo} = {}", at.value));
            expect(&text, at.line, &key, &format!("{typo} for {}", at.name()));
            count += 1;
        }
        // The same key again.
        let twice = format!("{0} = {1}\n{0} = {1}", at.key, at.value);
        expect(&with_line(&full, at.line, &twice), at.line + 1, &at.name(), "a key that is there twice");
        count += 1;
    }
    for (name, values) in IMPOSSIBLE {
        let at = lines.iter().find(|at| at.name() == *name).unwrap_or_else(|| panic!("{name} is in the sample"));
        for value in *values {
            let new = format!("{} = {value}", at.key);
            expect(&with_line(&full, at.line, &new), at.line, name, &new);
            count += 1;
        }
    }
    println!("{count} mutations");
    assert!(500 < count);
    // Flags aside, every key has values of the right type that cannot be.
    let tried: BTreeSet<&str> = IMPOSSIBLE.iter().map(|(name, _)| *name).collect();
    for at in lines.iter().filter(|at| !["true", "false"].contains(&at.value.as_str())) {
        assert!(tried.contains(at.name().as_str()), "{}", at.name());
    }
}

#[test]
fn a_missing_key_is_told_at_its_section() {
    for (key, section_line) in [("staging.cap", 2), ("source.name", 4), ("source.path", 4), ("vault.url", 9)] {
        let at = key_lines(MINIMAL).into_iter().find(|at| at.name() == key).unwrap();
        expect(&with_line(MINIMAL, at.line, ""), section_line, key, "a missing key");
    }
    expect(&with_line(MINIMAL, 8, ""), 7, "encrypt.passphrase_file", "neither passphrase nor recipients");
    let found = problems("");
    let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys.len(), 4, "{found:#?}");
    for key in ["staging.cap", "source", "encrypt.passphrase_file", "vault.url"] {
        assert!(keys.contains(&key), "{key}: {found:#?}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "state = 5\n[log]\nlevel = \"loud\"\ncolor = true\n[staging]\ncap = \"1GB\"\n[[source]]\nname = \"A\"\n";
    let err = parse(text).unwrap_err().to_string();
    let told: Vec<&str> = err.lines().map(|line| &line[..line.find(": ").unwrap()]).collect();
    assert_eq!(
        told,
        [1, 3, 4, 6, 7, 8]
            .map(|n| format!("archiver.toml:{n}"))
            .iter()
            .map(String::as_str)
            .chain(["archiver.toml"; 2])
            .collect::<Vec<_>>(),
        "{err}"
    );
}

/// A configuration with these directories; empty texts leave a key out.
fn with_dirs([state, staging, source, vault, restore]: [&str; 5]) -> String {
    let key = |key: &str, value: &str| if value.is_empty() { String::new() } else { format!("{key} = \"{value}\"") };
    let (state, staging, restore) = (key("state", state), key("path", staging), key("path", restore));
    format!(
        "{state}\n[staging]\ncap = \"2TB\"\n{staging}\n[[source]]\nname = \"a\"\npath = \"{source}\"\n\
         [encrypt]\nmethod = \"none\"\n[vault]\nurl = \"file://{vault}\"\n[restore]\n{restore}\n"
    )
}

#[test]
fn directories_that_swallow_each_other_are_refused() {
    for (dirs, key) in [
        // Side by side, or in the state directory, as by default.
        (["", "", "/data", "/vault", ""], None),
        (["/s", "", "/data", "/vault", ""], None),
        (["/s", "/s/staging", "/data", "/s/vault", "/s/restore"], None),
        (["/s", "/staging", "/data", "/vault", "/restore"], None),
        (["/s", "/staging", "/stagingx", "/vault", "/restore"], None),
        // What is ours below a source is left out by itself.
        (["/data/s", "/staging", "/data", "/data/vault", "/data/restore"], None),
        (["/data/s", "", "/data", "/vault", "/restore"], None),
        (["/s", "/data/staging", "/data", "/vault", "/restore"], None),
        (["/s", "/staging", "/", "/vault", "/restore"], None),
        (["/s", "/data", "/data", "/vault", "/restore"], Some("source.path")),
        (["/s", "/data/", "/./data", "/vault", "/restore"], Some("source.path")),
        (["/s", "/data", "/data/x", "/vault", "/restore"], Some("source.path")),
        (["/s", "", "/s/x", "/vault", "/restore"], Some("source.path")),
        (["/s", "/staging", "/vault", "/vault", "/restore"], Some("source.path")),
        (["/s", "/staging", "/vault/x", "/vault", "/restore"], Some("source.path")),
        (["/s", "/staging", "/restore/x", "/vault", "/restore"], Some("source.path")),
        (["/s", "/s", "/data", "/vault", "/restore"], Some("staging.path")),
        (["/s", "/vault/staging", "/data", "/vault", "/restore"], Some("staging.path")),
        (["/staging/s", "/staging", "/data", "/vault", "/restore"], Some("state")),
        (["/vault/s", "/staging", "/data", "/vault", "/restore"], Some("state")),
        (["/s", "/staging", "/data", "/staging/vault", "/restore"], Some("vault.url")),
        (["/s", "/staging", "/data", "/s", "/restore"], Some("vault.url")),
        (["/s", "/staging", "/data", "/", "/restore"], Some("staging.path")),
        (["/s", "/staging", "/data", "/vault", "/staging/restore"], Some("restore.path")),
        (["/s", "/staging", "/data", "/vault", "/vault"], Some("vault.url")),
        // The default is in the way, so the key that is there is told.
        (["", "", "/data", "/var/lib", ""], Some("vault.url")),
        (["", "", "/data", "/vault", "/var/lib/archiver/staging"], Some("restore.path")),
    ] {
        let text = with_dirs(dirs);
        let found = problems(&text);
        match key {
            None => assert!(found.is_empty(), "{dirs:?}: {found:#?}"),
            Some(key) => assert!(
                found.iter().any(|problem| problem.key == key && problem.line.is_some()),
                "{dirs:?}: nothing is said of {key}: {found:#?}"
            ),
        }
    }
}
