use super::*;

fn meta(kind: Kind, size: u64) -> Meta {
    Meta { kind, size, mode: 0o644, mtime: Stamp { sec: 1, nsec: 0 }, ..plain_dir() }
}

fn spec<'a>(name: &'a [u8], meta: &'a Meta, body: Body<'a>) -> Spec<'a> {
    Spec { name, meta, body, user: "root", group: "root", xattrs: &[] }
}

/// The pax records of a header, as text.
fn records(spec: &Spec) -> String {
    let text = String::from_utf8_lossy(&spec.records()).into_owned();
    // Each record begins with its own length.
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let len: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(rest.as_bytes()[len - 1], b'\n');
        rest = &rest[len..];
    }
    text
}

#[test]
fn ustar_holds_all_that_it_can() {
    let plain = meta(Kind::File, OCTAL_11_MAX);
    let long = [b"p".repeat(155), b"n".repeat(100)].join(&b'/');
    for name in [b"a".as_slice(), &b"n".repeat(100), &long, b"\xff raw", b"new\nline"] {
        assert_eq!(records(&spec(name, &plain, Body::File { len: plain.size })), "");
    }
    for (name, body) in [
        ("é".as_bytes(), Body::Fifo),
        (&b"n".repeat(101), Body::Fifo),
        (&[b"p".repeat(156), b"n".repeat(100)].join(&b'/'), Body::Fifo),
        // The slash at the end counts as well.
        (&[b"p".repeat(155), b"n".repeat(100)].join(&b'/'), Body::Dir),
        (b"a", Body::Symlink(&b"t".repeat(101))),
        (b"a", Body::HardLink("é".as_bytes())),
        (b"a", Body::File { len: OCTAL_11_MAX + 1 }),
    ] {
        assert_ne!(records(&spec(name, &plain, body)), "", "{:?}", String::from_utf8_lossy(name));
    }
    for meta in [
        Meta { uid: 0o1000_0000, ..plain.clone() },
        Meta { gid: u32::MAX, ..plain.clone() },
        Meta { mtime: Stamp { sec: -1, nsec: 0 }, ..plain.clone() },
        Meta { mtime: Stamp { sec: 0, nsec: 1 }, ..plain.clone() },
        Meta { mtime: Stamp { sec: 1 << 33, nsec: 0 }, ..plain.clone() },
    ] {
        assert_ne!(records(&spec(b"a", &meta, Body::Fifo)), "", "{meta:?}");
    }
}

#[test]
fn times_are_decimal_numbers() {
    let check = |sec, nsec, text: &str| assert_eq!(decimal(Stamp { sec, nsec }), text);
    check(0, 0, "0");
    check(1, 500_000_000, "1.5");
    check(10, 0, "10");
    check(7, 1, "7.000000001");
    check(-1, 500_000_000, "-0.5");
    check(-2, 250_000_000, "-1.75");
    check(-10, 0, "-10");
    check(i64::MIN, 0, "-9223372036854775808");
}

#[test]
fn a_record_counts_its_own_length() {
    for len in 0..2000 {
        let mut out = Vec::new();
        record(&mut out, b"k", &vec![b'v'; len]);
        assert!(out.starts_with(format!("{} k=", out.len()).as_bytes()), "{len}");
    }
}

#[test]
fn nothing_becomes_root_for_readers_without_pax() {
    let meta = Meta { uid: u32::MAX - 1, gid: 0o1000_0000, ..meta(Kind::File, 0) };
    let header = spec(b"a", &meta, Body::Fifo).ustar_header();
    assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (NOBODY, NOBODY));
}

#[test]
fn a_cut_name_never_ends_in_a_slash() {
    let name = [&b"n".repeat(99)[..], b"/", &b"m".repeat(255)].concat();
    let meta = meta(Kind::File, 0);
    let header = spec(&name, &meta, Body::File { len: 0 }).ustar_header();
    assert_eq!(&*header.path_bytes(), b"n".repeat(99));
}

#[test]
fn an_ancestor_takes_no_more_than_said() {
    let late = Meta { uid: u32::MAX, mtime: Stamp { sec: 4_000_000_000, nsec: 999_999_999 }, ..plain_dir() };
    for name in ["", "a", &"n".repeat(255), &["é".repeat(100), "b".repeat(255)].join("/"), &"d/".repeat(2000)] {
        let path = SourcePath::parse(name.as_bytes()).unwrap();
        let name = member_name(&path);
        assert!(ancestor(&path) >= spec(&name, &late, Body::Dir).header_len());
    }
}

#[test]
fn a_socket_takes_nothing() {
    let entry = Entry { path: SourcePath::parse(b"s").unwrap(), meta: meta(Kind::Socket, 0) };
    assert_eq!(estimate(&entry), 0);
}

/// A member beyond 8 GiB is written sparsely into a file, between two small ones; every reader finds the last.
#[test]
fn members_beyond_8_gib_are_found_by_every_reader() {
    use std::{fs::File, os::unix::fs::FileExt, process::Command};
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("large.tar");
    let file = File::create(&tar).unwrap();
    let mut at = 0;
    for (name, len) in [("first", 3), ("large", (9 << 30) + 1), ("last", 5)] {
        let meta = meta(Kind::File, len);
        let spec = spec(name.as_bytes(), &meta, Body::File { len });
        let blocks = spec.build();
        assert_eq!(blocks.len() as u64, spec.header_len());
        file.write_all_at(&blocks, at).unwrap();
        at += blocks.len() as u64 + padded(len);
    }
    file.set_len(at + END_LEN).unwrap();
    let list = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(&tar).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list("tar", &["-tf"]), "first\nlarge\nlast\n");
    assert_eq!(list("bsdtar", &["-tf"]), "first\nlarge\nlast\n");
    let script = "import sys, tarfile\nfor m in tarfile.open(sys.argv[1], 'r:'): print(m.name, m.size)";
    assert_eq!(list("python3", &["-c", script]), "first 3\nlarge 9663676417\nlast 5\n");
}
