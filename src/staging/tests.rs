use super::*;

fn name(seq: u32) -> PieceName {
    format!("data.20261120T200000Z.{seq:06}-a_to_b").parse().unwrap()
}

fn put(staging: &Staging, dir: &str, file: &str) {
    fs::write(staging.root().join(dir).join(file), "x").unwrap();
}

fn names(staging: &Staging) -> Vec<String> {
    DIRS.iter().flat_map(|dir| staging.names(dir).unwrap().into_iter().map(move |n| format!("{dir}/{n}"))).collect()
}

#[test]
fn a_second_daemon_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Staging::open(dir.path(), 1 << 30).unwrap();
    assert!(matches!(Staging::open(dir.path(), 1 << 30), Err(StagingError::Locked(_))));
}

#[test]
fn a_start_sweeps_what_cannot_go_on_and_keeps_what_can() {
    let dir = tempfile::tempdir().unwrap();
    let (staging, _) = Staging::open(dir.path(), 1 << 30).unwrap();
    let id = "data.20261120T200000Z.";
    // A draft with its mark, one without, a mark without a draft, and a file of somebody else.
    for file in ["000001.tar", "000001.jsonl", "000001.tar.mark", "000002.tar", "000002.jsonl", "000003.tar.mark"] {
        put(&staging, "tmp", &format!("{id}{file}"));
    }
    put(&staging, "tmp", "notes.txt");
    // Piece 4 stands on all three shelves, 5 was renamed without a record, 6 is only packed.
    for (dir, suffix) in [("tar", ".tar"), ("xz", ".tar.xz"), ("gpg", ".tar.xz.gpg")] {
        put(&staging, dir, &format!("{}{suffix}", name(4)));
    }
    put(&staging, "gpg", &format!("{}.manifest.jsonl.zst.gpg", name(4)));
    for suffix in [".tar.jsonl", ".xz.json", ".gpg.json"] {
        put(&staging, "list", &format!("{}{suffix}", name(4)));
    }
    put(&staging, "xz", &format!("{}.tar.xz", name(5)));
    put(&staging, "gpg", &format!("{}.manifest.jsonl.zst.gpg", name(6)));
    put(&staging, "tar", &format!("{}.tar", name(6)));
    put(&staging, "list", &format!("{}.tar.jsonl", name(6)));
    put(&staging, "list", &format!("{}.tar.jsonl", name(7)));
    drop(staging);

    let (staging, backlog) = Staging::open(dir.path(), 1 << 30).unwrap();
    assert_eq!(staging.marks().unwrap().len(), 1);
    assert_eq!(backlog.foreign, [dir.path().join("tmp/notes.txt")]);
    assert_eq!(backlog.encrypted.iter().map(|p| p.name().seq).collect::<Vec<_>>(), [4]);
    assert_eq!(backlog.packed.iter().map(|p| p.name().seq).collect::<Vec<_>>(), [6]);
    assert!(backlog.compressed.is_empty());
    let left = names(&staging);
    assert_eq!(left.len(), 4 + 1 + 2 + 4 - 1 + 1, "{left:#?}");
    assert!(
        !left
            .iter()
            .any(|n| n.contains("000002") || n.contains("000003") || n.contains("000005") || n.contains("000007"))
    );
}

#[test]
fn a_dropped_draft_is_gone_and_a_marked_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (staging, _) = Staging::open(dir.path(), 1 << 30).unwrap();
    let draft = staging.draft::<Packed>("data.20261120T200000Z.000001.tar").unwrap();
    drop(draft);
    assert!(names(&staging).is_empty());
    let draft = staging.draft::<Packed>("data.20261120T200000Z.000001.tar").unwrap();
    durable::write(draft.mark_path(), b"1").unwrap();
    assert!(draft.keep_if_marked());
    assert_eq!(names(&staging).len(), 2);
    let draft = staging.reopen_draft::<Packed>("data.20261120T200000Z.000001.tar").unwrap();
    let piece = staging.publish(draft, &name(1), ".tar").unwrap();
    assert_eq!(names(&staging), [format!("tar/{}.tar", name(1))]);
    assert_eq!(piece.suffix(), ".tar");
    staging.forget(&name(1)).unwrap();
    assert!(names(&staging).is_empty());
}
