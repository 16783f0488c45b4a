//! Archives that lie, with manifests that lie the same: nothing is ever outside of the directory.

use super::*;
use crate::archive::{
    entry::{Meta, Stamp},
    header::{Body, END_LEN, Spec, padded, plain_dir},
    manifest::{Head, RangeEnd, rfc3339, split},
};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

/// The first line of the manifest that is kept as an example.
const EXAMPLE: &str = include_str!("../../tests/testdata/v1/manifest.jsonl");

#[derive(serde::Serialize, serde::Deserialize)]
struct First {
    piece: Head,
}

#[derive(serde::Serialize)]
struct Last {
    range: RangeEnd,
}

struct Place {
    dir: tempfile::TempDir,
}

/// Everything that lies in it, but not what is in `in`.
fn outside(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.dir.path()).unwrap();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().file_name().into()).collect();
    names.extend(fs::read_dir(place.dir.path().join("outside")).unwrap().map(|entry| entry.unwrap().path()));
    names.sort();
    names
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.dir.path().join("outside")).unwrap();
        fs::write(place.dir.path().join("secret"), "secret").unwrap();
        fs::create_dir(place.target()).unwrap();
        place
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    /// Unpacks these members as one piece each time. What was told of entries, and how each piece ended.
    fn unpack(&self, pieces: &[&[(&str, Body<'_>)]], overwrite: bool) -> (Vec<String>, Vec<String>) {
        let (mut told, mut ends) = (Vec::new(), Vec::new());
        let selection = Selection::new(vec![SourcePath::root()]);
        let mut tell = |path: &SourcePath, wrong: &Wrong| told.push(format!("{}: {wrong}", path.display()));
        let target = Target::open(&self.target(), overwrite).unwrap();
        let mut unpacker = Unpacker::new(target, &selection, overwrite, &mut tell);
        for members in pieces {
            let (tar, manifest) = piece(members);
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), manifest).unwrap();
            ends.push(match unpacker.piece(tar.as_slice(), file.path()) {
                Ok(()) => String::new(),
                Err(err) => crate::fate::Chain(&err).to_string(),
            });
        }
        unpacker.finish().unwrap();
        (told, ends)
    }
}

fn meta(body: &Body<'_>) -> Meta {
    let kind = match body {
        Body::Dir => Kind::Dir,
        Body::File { .. } | Body::Sparse { .. } | Body::HardLink(_) => Kind::File,
        Body::Symlink(_) => Kind::Symlink,
        Body::Fifo => Kind::Fifo,
        Body::CharDevice => Kind::CharDevice,
        Body::BlockDevice => Kind::BlockDevice,
    };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { kind, mode: 0o755, uid, gid, mtime: Stamp { sec: 9, nsec: 0 }, ..plain_dir() }
}

/// A tar and its manifest, of files that hold `x`.
fn piece(members: &[(&str, Body<'_>)]) -> (Vec<u8>, Vec<u8>) {
    let (mut tar, mut lines) = (Vec::new(), Vec::new());
    let mut head: First = serde_json::from_str(EXAMPLE.lines().next().unwrap()).unwrap();
    head.piece.members = members.len() as u64;
    serde_json::to_writer(&mut lines, &head).unwrap();
    for (name, body) in members {
        let meta = meta(body);
        let spec = Spec { name: name.as_bytes(), meta: &meta, body: *body, user: "", group: "", xattrs: &[] };
        let (path, path_b64) = split(name.as_bytes());
        let (link, note) = match body {
            Body::Symlink(link) => (Some(link), None),
            Body::HardLink(link) => (Some(link), Some(note::HARDLINK.to_owned())),
            _ => (None, None),
        };
        let sha256 =
            matches!(body, Body::File { .. }).then(|| crate::archive::pack::hex(Sha256::new().chain_update("x")));
        let line = Member {
            path,
            path_b64,
            r#type: meta.kind.as_str().to_owned(),
            size: spec.data_len(),
            mtime: rfc3339(meta.mtime),
            ctime: rfc3339(meta.mtime),
            mode: format!("{:04o}", meta.mode),
            uid: meta.uid,
            gid: meta.gid,
            nlink: 2,
            link: link.map(|link| String::from_utf8(link.to_vec()).unwrap()),
            sha256,
            offset: tar.len() as u64,
            note,
            ..Member::default()
        };
        lines.push(b'\n');
        serde_json::to_writer(&mut lines, &line).unwrap();
        tar.extend(spec.build());
        if let Body::File { .. } = body {
            tar.push(b'x');
        }
        tar.resize(padded(tar.len() as u64) as usize, 0);
    }
    lines.push(b'\n');
    serde_json::to_writer(&mut lines, &Last { range: RangeEnd::default() }).unwrap();
    lines.push(b'\n');
    tar.resize(tar.len() + END_LEN as usize, 0);
    let mut manifest = Vec::new();
    let mut writer = crate::compress::zstd_writer(&mut manifest).unwrap();
    std::io::Write::write_all(&mut writer, &lines).unwrap();
    writer.finish().unwrap();
    (tar, manifest)
}

const X: Body<'_> = Body::File { len: 1 };

#[test]
fn an_honest_piece_is_unpacked() {
    let place = Place::new();
    let honest: &[(&str, Body<'_>)] = &[
        ("./", Body::Dir),
        ("a", X),
        ("b", Body::Dir),
        ("b/c", Body::HardLink(b"a")),
        ("b/d", Body::Symlink(b"../../secret")),
        ("b/e", Body::Fifo),
    ];
    assert_eq!(place.unpack(&[honest], false), (vec![], vec![String::new()]));
    assert_eq!(fs::read(place.target().join("b/c")).unwrap(), b"x");
    assert_eq!(fs::read_link(place.target().join("b/d")).unwrap(), PathBuf::from("../../secret"));
}

#[test]
fn no_name_leads_outside() {
    for name in ["../evil", "/evil", "a/../../evil", "./../evil", "..", "a/./b", "a//b", "b/", ""] {
        let place = Place::new();
        let before = outside(&place);
        let (_, ends) = place.unpack(&[&[(name, X)]], true);
        assert!(!ends[0].is_empty(), "{name}");
        assert_eq!((outside(&place), fs::read_dir(place.target()).unwrap().count()), (before, 0), "{name}");
    }
}

#[test]
fn no_link_leads_outside() {
    let place = Place::new();
    let target = place.dir.path().join("outside");
    let link = Body::Symlink(target.to_str().unwrap().as_bytes());
    let before = outside(&place);
    for overwrite in [false, true] {
        // A link, then a file below it; in one piece, and planted by one for the next.
        let (told, _) = place.unpack(&[&[("a", link), ("a/evil", X)]], overwrite);
        assert!(told.iter().any(|told| told.starts_with("a/evil: ")), "{told:?}");
        let (told, _) = place.unpack(&[&[("b", link)], &[("b/evil", X), ("b/f", Body::Fifo)]], overwrite);
        assert!(told.iter().filter(|told| told.starts_with("b/")).count() == 2, "{told:?}");
        // A link where a directory is to be, and the other way round.
        // A link where a directory is to be: no manifest names a path twice.
        let (told, ends) = place.unpack(&[&[("c", link), ("c", Body::Dir), ("c/evil", X)]], overwrite);
        assert!(!told.is_empty() || !ends[0].is_empty());
        assert_eq!(outside(&place), before);
    }
}

#[test]
fn a_hard_link_is_another_name_of_what_came_in_this_piece_only() {
    let place = Place::new();
    symlink("../secret", place.target().join("planted")).unwrap();
    fs::write(place.target().join("mine"), "mine").unwrap();
    for original in ["../secret", "/etc/passwd", "planted", "mine", "later", "evil"] {
        let (told, ends) = place.unpack(&[&[("evil", Body::HardLink(original.as_bytes())), ("later", X)]], true);
        assert!(!ends[0].is_empty() || told.iter().any(|told| told.starts_with("evil: ")), "{original}: {told:?}");
        assert!(!place.target().join("evil").exists(), "{original}");
    }
    assert_eq!(fs::read(place.dir.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn nothing_is_written_through_what_is_there() {
    let place = Place::new();
    let mine = place.dir.path().join("outside/mine");
    fs::write(&mine, "mine").unwrap();
    fs::hard_link(&mine, place.target().join("a")).unwrap();
    symlink(&mine, place.target().join("b")).unwrap();
    let (told, _) = place.unpack(&[&[("a", X), ("b", X)]], false);
    assert_eq!(told.len(), 2, "{told:?}");
    let (told, _) = place.unpack(&[&[("a", X), ("b", X)]], true);
    assert_eq!((told, fs::read(&mine).unwrap()), (vec![], b"mine".to_vec()));
    assert_eq!(fs::read(place.target().join("b")).unwrap(), b"x");
}

#[test]
fn a_tar_that_its_manifest_does_not_know_is_refused() {
    let place = Place::new();
    let selection = Selection::new(vec![SourcePath::root()]);
    let (tar, _) = piece(&[("a", X), ("c", X)]);
    for other in
        [&[("a", X), ("b", X)][..], &[("a", X)], &[("a", X), ("c", X), ("d", X)], &[("a", X), ("c", Body::Fifo)]]
    {
        let (_, manifest) = piece(other);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), manifest).unwrap();
        let mut tell = |_: &SourcePath, _: &Wrong| {};
        let target = Target::open(&place.target(), true).unwrap();
        let mut unpacker = Unpacker::new(target, &selection, true, &mut tell);
        let ended = unpacker.piece(tar.as_slice(), file.path());
        assert!(matches!(ended, Err(UnpackError::Disagree(_))), "{ended:?}");
    }
}

#[test]
fn content_that_is_not_what_was_archived_gets_no_name() {
    let place = Place::new();
    let (mut tar, manifest) = piece(&[("a", X), ("b", X)]);
    let at = tar.iter().position(|byte| *byte == b'x').unwrap();
    let at = if tar[at + 1] == 0 { at } else { panic!("the first x is content") };
    tar[at] = b'y';
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), manifest).unwrap();
    let selection = Selection::new(vec![SourcePath::root()]);
    let mut told = Vec::new();
    let mut tell = |path: &SourcePath, wrong: &Wrong| told.push((path.display(), wrong.clone()));
    let mut unpacker = Unpacker::new(Target::open(&place.target(), false).unwrap(), &selection, false, &mut tell);
    unpacker.piece(tar.as_slice(), file.path()).unwrap();
    let outcome = unpacker.finish().unwrap();
    assert_eq!((outcome.came, outcome.wrong, told), (1, 1, vec![("a".to_owned(), Wrong::Damaged)]));
    assert!(!place.target().join("a").exists() && place.target().join("b").exists());
}
