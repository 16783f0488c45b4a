use super::*;
use crate::archive::{
    entry::Meta,
    header::{Body, END_LEN, Spec, plain_dir},
};

fn meta(kind: Kind) -> Meta {
    Meta { kind, mode: 0o4751, uid: 7, gid: 8, mtime: Stamp { sec: 5, nsec: 0 }, ..plain_dir() }
}

fn spec<'a>(name: &'a [u8], meta: &'a Meta, body: Body<'a>) -> Spec<'a> {
    Spec { name, meta, body, user: "root", group: "root", xattrs: &[] }
}

/// A tar of this member, its data zeros.
fn tar(spec: &Spec<'_>) -> Vec<u8> {
    let mut bytes = spec.build();
    bytes.resize(bytes.len() + (padded(spec.data_len()) + END_LEN) as usize, 0);
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<TarMember>, TarError> {
    let mut reader = TarReader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.next_member()? {
        found.push(member);
    }
    Ok(found)
}

fn why(bytes: &[u8]) -> String {
    match read(bytes) {
        Err(TarError::Foreign { why, .. }) => why.to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let long = [b"d".repeat(200), b"n".repeat(200)].join(&b'/');
    for name in [b"a".as_slice(), b"a/b", "d/é".as_bytes(), b"\xff\xfe", b"new\nline=x", &long] {
        for (kind, body) in [
            (Kind::Dir, Body::Dir),
            (Kind::File, Body::File { len: 1000 }),
            (Kind::File, Body::Sparse { stored: 1024, real: 1 << 40 }),
            (Kind::Symlink, Body::Symlink(&long)),
            (Kind::File, Body::HardLink(b"other \xff")),
            (Kind::Fifo, Body::Fifo),
            (Kind::CharDevice, Body::CharDevice),
            (Kind::BlockDevice, Body::BlockDevice),
        ] {
            let meta = Meta { rdev: rustix::fs::makedev(300_000, 70_000), ..meta(kind) };
            let spec = spec(name, &meta, body);
            let found = read(&tar(&spec)).unwrap().remove(0);
            assert_eq!(found.name, name);
            assert_eq!((found.kind, found.stored, found.mode), (kind, spec.data_len(), 0o4751));
            assert_eq!((found.uid, found.gid, found.mtime), (7, 8, meta.mtime));
            assert_eq!(found.is_hard_link, matches!(body, Body::HardLink(_)));
            if let Body::Symlink(link) | Body::HardLink(link) = body {
                assert_eq!(found.link, link);
            }
            if let Body::Sparse { real, .. } = body {
                assert_eq!(found.size(), real);
            }
            let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            assert_eq!(found.rdev, if is_device { meta.rdev } else { 0 });
        }
    }
    assert_eq!(read(&tar(&spec(b"./", &meta(Kind::Dir), Body::Dir))).unwrap()[0].name, b"./");
}

#[test]
fn numbers_that_no_field_holds_are_read() {
    for (sec, nsec) in [(0, 0), (-1, 0), (-1, 1), (-2, 999_999_999), (1 << 40, 5), (i64::MIN + 1, 7), (i64::MAX, 0)] {
        let meta = Meta { mtime: Stamp { sec, nsec }, uid: u32::MAX - 1, gid: 1 << 30, ..meta(Kind::File) };
        let found = read(&tar(&spec(b"a", &meta, Body::File { len: 0 }))).unwrap().remove(0);
        assert_eq!((found.mtime, found.uid, found.gid), (meta.mtime, meta.uid, meta.gid));
    }
}

#[test]
fn attributes_are_read_as_they_were() {
    let acl = acl::binary(b"user::rw-,user:1000:r--,group::r--,mask::rw-,other::---").unwrap();
    let mut xattrs = vec![
        (acl::ACCESS.0.to_vec(), acl),
        (b"user.a=b%c%3D".to_vec(), b"\0\n=\xff".to_vec()),
        (b"user.none".to_vec(), Vec::new()),
    ];
    xattrs.sort();
    let meta = meta(Kind::File);
    let spec = Spec { xattrs: &xattrs, ..spec(b"a", &meta, Body::File { len: 0 }) };
    assert_eq!(read(&tar(&spec)).unwrap()[0].xattrs, xattrs);
}

#[test]
fn data_are_read_up_to_the_end_of_the_member() {
    let meta = meta(Kind::File);
    let mut bytes = spec(b"a", &meta, Body::File { len: 5 }).build();
    bytes.extend_from_slice(b"hello");
    bytes.resize(padded(bytes.len() as u64) as usize, 0);
    bytes.extend(tar(&spec(b"b", &meta, Body::File { len: 0 })));
    let mut reader = TarReader::new(bytes.as_slice());
    for is_read in [true, false] {
        let mut reader = if is_read {
            std::mem::replace(&mut reader, TarReader::new(&bytes))
        } else {
            TarReader::new(bytes.as_slice())
        };
        assert_eq!(reader.next_member().unwrap().unwrap().name, b"a");
        if is_read {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
        assert_eq!(reader.next_member().unwrap().unwrap().name, b"b");
        assert!(reader.next_member().unwrap().is_none());
    }
}

/// With its checksum, whatever was done to it.
fn changed(change: impl Fn(&mut Header)) -> Vec<u8> {
    let meta = meta(Kind::File);
    let mut bytes = tar(&spec(b"a", &meta, Body::File { len: 0 }));
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(&bytes[..BLOCK as usize]);
    change(&mut header);
    header.set_cksum();
    bytes[..BLOCK as usize].copy_from_slice(header.as_bytes());
    bytes
}

/// A member behind these records.
fn with_records(records: &[u8], size: u64) -> Vec<u8> {
    let mut bytes = changed(|header| {
        header.set_entry_type(EntryType::XHeader);
        header.set_size(size);
    });
    bytes.truncate(BLOCK as usize);
    bytes.extend_from_slice(records);
    bytes.resize(padded(bytes.len() as u64) as usize, 0);
    bytes.extend(tar(&spec(b"a", &meta(Kind::File), Body::File { len: 0 })));
    bytes
}

#[test]
fn what_we_never_write_is_refused() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XGlobalHeader,
        EntryType::Continuous,
    ] {
        assert_eq!(why(&changed(|header| header.set_entry_type(kind))), "a member is of a type that we never write");
    }
    assert_eq!(
        why(&changed(|header| {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(512);
        })),
        "a member without content has data"
    );
    let damaged = "a pax record is damaged";
    for (records, expected) in [
        (b"9 path=x\n9 path=y\n".as_slice(), "a pax record comes twice"),
        (b"17 comment=hello\n", "it has a pax record that we never write"),
        (b"9 path=xx", damaged),
        (b"99 path=x\n", damaged),
        (b"0 path=x\n", damaged),
        (b"path=x\n", damaged),
        (b"9 size=x\n", "a pax record is no number"),
        (b"11 size=-1\n", "a pax record is no number"),
        (b"22 GNU.sparse.major=1\n", "a sparse member is not of the form that we write"),
        (b"12 mtime=1e\n", "a time is damaged"),
        (b"23 SCHILY.acl.access=no\n", damaged),
        (b"24 SCHILY.acl.access=no\n", "an ACL is damaged"),
    ] {
        assert_eq!(why(&with_records(records, records.len() as u64)), expected, "{}", String::from_utf8_lossy(records));
    }
    // Says that it has more than any memory.
    assert_eq!(why(&with_records(b"9 path=x\n", 7 << 30)), "its pax records are longer than any of ours");
}

#[test]
fn what_is_cut_or_damaged_anywhere_is_no_tar() {
    let meta = meta(Kind::File);
    let bytes = tar(&spec("é".as_bytes(), &meta, Body::File { len: 700 }));
    for len in 0..=bytes.len() - END_LEN as usize {
        assert!(read(&bytes[..len]).is_err(), "{len}");
    }
    for at in 0..BLOCK as usize {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert!(read(&bytes).is_err(), "{at}");
    }
    let mut more = bytes.clone();
    more.push(1);
    assert_eq!(why(&more), "something follows its end");
}
