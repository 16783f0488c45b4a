use super::*;
use crate::archive::pack::Range;
use std::fs;

/// A list of three members, and its record.
fn list() -> Vec<u8> {
    let mut lines = Vec::new();
    for (at, name) in ["./", "a", "b"].into_iter().enumerate() {
        let member =
            Member { path: Some(name.to_owned()), r#type: "file".into(), offset: at as u64 * 512, ..Member::default() };
        serde_json::to_writer(&mut lines, &member).unwrap();
        lines.push(b'\n');
    }
    let packed = Packed {
        version: 1,
        tar_size: 2560,
        tar_sha256: "00".repeat(32),
        list_sha256: hex(Sha256::new().chain_update(&lines)),
        range: Range { members: 3, ..Range::default() },
        segment: None,
        chain: None,
        took_ms: 1,
    };
    lines.extend_from_slice(&last_line(&packed));
    lines
}

fn open(bytes: &[u8]) -> Result<(Packed, BufReader<Members>), ListError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    fs::write(&path, bytes).unwrap();
    MemberList::open(&path)
}

#[test]
fn a_list_is_read_back_as_written() {
    let (packed, lines) = open(&list()).unwrap();
    assert_eq!(packed.range.members, 3);
    let names: Vec<_> = members(lines).map(|member| member.unwrap().path.unwrap()).collect();
    assert_eq!(names, ["./", "a", "b"]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let whole = list();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(matches!(open(&bytes), Err(ListError::Damaged { .. })), "byte {at}, bit {bit}");
        }
        assert!(matches!(open(&whole[..at]), Err(ListError::Damaged { .. })), "{at} bytes");
    }
    let line = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for bytes in [&whole[line..], &[&whole[..], b"x"].concat(), &[&whole[..], b"\n"].concat(), &whole.repeat(2)] {
        assert!(matches!(open(bytes), Err(ListError::Damaged { .. })));
    }
}

#[test]
fn a_list_that_is_not_there_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(MemberList::open(&dir.path().join("none")), Err(ListError::NotFound { .. })));
    assert!(matches!(MemberList::open(dir.path()), Err(ListError::Read { .. })));
}

#[test]
fn a_list_that_rots_after_it_was_opened_fails_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    let mut bytes = list();
    fs::write(&path, &bytes).unwrap();
    let (_, mut lines) = MemberList::open(&path).unwrap();
    let at = bytes.iter().position(|b| *b == b'a').unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(io::copy(&mut lines, &mut io::sink()).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
