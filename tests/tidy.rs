//! The rules of the source, held by reading it: the order of rooms, the doors of foreign crates, sizes, and
//! what must not stand there. Rules look at code without comments and strings; `samples` shows each a bad one.

#[path = "tidy/samples.rs"]
mod samples;
#[path = "tidy/scan.rs"]
mod scan;

use scan::{blank, body, closing, line, uses, without_tests, words_at};
use std::{fs, path::Path};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Each foreign crate enters by one door. Tests may use them anywhere.
const DOORS: &[(&str, &[&str])] = &[
    ("rusqlite", &["catalog/"]),
    ("liblzma", &["compress/"]),
    ("liblzma_sys", &["compress/"]),
    ("zstd", &["compress/"]),
    ("sequoia_openpgp", &["encrypt/"]),
    ("tar", &["archive/header.rs", "archive/reader.rs"]),
    ("ignore", &["archive/filter.rs"]),
    ("toml", &["config/"]),
    ("lettre", &["report/"]),
    ("ureq", &["report/heartbeat.rs"]),
    ("rustls_native_certs", &["report/heartbeat.rs", "vault/s3/roots.rs"]),
    ("clap", &["cli/", "main.rs"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("qrcode", &["cli/recovery_sheet/"]),
    ("sd_notify", &["daemon/"]),
    ("tracing_journald", &["log.rs"]),
    ("tracing_subscriber", &["log.rs"]),
    ("crc_fast", &["vault/checksum.rs"]),
    ("aws_config", &["vault/s3/"]),
    ("aws_credential_types", &["vault/s3/"]),
    ("aws_runtime", &["vault/s3/"]),
    ("aws_sdk_s3", &["vault/s3/"]),
    ("aws_smithy_http_client", &["vault/s3/"]),
    ("aws_smithy_runtime_api", &["vault/s3/"]),
    ("http_body", &["vault/s3/"]),
    ("http_body_util", &["daemon/metrics.rs"]),
    ("hyper", &["daemon/metrics.rs"]),
    ("hyper_util", &["daemon/metrics.rs"]),
];

/// Only these may switch the compiler's checks off.
const UNSAFE: &[&str] = &["compress/lzma.rs"];

const STAGES: &[&str] = &["archive", "compress", "encrypt", "upload"];

/// No I/O, no clock.
const PURE: &[&str] = &[
    "fate.rs",
    "units.rs",
    "path.rs",
    "glob.rs",
    "name.rs",
    "window.rs",
    "notice.rs",
    "finding.rs",
    "stage.rs",
    "archive/cut.rs",
    "vault/policy.rs",
    "pipeline/backoff.rs",
];

/// Words of the workshop, that mean nothing to a reader of the source.
const WORDS: &[&str] = &["issue #", "/issues/", "pull request", "/work/", "/home/", "TODO", "FIXME", "XXX"];

struct Source {
    /// Below `src/`.
    path: String,
    text: String,
    /// The text with comments and literals blanked out, line for line.
    code: String,
    /// The code without tests; empty in a file of tests.
    shipped: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = blank(text);
        let shipped = without_tests(&code);
        Source { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    fn room(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || place.ends_with('/') && self.path.starts_with(place))
    }
}

/// Problems, each with its line.
type Found = Vec<(usize, String)>;
type Rule = fn(&Source, rooms: &[String]) -> Found;

const RULES: &[Rule] = &[
    size,
    functions,
    intro,
    order,
    stages,
    doors,
    renames,
    unwraps,
    unfinished,
    words,
    unsafes,
    pure,
    config_is_the_shells,
];

fn size(source: &Source, _: &[String]) -> Found {
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX { vec![(lines, format!("{lines} lines in a file"))] } else { Vec::new() }
}

fn functions(source: &Source, _: &[String]) -> Found {
    let code = &source.code;
    let long = words_at(code, "fn").filter_map(|at| {
        let name = code[at + 2..].trim_start();
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return None;
        }
        let lines = code[at..=closing(code, body(code, at)?)?].lines().count();
        (lines > FUNCTION_LINES_MAX).then(|| (line(code, at), format!("{lines} lines in a function")))
    });
    long.collect()
}

fn intro(source: &Source, _: &[String]) -> Found {
    let is_told = source.text.starts_with("//!") || source.path == "main.rs" || source.shipped.is_empty();
    if is_told { Vec::new() } else { vec![(1, "no `//!` that says what the file is for".to_owned())] }
}

fn order(source: &Source, rooms: &[String]) -> Found {
    let place = |room: &str| rooms.iter().position(|known| known == room);
    let Some(own) = place(source.room()) else { return Vec::new() };
    let mut found: Found = uses(&source.shipped)
        .into_iter()
        .filter(|(_, room)| place(room).is_some_and(|other| other > own))
        .map(|(line, room)| (line, format!("{} uses {room}, which stands below it in lib.rs", source.room())))
        .collect();
    // The door of a room must not reach its neighbors by another way.
    if source.path == format!("{}.rs", source.room()) || source.path == format!("{}/mod.rs", source.room()) {
        found.extend(matches(source, "super::").map(|line| (line, "a room names others by `crate::`".to_owned())));
    }
    found
}

fn stages(source: &Source, _: &[String]) -> Found {
    let own = source.room();
    let others = uses(&source.shipped)
        .into_iter()
        .filter(|(_, room)| STAGES.contains(&own) && STAGES.contains(&room.as_str()) && room != own);
    others.map(|(line, room)| (line, format!("stage {own} knows stage {room}"))).collect()
}

fn config_is_the_shells(source: &Source, _: &[String]) -> Found {
    let shell = ["config", "daemon", "cli", "main"].contains(&source.room());
    let named = uses(&source.shipped).into_iter().filter(|(_, room)| room == "config" && !shell);
    named.map(|(line, _)| (line, "a room owns its options, and does not know the configuration".to_owned())).collect()
}

fn doors(source: &Source, _: &[String]) -> Found {
    let mut found = Vec::new();
    for (name, places) in DOORS.iter().filter(|(_, places)| !source.is_in(places)) {
        for at in words_at(&source.shipped, name) {
            let (before, after) = (source.shipped[..at].trim_end(), source.shipped[at + name.len()..].trim_start());
            let is_path = after.starts_with("::") && !before.ends_with("::") || before.ends_with("use");
            if is_path {
                found.push((line(&source.shipped, at), format!("{name} enters only by {}", places.join(" and "))));
            }
        }
    }
    found
}

fn renames(source: &Source, _: &[String]) -> Found {
    let mut found = Vec::new();
    for name in ["rename", "renameat", "renameat_with", "renameat2"] {
        for at in words_at(&source.shipped, name) {
            let is_call = source.shipped[at + name.len()..].starts_with('(');
            if is_call && !source.shipped[..at].ends_with("durable::") && source.path != "durable.rs" {
                found.push((line(&source.shipped, at), "only `durable` renames".to_owned()));
            }
        }
    }
    found
}

fn unwraps(source: &Source, _: &[String]) -> Found {
    matches(source, ".unwrap()").map(|line| (line, "`unwrap()` outside of tests".to_owned())).collect()
}

fn unfinished(source: &Source, _: &[String]) -> Found {
    let marks = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
    let at = |mark| source.code.match_indices(mark).map(move |(at, _)| (line(&source.code, at), format!("`{mark}`")));
    marks.into_iter().flat_map(at).collect()
}

fn words(source: &Source, _: &[String]) -> Found {
    let lines = source.text.lines().enumerate();
    let bad = lines.filter_map(|(at, text)| {
        let lower = text.to_lowercase();
        let word = WORDS.iter().find(|word| text.contains(**word) || word.contains(' ') && lower.contains(**word))?;
        Some((at + 1, format!("{word:?}")))
    });
    bad.collect()
}

fn unsafes(source: &Source, _: &[String]) -> Found {
    let places = words_at(&source.code, "unsafe").filter(|_| !source.is_in(UNSAFE));
    places.map(|at| (line(&source.code, at), "`unsafe` where it is not foreseen".to_owned())).collect()
}

fn pure(source: &Source, _: &[String]) -> Found {
    let tools = ["::now(", "fs::", "env::", "thread::", "rustix::"];
    let found = tools.into_iter().filter(|_| source.is_in(PURE)).flat_map(|tool| {
        matches(source, tool).map(move |line| (line, format!("`{tool}` in a room without I/O and clock")))
    });
    found.collect()
}

fn matches(source: &Source, what: &str) -> impl Iterator<Item = usize> {
    source.shipped.match_indices(what).map(|(at, _)| line(&source.shipped, at))
}

/// Rooms in the order of lib.rs.
fn rooms(lib: &str) -> Vec<String> {
    blank(lib).lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned())).collect()
}

fn read(dir: &Path, below: &str, into: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &format!("{name}/"), into);
        } else if name.ends_with(".rs") {
            into.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Files and directories that are compiled for tests alone: `#[cfg(test)] mod x;`, also with a path.
fn places_of_tests(sources: &[Source]) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources {
        let dir = &source.path[..source.path.rfind('/').map_or(0, |at| at + 1)];
        let below = match source.path.strip_suffix("mod.rs") {
            Some(below) => below.to_owned(),
            None => format!("{}/", source.path.trim_end_matches(".rs")),
        };
        let lines: Vec<&str> = source.text.lines().collect();
        let marks = source.code.lines().enumerate().filter(|(_, line)| line.contains("#[cfg(test)]"));
        for (at, _) in marks {
            let item = lines[at..lines.len().min(at + 3)].join(" ").replacen("#[cfg(test)]", "", 1);
            let (path, item) = match item.trim().strip_prefix("#[path = \"").and_then(|item| item.split_once("\"]")) {
                Some((path, item)) => (Some(path), item),
                None => (None, &*item),
            };
            let item = item.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some((name, _)) = item.strip_prefix("mod ").and_then(|item| item.split_once([';', '{'])) {
                let name = name.trim();
                places.extend([format!("{below}{name}.rs"), format!("{below}{name}/")]);
                places.extend(path.map(|path| format!("{dir}{path}")));
                places.extend(path.map(|path| format!("{dir}{}/", path.trim_end_matches(".rs"))));
            }
        }
    }
    places
}

#[test]
fn the_source_keeps_its_rules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = rooms(&fs::read_to_string(src.join("lib.rs")).unwrap());
    assert!(rooms.len() > 10, "{rooms:?}");
    let mut sources = Vec::new();
    read(&src, "", &mut sources);
    let tests = places_of_tests(&sources);
    let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    for mut source in sources {
        if source.is_in(&tests) {
            source.shipped.clear();
        }
        let found = RULES.iter().flat_map(|rule| rule(&source, &rooms));
        problems.extend(found.map(|(line, what)| format!("src/{}:{line}: {what}", source.path)));
    }
    let mut promises = Vec::new();
    read(&src.with_file_name("tests"), "", &mut promises);
    for source in promises.iter().filter(|source| !source.path.starts_with("tidy")) {
        let found = [size, functions, unfinished, words].into_iter().flat_map(|rule: Rule| rule(source, &rooms));
        problems.extend(found.map(|(line, what)| format!("tests/{}:{line}: {what}", source.path)));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
