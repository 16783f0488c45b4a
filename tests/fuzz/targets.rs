//! What reads files that others may have damaged or made: each target takes any bytes, and tells whether they were
//! something. A target panics when what was read is not the same after it was written and read again.
//!
//! They are run on mutated seeds by `tests/fuzz.rs`, and by libFuzzer in `fuzz/`.

use archiver::{
    archive::{
        index::Index,
        list::{self, MemberList},
        manifest::{self, Head, Member, RangeEnd},
        manifest_io::ManifestReader,
        pack::Mark,
    },
    catalog::{Catalog, NewPass, PackedRow, SegmentRow},
    compress, config,
    encrypt::{Opener, Secret, Unlock},
    name::{Compression, Label, PassId, PieceName, SourceName},
    notice::{Exception, Reason},
    path::SourcePath,
    units::{Bandwidth, ByteSize, Seconds},
    vault::Key,
    window::Window,
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    fmt::{Debug, Display},
    fs,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::OnceLock,
};

pub type Target = fn(&[u8]) -> bool;

pub const TARGETS: &[(&str, Target)] = &[
    ("configuration", configuration),
    ("manifest", manifest),
    ("index", index),
    ("member_list", member_list),
    ("mark", mark),
    ("names", names),
    ("catalog", catalog),
    ("catalog_rows", catalog_rows),
    ("xz", xz),
    ("zstd", zstd),
    ("openpgp", openpgp),
];

/// Most bytes that are unpacked of anything.
const CLEAR_LEN_MAX: u64 = 16 << 20;

/// Anything that is stored as JSON is the same after it was stored and read again.
fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).unwrap();
    let read: T = serde_json::from_slice(&text).unwrap_or_else(|err| panic!("{err}: {value:?}"));
    assert_eq!(read, *value);
}

/// What is written for people and files is read back as the same.
fn spelled<T: FromStr<Err: Debug> + PartialEq + Debug>(text: &str, spell: impl Fn(&T) -> String) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    let spelling = spell(&value);
    assert_eq!(spelling.parse::<T>().unwrap_or_else(|err| panic!("{spelling:?}: {err:?}")), value);
    true
}

pub fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let file = Path::new("/etc/archiver.toml");
    match config::parse(text, file) {
        // Its URL is shown to nobody, and so cannot be read again.
        Ok(settings) if settings.heartbeat.is_some() => !settings.effective().is_empty(),
        Ok(settings) => {
            let effective = settings.effective();
            let again = config::parse(&effective, file).unwrap_or_else(|err| panic!("{err}\n{effective}"));
            assert_eq!(again.effective(), effective);
            true
        }
        Err(err) => {
            assert!(!err.problems().is_empty() && !err.to_string().is_empty());
            false
        }
    }
}

pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(mut reader) = ManifestReader::new(Cursor::new(bytes)) else { return false };
    again::<Head>(reader.head());
    for member in &mut reader {
        let Ok(member) = member else { return false };
        check_member(&member);
    }
    let range = reader.range_end().expect("a manifest that was read to its end without an error has one");
    again::<RangeEnd>(range);
    let mut counts = range.counts.clone();
    counts.adds_up();
    counts.add(&range.counts);
    for exception in range.exceptions.iter().filter_map(manifest::ExceptionLine::exception) {
        assert_eq!(manifest::ExceptionLine::from(&exception).exception(), Some(exception));
    }
    true
}

pub fn index(bytes: &[u8]) -> bool {
    let Ok(index) = Index::read(bytes) else { return false };
    let mut text = Vec::new();
    index.write(&mut text).unwrap();
    assert_eq!(Index::read(&text[..]).unwrap_or_else(|err| panic!("{err}: {index:?}")), index);
    for piece in &index.pieces {
        let (first, last) = piece.ends().expect("an index that was read has them");
        check_path(&first);
        check_path(&last);
    }
    index.counts.adds_up();
    true
}

fn check_member(member: &Member) {
    again(member);
    if let Some(path) = member.source_path() {
        check_path(&path);
    }
    for text in [&member.mtime, &member.ctime] {
        if let Some(stamp) = manifest::parse_rfc3339(text) {
            assert_eq!(manifest::parse_rfc3339(&manifest::rfc3339(stamp)), Some(stamp), "{text:?}");
        }
    }
}

fn check_path(path: &SourcePath) {
    again(path);
    assert_eq!(SourcePath::from_order_key(&path.order_key()).as_ref(), Ok(path));
    assert_eq!(SourcePath::parse(path.as_bytes()).as_ref(), Ok(path));
    assert!(!path.display().contains(char::is_control));
}

/// A list is sealed by two digests, which rubbish never meets: they are put right first, where there is one.
pub fn member_list(bytes: &[u8]) -> bool {
    let members = list::members(bytes).map_while(Result::ok).inspect(check_member).count();
    let file = Scratch::new("list");
    let is_open = |bytes: &[u8]| {
        fs::write(&file.0, bytes).unwrap();
        let Ok((packed, mut lines)) = MemberList::open(&file.0) else { return false };
        again(&packed);
        let mut clear = Vec::new();
        lines.read_to_end(&mut clear).expect("the list was found whole");
        true
    };
    is_open(bytes) | is_open(&resealed(bytes)) | (members > 0)
}

/// `{"packed":{…},"sha256":"…"}`, the first digest being that of all lines before, the second that of the record.
pub fn resealed(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let (lines, last) = text.trim_end_matches('\n').rsplit_once('\n').unwrap_or(("", &text));
    let lines = if lines.is_empty() { String::new() } else { format!("{lines}\n") };
    let record = last.trim_start_matches("{\"packed\":");
    let record = record.rsplit_once(",\"sha256\":\"").map_or(record, |(record, _)| record);
    let hex = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let record = match record.split_once("\"list_sha256\":\"") {
        Some((head, tail)) => {
            let tail = tail.split_once('"').map_or("", |(_, tail)| tail);
            format!("{head}\"list_sha256\":\"{}\"{tail}", hex(&lines))
        }
        None => record.to_owned(),
    };
    format!("{lines}{{\"packed\":{record},\"sha256\":\"{}\"}}\n", hex(&record)).into_bytes()
}

pub fn mark(bytes: &[u8]) -> bool {
    let Ok(mark) = serde_json::from_slice::<Mark>(bytes) else { return false };
    again(&mark);
    if let Some(path) = mark.place() {
        check_path(&path);
    }
    true
}

/// Every line as a name, a path, a size and so on.
pub fn names(bytes: &[u8]) -> bool {
    fn plain<T: Display>(value: &T) -> String {
        value.to_string()
    }
    let mut found = false;
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(path) = SourcePath::parse(line) {
            check_path(&path);
            again(&Label::of(&path, &SourcePath::root()));
        }
        let Ok(text) = std::str::from_utf8(line) else { continue };
        found |=
            spelled::<PieceName>(text, plain) | spelled::<PassId>(text, plain) | spelled::<SourceName>(text, plain);
        found |= spelled::<Label>(text, plain) | spelled::<Key>(text, |key| key.as_str().to_owned());
        found |= spelled::<ByteSize>(text, |size| size.exact()) | spelled::<Seconds>(text, |time| time.exact());
        found |= spelled::<Bandwidth>(text, |width| width.exact());
        if let Ok(window) = Window::parse(&[text.to_owned()]) {
            assert!((1..=7 * 24 * 60).contains(&window.open_minutes()) && !window.to_string().is_empty());
            found = true;
        }
        if let Some(stamp) = manifest::parse_rfc3339(text) {
            assert_eq!(manifest::parse_rfc3339(&manifest::rfc3339(stamp)), Some(stamp), "{text:?}");
        }
    }
    found
}

/// A damaged catalog is told as such, or what is in it can be read: row by row, whatever became of it.
pub fn catalog(bytes: &[u8]) -> bool {
    let file = Scratch::new("catalog");
    fs::write(&file.0, bytes).unwrap();
    is_read(&file.0)
}

/// Lines of `table.column=value`: what is put there past all the checks of the program.
pub fn catalog_rows(bytes: &[u8]) -> bool {
    static SEED: OnceLock<Vec<u8>> = OnceLock::new();
    let file = Scratch::new("rows");
    let seed = SEED.get_or_init(|| {
        seed_catalog(&file.0);
        fs::read(&file.0).unwrap()
    });
    fs::write(&file.0, seed).unwrap();
    let conn = rusqlite::Connection::open(&file.0).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON")
        .unwrap();
    let mut is_changed = false;
    for line in String::from_utf8_lossy(bytes).lines() {
        let Some((cell, value)) = line.split_once('=') else { continue };
        let Some((table, column)) = cell.split_once('.') else { continue };
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_blob = matches!(column, "first" | "last" | "position" | "path");
        if is_word(table) && is_word(column) {
            let set = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = (SELECT max(rowid) FROM {table})");
            let done = if is_blob { conn.execute(&set, [value.as_bytes()]) } else { conn.execute(&set, [value]) };
            is_changed |= done.is_ok_and(|rows| rows > 0);
        }
    }
    drop(conn);
    is_read(&file.0) && is_changed
}

/// Whether a catalog can be opened and told; where it can, all of it must be good for use.
fn is_read(file: &Path) -> bool {
    let Ok(catalog) = Catalog::open_read_only(file) else { return false };
    let Ok(passes) = catalog.passes(None) else { return false };
    let mut is_whole = true;
    for pass in &passes {
        let pieces = catalog.pieces(&pass.source, pass.pass);
        is_whole &= pieces.is_ok();
        for piece in pieces.unwrap_or_default() {
            check_path(&piece.packed.first);
            again(&piece.packed);
        }
        is_whole &= catalog.totals(&pass.source, pass.pass).is_ok();
        is_whole &= catalog.exceptions(&pass.source, pass.pass).is_ok();
        is_whole &= catalog.resume_point(&pass.source, pass.pass).is_ok();
        is_whole &= catalog.next_seq(&pass.source, pass.pass).is_ok();
    }
    is_whole & catalog.undelivered().is_ok() & catalog.to_repack().is_ok() & catalog.uploads().is_ok()
}

/// A catalog with a row of each kind.
pub fn seed_catalog(file: &Path) {
    let path = |text: &str| SourcePath::parse(text.as_bytes()).unwrap();
    let (source, pass): (SourceName, PassId) = ("data".parse().unwrap(), "20261120T200000Z".parse().unwrap());
    let catalog = Catalog::open(file).unwrap();
    let new = NewPass {
        source: source.clone(),
        pass,
        host: "nas1".to_owned(),
        source_id: "data".to_owned(),
        filter_sha256: "f".repeat(64),
    };
    catalog.begin_pass(&new).unwrap();
    let segment = SegmentRow { index: 1, count: 3, offset: 0, len: 100, file_size: 300 };
    for (seq, first, segment) in [(1, "a", None), (2, "b/c", Some(segment))] {
        let row = PackedRow {
            name: PieceName { source: source.clone(), pass, seq, label: Some(Label::of(&path(first), &path("z"))) },
            first: path(first),
            last: path("z"),
            position: path("z"),
            segment,
            segment_state: None,
            members: 9,
            tar_size: 10_240,
            tar_sha256: "1".repeat(64),
            counts: "{}".to_owned(),
            seen: 10,
            archived: 8,
            lost: 1,
            replaces: None,
            packed_at: pass.started(),
        };
        let detail = "Permission denied".to_owned();
        let lost = Exception { path: path("a/b"), reason: Reason::Denied, errno: Some(13), detail };
        catalog.add_packed(&row, &[lost]).unwrap();
    }
    catalog.save_upload("nas1/data/x.tar", "{}").unwrap();
}

pub fn xz(bytes: &[u8]) -> bool {
    unpacked(Compression::Xz, bytes)
}

pub fn zstd(bytes: &[u8]) -> bool {
    unpacked(Compression::Zstd, bytes)
}

fn unpacked(method: Compression, bytes: &[u8]) -> bool {
    let Ok(reader) = compress::reader(method, Cursor::new(bytes.to_vec())) else { return false };
    io::copy(&mut reader.take(CLEAR_LEN_MAX), &mut io::sink()).is_ok()
}

pub fn openpgp(bytes: &[u8]) -> bool {
    let opener = Opener::open(&Unlock::Passphrase(Secret::new(b"a passphrase of fuzzing".to_vec()))).unwrap();
    opener.decrypt(&mut Cursor::new(bytes), &mut io::sink()).is_ok()
}

/// A file that goes away, with what SQLite leaves beside it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Scratch(dir.join(format!("archiver-fuzz-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.clone().into_os_string();
            path.push(end);
            let _ = fs::remove_file(path);
        }
    }
}
