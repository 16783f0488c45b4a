use super::*;
use crate::{
    archive::{
        manifest::{ExceptionLine, join},
        pack::Range,
    },
    notice::Reason,
};

/// Written by hand, from the format's description; never edited.
const SAMPLE: &str = include_str!("../../tests/testdata/v1/manifest.jsonl");

fn read(text: &str) -> Result<(Head, Vec<Member>, RangeEnd), ManifestError> {
    let mut reader = ManifestReader::new(text.as_bytes())?;
    let members = reader.by_ref().collect::<Result<Vec<Member>, _>>()?;
    Ok((reader.head().clone(), members, reader.range_end().cloned().unwrap()))
}

fn rewrite(head: &Head, members: &[Member], end: &RangeEnd) -> String {
    let mut lines = Vec::new();
    for member in members {
        serde_json::to_writer(&mut lines, member).unwrap();
        lines.push(b'\n');
    }
    let packed = Packed {
        version: 1,
        tar_size: head.tar_size,
        tar_sha256: head.tar_sha256.clone(),
        list_sha256: String::new(),
        range: Range { counts: end.counts.clone(), exceptions: end.exceptions.clone(), ..Range::default() },
        segment: None,
        chain: None,
        took_ms: 0,
    };
    let mut out = Vec::new();
    write_manifest(head, &mut lines.as_slice(), &packed, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn version_1_never_changes() {
    let (head, members, end) = read(SAMPLE).unwrap();
    assert_eq!(rewrite(&head, &members, &end), SAMPLE);
    assert_eq!((head.seq, head.pass.to_string(), head.blocks.len()), (17, "20261120T200000Z".to_owned(), 2));
    let paths: Vec<_> = members.iter().map(|member| join(&member.path, &member.path_b64).unwrap()).collect();
    let wanted: [&[u8]; 7] = [b"./", b"a", b"a/1", b"a/2", b"a/3", b"a/\xff", b"b/F/000002"];
    assert_eq!(paths, wanted);
    assert!(members[0].has_note(note::ANCESTOR) && members[3].has_note(note::HARDLINK));
    assert_eq!(members[6].source_path().unwrap(), SourcePath::parse(b"b/F").unwrap());
    assert_eq!(end.exceptions[1].reason, Reason::Socket);
    let exception: Option<crate::notice::Exception> = end.exceptions.iter().find_map(ExceptionLine::exception);
    assert_eq!(exception.unwrap().errno, Some(5));
    assert!(end.counts.adds_up());
    let counts = recount(members.into_iter().map(Ok::<_, ManifestError>)).unwrap();
    assert_eq!((counts.clean, counts.changed), (end.counts.clean, end.counts.changed));
}

#[test]
fn a_field_of_a_later_version_of_the_same_format_is_passed_over() {
    let text = SAMPLE.replacen("{\"path\":\"a\",", "{\"path\":\"a\",\"birth\":1,", 1);
    assert_eq!(read(&text).unwrap().1, read(SAMPLE).unwrap().1);
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let text = "{\"piece\":{\"format\":2,\"all\":\"else\"}}\n";
    assert!(matches!(read(text), Err(ManifestError::Newer { format: 2 })));
}

#[test]
fn damage_is_told_with_its_line() {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    let line = |lines: &[&str]| {
        let err = read(&lines.join("\n")).unwrap_err();
        match err {
            ManifestError::Json { line, .. }
            | ManifestError::Damaged { line, .. }
            | ManifestError::Read { line, .. } => line,
            ManifestError::Newer { .. } => 0,
        }
    };
    let without = |at: usize| {
        let mut lines = lines.clone();
        lines.remove(at);
        lines.push("");
        line(&lines)
    };
    let last = lines.len() as u64;
    assert_eq!(without(0), 1, "no head");
    assert_eq!(without(4), last - 1, "one member less than the head says");
    assert_eq!(without(lines.len() - 1), last, "no end");
    assert_eq!(line(&lines), last, "cut off within the last line");
    assert_eq!(line(&lines[..4]), 4);
    assert_eq!(line(&[]), 1);
    let swapped = |a: usize, b: usize| {
        let mut lines = lines.clone();
        lines.swap(a, b);
        lines.push("");
        line(&lines)
    };
    assert_eq!(swapped(4, 5), 6, "out of order");
    assert_eq!(swapped(1, 2), 3, "an ancestor behind a member");
    let mut doubled = lines.clone();
    doubled.extend([lines[4], ""]);
    assert_eq!(line(&doubled), last + 1, "something behind the end");
    let broken = lines[4].replace("\"path\"", "\"bath\"");
    let mut pathless = lines.clone();
    pathless[4] = &broken;
    pathless.push("");
    assert_eq!(line(&pathless), 5, "a member without a path");
}

#[test]
fn nothing_comes_after_an_error() {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    let text = [lines[0], "{}", lines[1], ""].join("\n");
    let mut reader = ManifestReader::new(text.as_bytes()).unwrap();
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none() && reader.range_end().is_none());
}

#[test]
fn counts_beyond_all_numbers_do_not_add_up_and_do_no_harm() {
    let mut counts = Counts { seen: 7, clean: u64::MAX, changed: 1, ..Counts::default() };
    counts.excluded.insert("own".to_owned(), u64::MAX);
    assert!(!counts.adds_up());
    counts.add(&counts.clone());
    assert_eq!((counts.clean, counts.excluded["own"], counts.seen), (u64::MAX, u64::MAX, 14));
}
