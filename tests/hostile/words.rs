//! Names that would forge lines and move cursors, where people read them.

use super::{common::World, is_root, odd::Mounted};
use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

/// As UTF-8 where they are.
const NAMES: [&str; 6] = ["new\nline", "\x1b[2Jclear", "-rf", "ret\rurn", "right\u{202e}left", "tab\tbell\x07"];

/// What moves a cursor, ends a line or turns text around.
fn is_raw(text: &str) -> bool {
    text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}'))
}

#[test]
fn names_in_trouble_are_escaped_in_log_exceptions_and_status() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let source = Mounted::new(&world.source, |nodes| {
        for name in NAMES {
            let file = nodes.file(1, name, "content");
            nodes.node(file).bad = 0..7;
            let dir = nodes.dir(1, &format!("{name} too"));
            nodes.node(dir).list_fails_at = Some(0);
            nodes.file(dir, "inside", "never seen");
        }
        let file = nodes.file(1, "", "content");
        nodes.node(file).name = OsStr::from_bytes(b"z\xff\xfe").to_owned();
        nodes.node(file).bad = 0..7;
    });
    let ran = world.run_once().expect(3);
    let status = world.archiver(&["status"]).expect(0).text();
    let exceptions = world.archiver(&["exceptions"]).expect(0).text();
    let tree = world.archiver(&["tree", "data"]).expect(0).text();
    for (what, text) in [("log", &ran.stderr), ("status", &status), ("exceptions", &exceptions), ("tree", &tree)] {
        assert!(!is_raw(text), "{what}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("line")), "{what}: {text:?}");
    }
    for escaped in [r"new\nline", r"\u{1b}[2Jclear", "-rf", r"ret\rurn", r"\u{202e}left", r"z\xff\xfe"] {
        let names_it = |line: &&str| line.contains(escaped);
        // In the log they stand in quotes, which doubles the backslash.
        let in_log = ran.stderr.lines().filter(|line| line.contains(&escaped.replace('\\', r"\\"))).count();
        let expected = if escaped.starts_with('z') { 1 } else { 2 };
        assert_eq!(in_log, expected, "{escaped}: {}", ran.stderr);
        assert_eq!(exceptions.lines().filter(names_it).count(), expected, "{escaped}: {exceptions}");
    }
    assert!(status.contains(r"z\xff\xfe"), "{status}");
    assert_eq!(world.exceptions().len(), 2 * NAMES.len() + 1);
    drop(source);
}

#[test]
fn the_path_of_a_held_source_is_escaped() {
    let mut world = World::new();
    world.source = world.root.path().join("not\nthere");
    let ran = world.run_once().expect(75);
    assert!(!is_raw(&ran.stderr) && !ran.stderr.lines().any(|line| line.starts_with("there")), "{:?}", ran.stderr);
    assert!(ran.stderr.contains(r"not\\nthere") || ran.stderr.contains(r"not\nthere"), "{}", ran.stderr);
    fs::create_dir(&world.source).unwrap();
    world.run_once().expect(0);
}
