use super::*;
use crate::{name::Compression, units::ByteSize};
use proptest::prelude::*;
use std::os::unix::fs::{PermissionsExt, symlink};

const SAMPLE: &str = include_str!("../../config/archiver.toml");

/// Beginning on line 1, without an [encrypt] section.
const BASE: &str = r#"staging = { cap = "2TB" }
source = [{ name = "data", path = "/srv/data" }]
vault.url = "s3://my-bucket"
"#;

fn told(text: &str) -> String {
    parse(text, Path::new("a.toml")).err().map(|err| err.to_string()).unwrap_or_default()
}

/// The base with an unencrypted vault, and more.
fn settings(more: &str) -> Settings {
    parse(&format!("{BASE}encrypt.method = \"none\"\n{more}"), Path::new("a.toml"))
        .unwrap_or_else(|err| panic!("{err}"))
}

#[test]
fn defaults_follow_the_state_directory_and_the_method() {
    let settings = settings("state = \"/s\"\ncompress.method = \"zstd\"\n");
    assert_eq!(settings.staging.path, Path::new("/s/staging"));
    assert_eq!(settings.restore.path, Path::new("/s/restore"));
    assert_eq!((settings.compress.method, settings.compress.level), (Compression::Zstd, 9));
    assert_eq!(settings.pack.max_size, ByteSize(512 << 30));
    assert!(settings.upload.window.is_always());
    assert!(settings.mail.is_none());
    assert_eq!(settings.vault.names, Names::Plain);
}

#[test]
fn sizes_may_be_texts_or_numbers() {
    let settings = settings("restore.cap = 1_000_000_000\npack.max_size = \"1.5 GiB\"\npack.checkpoint = 0x100000\n");
    assert_eq!(settings.restore.cap, ByteSize(1_000_000_000));
    assert_eq!(settings.pack.max_size, ByteSize(3 << 29));
    assert_eq!(settings.pack.checkpoint, ByteSize(1 << 20));
}

#[test]
fn messages_say_what_would_be_right() {
    for (more, line) in [
        ("encrypt.method = \"gpg\"", "a.toml:4: encrypt.method: must be one of \"openpgp\", \"none\", not \"gpg\""),
        ("compress.level = 10", "a.toml:4: compress.level: must be a number from 0 to 9, not 10"),
        ("compress.level = \"6\"", "a.toml:4: compress.level: must be a number from 0 to 9, not \"6\""),
        (
            "compress = { method = \"zstd\", level = 0 }",
            "a.toml:4: compress.level: must be a number from 1 to 19, not 0",
        ),
        (
            "pack.max_size = \"512gib\"",
            "a.toml:4: pack.max_size: \"512gib\" is not a size: unknown unit \"gib\"; write B, kB, MB, GB, TB, PB, EB \
             (powers of 1000) or KiB, MiB, GiB, TiB, PiB, EiB (powers of 1024)",
        ),
        ("pack.max_siz = 5", "a.toml:4: pack.max_siz: there is no such key in [pack]; did you mean `max_size`?"),
        ("[[staging2]]", "a.toml:4: staging2: there is no such key at the top of the file; did you mean [staging]?"),
        (
            "pack.max_size = \"1TiB\"",
            "a.toml:1: staging.cap: must be at least \"3103GiB\", 3 × pack.max_size (\"1TiB\") + 1 %; or pack.max_size at \
             most \"614GiB\"",
        ),
        ("log = 5", "a.toml:4: log: must be a section, written [log], not a number"),
        (
            "upload.window = \"20:00-07:00\"",
            "a.toml:4: upload.window: must be a list of texts in brackets, like [\"…\", \"…\"], not a text",
        ),
        (
            "upload.window = [\n \"20:00-07:00\",\n \"7-8\"\n]",
            "a.toml:6: upload.window: \"7-8\" is not a window: \"7\" is no time of day; write it like 07:30, from 00:00 to 24:00",
        ),
        ("state = \"x\"", "a.toml:4: state: must be an absolute path, like \"/srv/data\", not \"x\""),
    ] {
        let text = told(&format!("{BASE}{more}"));
        assert!(text.lines().any(|told| told == line), "{more}:\n{text}");
    }
    let text = told("[source]\nname = \"a\"");
    assert!(
        text.contains("a.toml:1: source: must be a list of sections, each written [[source]], not a section"),
        "{text}"
    );
    assert!(told("source = []").contains("a.toml:1: source: is missing; write at least one section [[source]]"));
}

#[test]
fn the_sizes_that_are_proposed_would_do() {
    for (cap, max_size) in
        [("2TB", "1TiB"), ("10MiB", "1GiB"), ("3999999999", "2GiB"), ("1GiB", "400MiB"), ("1EB", "48TiB")]
    {
        let text = |cap: &str, max: &str| {
            format!("{}encrypt.method = \"none\"\npack.max_size = \"{max}\"\n", BASE.replace("2TB", cap))
        };
        let problem = told(&text(cap, max_size));
        if cap == "1EB" {
            assert_eq!(problem, "");
            continue;
        }
        let quoted: Vec<&str> = problem.split('"').skip(1).step_by(2).collect();
        assert_eq!(quoted.len(), 3, "{problem}");
        assert_eq!(told(&text(quoted[0], max_size)), "", "{problem}");
        assert_eq!(told(&text(cap, quoted[2])), "", "{problem}");
    }
    // The limit itself: 3 × 1 MiB + 1 % is 3,177,185.28 bytes.
    let text = |cap: u64| {
        told(&format!(
            "{}encrypt.method = \"none\"\npack.max_size = \"1MiB\"\n",
            BASE.replace("\"2TB\"", &cap.to_string())
        ))
    };
    assert_eq!(text(3_177_186), "");
    assert!(text(3_177_185).contains("staging.cap: must be at least \"3103KiB\""), "{}", text(3_177_185));
}

#[test]
fn two_sources_with_the_same_name_or_path_are_told_with_both_lines() {
    let text = "[[source]]\nname = \"a\"\npath = \"/a\"\n[[source]]\nname = \"b\"\npath = \"/a/b\"\n[[source]]\nname = \"a\"\npath = \"/b/\"\n\
                [[source]]\nname = \"d\"\npath = \"//b\"\n[staging]\ncap = \"2TB\"\n[vault]\nurl = \"s3://bucket\"\n[encrypt]\nmethod = \"none\"\n";
    assert_eq!(
        told(text),
        "a.toml:8: source.name: must be unique: \"a\" stands already on line 2\n\
         a.toml:12: source.path: must be unique: \"/b\" is a source already on line 9"
    );
}

#[test]
fn there_is_either_a_passphrase_or_a_recipient() {
    for (more, wrong) in [
        ("", "encrypt.passphrase_file: is missing"),
        ("encrypt.recipients = []", "4: encrypt.recipients: must name at least one"),
        ("encrypt.recipients = [\"/a\"]", ""),
        ("encrypt.recipients = [\"/a\", \"b\"]", "4: encrypt.recipients: must be absolute"),
        ("encrypt.passphrase_file = \"/p\"", ""),
        ("encrypt.passphrase_file = \"/p\"\nencrypt.recipients = [\"/a\"]", "5: encrypt.recipients: must be absent"),
        ("encrypt.method = \"none\"", ""),
        ("encrypt.method = \"none\"\nencrypt.recipients = [\"/a\"]", "5: encrypt.recipients: must be absent with"),
        (
            "encrypt.method = \"none\"\nencrypt.passphrase_file = \"/p\"",
            "5: encrypt.passphrase_file: must be absent with",
        ),
    ] {
        let text = told(&format!("{BASE}{more}"));
        assert!(text.contains(wrong) && (text.is_empty() || text.lines().count() == 1), "{more}: {text}");
        assert_eq!(text.is_empty(), wrong.is_empty(), "{more}: {text}");
    }
}

#[test]
fn credentials_of_systemd_stand_in_for_absent_keys() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::in_directory(dir.path());
    let mail = "[mail]\nsmtp = \"smtps://me@host\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n";
    let text = format!("{BASE}{mail}");
    let err = parse_with(&text, Path::new("a.toml"), &credentials).unwrap_err().to_string();
    assert!(
        err.contains("encrypt.passphrase_file: is missing") && err.contains("mail.password_file: is missing"),
        "{err}"
    );

    for name in ["passphrase", "password_file", "secret_key"] {
        fs::write(dir.path().join(name), "x").unwrap();
        // As systemd shows them when the service has a user of its own.
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o440)).unwrap();
    }
    let settings = parse_with(&text, Path::new("a.toml"), &credentials).unwrap();
    assert_eq!(settings.encrypt.passphrase_file, Some(dir.path().join("passphrase")));
    assert_eq!(settings.mail.as_ref().unwrap().password_file, Some(dir.path().join("password_file")));
    assert_eq!(settings.restore.secret_key_file, Some(dir.path().join("secret_key")));
    assert_eq!(settings.vault.credentials_file, None);
    assert_eq!(settings.check_files(), []);
    // The key comes first, and recipients want no passphrase.
    let text = format!("{BASE}encrypt.passphrase_file = \"/p\"");
    let settings = parse_with(&text, Path::new("a.toml"), &credentials).unwrap();
    assert_eq!(settings.encrypt.passphrase_file, Some("/p".into()));
    let text = format!("{BASE}encrypt.recipients = [\"/a\"]");
    let settings = parse_with(&text, Path::new("a.toml"), &credentials).unwrap();
    assert_eq!(settings.encrypt.passphrase_file, None);
}

#[test]
fn files_that_are_named_must_be_there_and_secrets_closed() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, mode| {
        let path = dir.path().join(name);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let (closed, group, others) = (file("closed", 0o600), file("group", 0o640), file("others", 0o604));
    let (directory, missing) = (dir.path().display().to_string(), dir.path().join("none").display().to_string());
    let link = dir.path().join("link").display().to_string();
    symlink(&others, &link).unwrap();
    for (path, wrong) in [
        (&closed, ""),
        (&group, "is open to group or others (mode 0640); run: chmod 600 /"),
        (&others, "(mode 0604)"),
        (&link, "(mode 0604)"),
        (&directory, "is a directory"),
        (&missing, "there is no file"),
        (&"/dev/null".to_owned(), "must name a regular file"),
        (&format!("{closed}/x"), "cannot look at"),
    ] {
        let text = format!("{BASE}encrypt.passphrase_file = {path:?}\n");
        let problems = parse(&text, Path::new("a.toml")).unwrap().check_files();
        assert_eq!(problems.is_empty(), wrong.is_empty(), "{path}: {problems:?}");
        for problem in &problems {
            assert_eq!((problem.line, problem.key.as_str()), (Some(4), "encrypt.passphrase_file"));
            assert!(problem.what.contains(wrong), "{path}: {problem}");
        }
    }
    // Certificates are public, and each is told at its own line.
    let text =
        format!("{BASE}encrypt.recipients = [\n{group:?},\n{missing:?},\n]\nvault.credentials_file = {others:?}\n");
    let err = parse(&text, Path::new("a.toml")).unwrap().checked().unwrap_err();
    let told: Vec<_> = err.problems().iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    assert_eq!(told, [(Some(6), "encrypt.recipients"), (Some(8), "vault.credentials_file")]);
}

#[test]
fn directories_that_are_the_same_behind_symlinks_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    fs::create_dir(root.join("data")).unwrap();
    symlink(root.join("data"), root.join("link")).unwrap();
    let check = |staging: &str| {
        let text = format!(
            "staging = {{ cap = \"2TB\", path = {:?} }}\nsource = [{{ name = \"data\", path = {:?} }}]\n\
             vault.url = \"s3://my-bucket\"\nencrypt.method = \"none\"\n",
            root.join(staging),
            root.join("data")
        );
        parse(&text, Path::new("a.toml")).unwrap().check_files()
    };
    assert_eq!(check("staging"), []);
    // Below the source it is left out by itself.
    assert_eq!(check("link/not/there/yet"), []);
    let found = check("link");
    assert_eq!((found.len(), found[0].key.as_str(), found[0].line), (1, "source.path", Some(2)), "{found:?}");
}

#[test]
fn what_is_no_toml_is_told_with_line_and_column() {
    for (text, expected) in [
        ("state = /var\n", "a.toml:1: state: not TOML, column 9: "),
        ("[staging]\ncap = 2TB\n", "a.toml:2: staging.cap: not TOML, column 7: "),
        ("\n[log\nlevel = \"info\"\n", "a.toml:2: log: not TOML, column 5: "),
        ("state\n", "a.toml:1: state: not TOML, column 6: "),
        ("state = \"é\" x\n", "a.toml:1: state: not TOML, column 13: "),
        ("state = \"/a\nx = [1,\n", "a.toml:1: state: not TOML, column 12: "),
        ("= 5", "a.toml:1: not TOML, column 1: "),
        ("\0", "a.toml:1: not TOML, column 1: "),
    ] {
        let text = told(text);
        assert!(text.lines().any(|line| line.starts_with(expected)), "{expected} {text}");
        assert!(!text.contains("missing; write"), "after a syntax error nothing else can be believed: {text}");
    }
    // One mistake, one line.
    assert_eq!(told("a = = = = 5\n").lines().count(), 1);
    // A key that is there twice does not hide the rest.
    let text = told("[log]\nlevel = \"info\"\nlevel = \"loud\"\ncolor = 1\n");
    assert!(text.contains("a.toml:3: log.level: not TOML") && text.contains("a.toml:4: log.color: "), "{text}");
}

#[test]
fn secrets_that_stand_in_the_wrong_place_are_not_shown() {
    for more in [
        "encrypt.passphrase = \"hunter2\"",
        "encrypt.passphrase_file = \"hunter2\"",
        "encrypt.passphrase_file = [\"hunter2\"]",
        "vault.credentials_file = \"hunter2\"",
        "vault.secret_access_key = \"hunter2\"",
        "vault.endpoint_url = \"http://me:hunter2@host\"",
        "mail.smtp = \"smtps://me:hunter2@host\"",
        "mail.smtp = \"hunter2\"",
        "mail.password = \"hunter2\"",
        "mail.password_file = \"hunter2\"",
        "password = \"hunter2",
    ] {
        let text = told(&format!("{BASE}{more}"));
        assert!(!text.is_empty() && !text.contains("hunter2"), "{more}: {text}");
    }
}

#[test]
fn names_from_outside_cannot_forge_lines() {
    let text = told(&format!(
        "{BASE}\"a\\nb.toml:1: \\u001b[31m\" = 1\nstate = \"a\\nb\\u001b\"\nencrypt.method = \"none\"\n"
    ));
    assert_eq!(text.lines().count(), 2, "{text:?}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    let chained = |err: &ConfigError| crate::fate::Chain(err).to_string();

    let err = load(&file).unwrap_err();
    assert!(matches!(err, ConfigError::Unreadable { .. }) && chained(&err).contains("No such file"), "{err}");
    assert_eq!(err.to_string(), format!("Cannot read the configuration {file:?}"));
    assert!(chained(&load(dir.path()).unwrap_err()).contains("directory"));

    fs::write(&file, b"# x\n# \xff\n").unwrap();
    let err = load(&file).unwrap_err();
    assert_eq!(
        err.to_string(),
        format!("{}:2: the file must be UTF-8, and byte 0xff on this line is not; save it as UTF-8", file.display())
    );
    fs::write(&file, " ".repeat(FILE_SIZE_MAX as usize + 1)).unwrap();
    assert!(chained(&load(&file).unwrap_err()).contains("longer than"));
    fs::write(&file, "").unwrap();
    assert_eq!(load(&file).unwrap_err().problems().len(), 4);
    // As some editors write it.
    fs::write(&file, format!("\u{feff}{BASE}encrypt.method = \"none\"\n").replace('\n', "\r\n")).unwrap();
    assert_eq!(load(&file).unwrap().file(), file);
    // Where the text is wrong, a file that is missing is told in the same go.
    fs::write(&file, format!("{BASE}encrypt.passphrase_file = \"/none\"\nlog.level = 5\n")).unwrap();
    let err = load(&file).unwrap_err();
    assert_eq!(err.problems().iter().map(|problem| problem.line).collect::<Vec<_>>(), [Some(4), Some(5)]);
}

#[test]
fn settings_tell_the_lines_of_their_keys_and_are_printed_as_json() {
    let settings = settings("time_zone = \"Europe/Berlin\"\nupload.bandwidth = \"10MB/s\"\n");
    assert_eq!(settings.problem("upload.bandwidth", "x").line, Some(6));
    assert_eq!(settings.problem("pack.retries", "x").line, None);
    assert_eq!(settings.source_problem(0, "path", "x").line, Some(2));
    assert_eq!(settings.source_problem(0, "exclude", "x").line, Some(2));
    assert_eq!(settings.time_zone.now().iana_name(), Some("Europe/Berlin"));
    let json = serde_json::to_value(&settings).unwrap();
    assert_eq!(json["upload"], serde_json::json!({ "window": [], "bandwidth": "10MB/s" }));
    assert_eq!(json["staging"]["cap"], "2TB");
    assert_eq!(json["source"][0]["name"], "data");
    assert_eq!(json["time_zone"], "Europe/Berlin");
}

proptest! {
    /// Bytes of the sample are replaced, left out and doubled: there are settings, or there are problems.
    #[test]
    fn no_text_makes_the_parser_panic(edits in proptest::collection::vec((0..SAMPLE.len(), 0_usize..40, ".{0,8}"), 1..6)) {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        for (at, length, new) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text, Path::new("a.toml")) {
            Ok(settings) => prop_assert!(parse(&settings.effective(), Path::new("b.toml")).is_ok()),
            Err(err) => {
                let lines = text.lines().count().max(1);
                prop_assert!(!err.problems().is_empty());
                prop_assert!(err.problems().iter().all(|problem| problem.line.is_none_or(|line| 0 < line && line <= lines + 1)));
                prop_assert_eq!(err.to_string().lines().count(), err.problems().len());
            }
        }
    }
}
