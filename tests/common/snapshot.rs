//! What a tree is, as stock tools see it: `find`, `sha256sum`, `getfattr`, `getfacl` and `stat`.

use super::{World, os, path_of, shown};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// As `find` calls it: `f`, `d`, `l`, `p`, `s`, `b`, `c`.
    pub kind: String,
    /// Octal.
    pub mode: String,
    pub owner: String,
    /// Of a directory nothing: it depends on the filesystem.
    pub size: String,
    /// RFC 3339 in UTC, with ten digits behind the point as `find` writes them.
    pub mtime: String,
    pub link: Vec<u8>,
    /// Of a device its number; of a file with content the SHA-256 of it.
    pub content: String,
    pub xattrs: String,
    pub acl: String,
    /// Device and inode; compared only as a relation between entries.
    pub inode: String,
}

/// By path relative to the tree; the root is the empty path.
pub type Snapshot = BTreeMap<Vec<u8>, Seen>;

const FORMAT: &str = r"%P\0%y\0%m\0%U:%G\0%s\0%TY-%Tm-%TdT%TH:%TM:%TS\0%l\0%D:%i\0";
const FIELDS: usize = 8;

pub fn snapshot(dir: &Path) -> Snapshot {
    let found = script(dir, &format!("find . -printf '{FORMAT}'"));
    let fields: Vec<&[u8]> = found.split(|b| *b == 0).collect();
    let mut all = Snapshot::new();
    for entry in fields.chunks_exact(FIELDS) {
        let text = |at: usize| String::from_utf8(entry[at].to_vec()).unwrap();
        let size = if entry[1] == b"d" { String::new() } else { text(4) };
        let seen = Seen {
            kind: text(1),
            mode: text(2),
            owner: text(3),
            size,
            mtime: text(5),
            link: entry[6].to_vec(),
            inode: text(7),
            ..Seen::default()
        };
        assert!(all.insert(entry[0].to_vec(), seen).is_none(), "find told {} twice", shown(entry[0]));
    }
    for line in records(&script(dir, "find . -type f -print0 | xargs -0 -r sha256sum -z --")) {
        let (sum, path) = line.split_at(64);
        of(&mut all, &path[2..]).content = String::from_utf8(sum.to_vec()).unwrap();
    }
    for line in
        records(&script(dir, r"find . \( -type b -o -type c \) -print0 | xargs -0 -r stat --printf '%t:%T %n\0' --"))
    {
        let at = line.iter().position(|b| *b == b' ').unwrap();
        of(&mut all, &line[at + 1..]).content = String::from_utf8(line[..at].to_vec()).unwrap();
    }
    let xattrs = script(dir, "find . -print0 | xargs -0 getfattr -h -d -m - -e hex --");
    for (path, text) in blocks(&xattrs) {
        of(&mut all, &path).xattrs = text;
    }
    let acls = script(dir, "find . ! -type l -print0 | xargs -0 getfacl -n -p --");
    for (path, text) in blocks(&acls) {
        of(&mut all, &path).acl = text;
    }
    all
}

fn of<'a>(all: &'a mut Snapshot, path: &[u8]) -> &'a mut Seen {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = if path == b"." { b"" } else { path };
    all.get_mut(path).unwrap_or_else(|| panic!("find did not tell {}", shown(path)))
}

fn script(dir: &Path, script: &str) -> Vec<u8> {
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("set -eu -o pipefail; {script}")])
        .current_dir(dir)
        // Known from here: in a tree of another system the shell cannot find out where it is.
        .env("PWD", dir)
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}");
    output.stdout
}

fn records(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|b| *b == 0).filter(|record| !record.is_empty()).map(<[u8]>::to_vec).collect()
}

/// `# file: NAME`, lines, an empty line; as getfattr and getfacl write. The lines are sorted.
fn blocks(text: &[u8]) -> Vec<(Vec<u8>, String)> {
    // Names need not be UTF-8: one character for each byte.
    let text: String = text.iter().copied().map(char::from).collect();
    let whole = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let parse = |block: &str| {
        let (name, lines) = block.trim_start().split_once('\n').unwrap_or((block, ""));
        let mut lines: Vec<&str> = lines.lines().collect();
        lines.sort_unstable();
        let name: Vec<u8> = name.strip_prefix("# file: ").expect(name).chars().map(|c| c as u8).collect();
        (unescape(&name), lines.join("\n"))
    };
    whole.map(parse).collect()
}

/// Octal escapes back into bytes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                plain.push(code);
                rest = &after[3..];
            }
            (b'\\', None) if after.first() == Some(&b'\\') => {
                plain.push(b'\\');
                rest = &after[1..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// Where the trees differ, in `paths`. What both call one file must be one file in both; `piece` tells which entries
/// may share an inode, as hard links hold within one piece only.
pub fn differences(
    source: &Snapshot,
    restored: &Snapshot,
    paths: &BTreeSet<Vec<u8>>,
    piece: &BTreeMap<Vec<u8>, String>,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for path in paths {
        match (source.get(path), restored.get(path)) {
            (Some(a), Some(b)) => found.extend(fields(a, b).map(|what| format!("{}: {what}", shown(path)))),
            (Some(_), None) => found.push(format!("{}: missing", shown(path))),
            (None, _) => found.push(format!("{}: not in the source", shown(path))),
        }
    }
    let more = restored.keys().filter(|path| !paths.contains(*path));
    found.extend(more.map(|path| format!("{}: should not be there", shown(path))));
    let links = |tree: &Snapshot, with_piece: bool| {
        let mut groups: BTreeMap<(String, String), BTreeSet<Vec<u8>>> = BTreeMap::new();
        for (path, seen) in tree.iter().filter(|(path, seen)| paths.contains(*path) && seen.kind != "d") {
            let piece = piece.get(path).filter(|_| with_piece).cloned().unwrap_or_default();
            groups.entry((piece, seen.inode.clone())).or_default().insert(path.clone());
        }
        groups.into_values().filter(|group| group.len() > 1).collect::<BTreeSet<_>>()
    };
    let (a, b) = (links(source, true), links(restored, false));
    found.extend(a.symmetric_difference(&b).map(|group| {
        let names: Vec<String> = group.iter().map(|path| shown(path)).collect();
        format!("hard links differ: {}", names.join(", "))
    }));
    found
}

fn fields(a: &Seen, b: &Seen) -> impl Iterator<Item = String> {
    let link = |seen: &Seen| shown(&seen.link);
    let pairs = [
        ("kind", a.kind.clone(), b.kind.clone()),
        ("mode", a.mode.clone(), b.mode.clone()),
        ("owner", a.owner.clone(), b.owner.clone()),
        ("size", a.size.clone(), b.size.clone()),
        ("mtime", a.mtime.clone(), b.mtime.clone()),
        ("link", link(a), link(b)),
        ("content", a.content.clone(), b.content.clone()),
        ("xattrs", a.xattrs.clone(), b.xattrs.clone()),
        ("acl", a.acl.clone(), b.acl.clone()),
    ];
    pairs.into_iter().filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name} was {a}, is {b}"))
}

/// Where what pieces of the world's vault hold differs from the source, sockets aside: each is opened with stock tools,
/// all into one directory.
pub fn differences_of_pieces(world: &World, keys: &[String], source: &Snapshot, dir: &Path) -> Vec<String> {
    let mut piece = BTreeMap::new();
    for key in keys {
        let tar = world.open_piece_alone(key, dir);
        fs::remove_file(tar).unwrap();
        piece.extend(world.manifest(key).members.iter().map(|member| (path_of(member), key.clone())));
    }
    let paths = source.iter().filter(|(_, seen)| seen.kind != "s").map(|(path, _)| path.clone()).collect();
    differences(source, &snapshot(dir), &paths, &piece)
}

/// The first differences as one text.
pub fn told(found: &[String]) -> String {
    let mut text = format!("{} differences", found.len());
    for line in found.iter().take(20) {
        let _ = write!(text, "\n{line}");
    }
    text
}

/// A path of the tree as the system takes it.
pub fn name(path: &[u8]) -> OsString {
    os(path)
}
