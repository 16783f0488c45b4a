//! What the catalog promises of passes, pieces and paths.

use super::*;
use crate::{
    fate::{Fate, Fateful, Trouble},
    name::{Label, PassId, PieceName, SourceName},
    notice::{Exception, Reason},
    path::SourcePath,
};
use jiff::Timestamp;
use std::{fs, os::unix::fs::PermissionsExt};

pub fn source() -> SourceName {
    "data".parse().unwrap()
}

pub fn pass() -> PassId {
    "20261120T200000Z".parse().unwrap()
}

pub fn path(text: &str) -> SourcePath {
    SourcePath::parse(text.as_bytes()).unwrap()
}

pub fn time() -> Timestamp {
    "2026-11-20T20:00:00.123456789Z".parse().unwrap()
}

pub fn new_pass() -> NewPass {
    NewPass {
        source: source(),
        pass: pass(),
        host: "nas1".to_owned(),
        source_id: "data".to_owned(),
        filter_sha256: "f".repeat(64),
    }
}

pub fn packed(seq: u32, first: &str, last: &str) -> PackedRow {
    let (first, last) = (path(first), path(last));
    let label = Some(Label::of(&first, &last));
    PackedRow {
        name: PieceName { source: source(), pass: pass(), seq, label },
        position: last.clone(),
        first,
        last,
        segment: None,
        segment_state: None,
        members: 9,
        tar_size: 10_240,
        tar_sha256: format!("{seq:064x}"),
        counts: "{}".to_owned(),
        seen: 10,
        archived: 8,
        lost: 1,
        replaces: None,
        packed_at: time(),
    }
}

pub fn segment(seq: u32, file: &str, index: u32) -> PackedRow {
    let segment = SegmentRow { index, count: 3, offset: u64::from(index - 1) * 100, len: 100, file_size: 300 };
    PackedRow { segment: Some(segment), segment_state: Some("{\"sha\":1}".to_owned()), ..packed(seq, file, file) }
}

pub fn exception(text: &str, reason: Reason) -> Exception {
    Exception { path: path(text), reason, errno: Some(13), detail: "Permission denied".to_owned() }
}

pub fn compressed() -> Compressed {
    Compressed { size: 5_000, sha256: "c".repeat(64) }
}

pub fn sealed() -> Sealed {
    Sealed {
        size: 5_100,
        sha256: "5".repeat(64),
        crc64: u64::MAX - 1,
        manifest_size: 400,
        manifest_crc64: 1 << 63,
        archived_read_back: 8,
    }
}

pub fn catalog() -> (tempfile::TempDir, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("state/catalog.sqlite")).unwrap();
    (dir, catalog)
}

pub fn begun(pieces: &[PackedRow]) -> (tempfile::TempDir, Catalog) {
    let (dir, catalog) = catalog();
    catalog.begin_pass(&new_pass()).unwrap();
    for piece in pieces {
        catalog.add_packed(piece, &[]).unwrap();
    }
    (dir, catalog)
}

pub fn deliver(catalog: &Catalog, name: &PieceName) {
    catalog.set_compressed(name, &compressed()).unwrap();
    catalog.set_sealed(name, &sealed()).unwrap();
    catalog.set_delivered(name, &format!("{name}.tar"), &format!("{name}.manifest"), time()).unwrap();
}

fn seqs(rows: &[PieceRow]) -> Vec<u32> {
    rows.iter().map(|row| row.name().seq).collect()
}

pub fn refused<T: std::fmt::Debug>(done: Result<T>) -> String {
    match done.unwrap_err() {
        CatalogError::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_catalog_is_ours_alone() {
    let (_dir, catalog) = catalog();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    catalog.set_setting("host", "nas1").unwrap();
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        assert_eq!(mode(&catalog.file().with_file_name(name)), 0o600, "{name}");
    }
    assert_eq!(mode(catalog.file().parent().unwrap()), 0o700);
}

#[test]
fn settings_are_made_once_and_kept() {
    let (_dir, catalog) = catalog();
    assert_eq!(catalog.setting("host").unwrap(), None);
    assert_eq!(catalog.setting_or("host", || "nas1".to_owned()).unwrap(), "nas1");
    assert_eq!(catalog.setting_or("host", || unreachable!()).unwrap(), "nas1");
    catalog.set_setting("host", "nas2").unwrap();
    let file = catalog.file().to_owned();
    drop(catalog);
    assert_eq!(Catalog::open(&file).unwrap().setting("host").unwrap().as_deref(), Some("nas2"));
}

#[test]
fn uploads_are_remembered_until_they_are_forgotten() {
    let (_dir, catalog) = catalog();
    catalog.save_upload("b", "1").unwrap();
    catalog.save_upload("a", "2").unwrap();
    catalog.save_upload("b", "3").unwrap();
    let all = [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "3".to_owned())];
    assert_eq!(catalog.uploads().unwrap(), all);
    catalog.forget_upload("b").unwrap();
    catalog.forget_upload("b").unwrap();
    assert_eq!((catalog.upload("a").unwrap(), catalog.upload("b").unwrap()), (Some("2".to_owned()), None));
}

#[test]
fn a_source_has_one_open_pass() {
    let (_dir, catalog) = begun(&[]);
    catalog.begin_pass(&new_pass()).unwrap();
    let next = NewPass { pass: "20261121T200000Z".parse().unwrap(), ..new_pass() };
    assert!(refused(catalog.begin_pass(&next)).contains("has not ended"));
    assert!(refused(catalog.begin_pass(&NewPass { host: "other".to_owned(), ..new_pass() })).contains("has not ended"));
    let other = NewPass { source: "other".parse().unwrap(), ..next.clone() };
    catalog.begin_pass(&other).unwrap();

    catalog.walk_ended(&source(), pass(), 0).unwrap();
    catalog.end_pass(&source(), pass(), time()).unwrap();
    catalog.end_pass(&source(), pass(), time()).unwrap();
    assert_eq!(catalog.open_pass(&source()).unwrap(), None);
    assert!(refused(catalog.begin_pass(&new_pass())).contains("has ended"));
    catalog.begin_pass(&next).unwrap();
    let ids = |rows: Vec<PassRow>| rows.into_iter().map(|row| (row.source, row.pass)).collect::<Vec<_>>();
    let of_data = [(source(), next.pass), (source(), pass())];
    assert_eq!(ids(catalog.passes(Some(&source())).unwrap()), of_data);
    assert_eq!(ids(catalog.passes(None).unwrap()).len(), 3);
    let ended = catalog.pass(&source(), pass()).unwrap().unwrap();
    assert_eq!((ended.seen, ended.ended), (Some(0), Some(time())));
}

#[test]
fn a_pass_ends_only_when_everything_is_delivered() {
    let (_dir, catalog) = begun(&[packed(1, "/", "m"), packed(2, "n", "z")]);
    let end = || catalog.end_pass(&source(), pass(), time());
    let name = |seq| catalog.piece(&source(), pass(), seq).unwrap().unwrap().packed.name;
    deliver(&catalog, &name(1));
    assert!(refused(end()).contains("walk has not ended"));
    catalog.walk_ended(&source(), pass(), 20).unwrap();
    catalog.walk_ended(&source(), pass(), 20).unwrap();
    assert!(refused(catalog.walk_ended(&source(), pass(), 21)).contains("20 entries"));
    assert!(refused(end()).contains("1 of its 2 pieces"));
    catalog.set_retired(&name(2), "rotten").unwrap();
    assert!(refused(end()).contains("packed again"));
    catalog.add_packed(&PackedRow { replaces: Some(2), ..packed(3, "n", "z") }, &[]).unwrap();
    catalog.set_replaced(&name(2)).unwrap();
    assert!(refused(end()).contains("1 of its 2 pieces"));
    deliver(&catalog, &name(3));
    end().unwrap();
    assert!(refused(catalog.add_packed(&packed(4, "zz", "zz"), &[])).contains("has ended"));
}

#[test]
fn a_row_is_read_back_as_it_was_told() {
    let mut piece = segment(1, "big", 2);
    piece.name.label = None;
    let (_dir, catalog) = begun(&[]);
    let exceptions = [exception("big", Reason::Changed)];
    catalog.add_packed(&piece, &exceptions).unwrap();
    deliver(&catalog, &piece.name);
    let row = catalog.piece(&source(), pass(), 1).unwrap().unwrap();
    let delivered =
        Delivered { key: format!("{}.tar", piece.name), manifest_key: format!("{}.manifest", piece.name), at: time() };
    let expected = PieceRow {
        packed: piece,
        state: PieceState::Delivered,
        compressed: Some(compressed()),
        sealed: Some(sealed()),
        delivered: Some(delivered),
        retired: None,
        replaced_done: false,
    };
    assert_eq!(row, expected);
    assert_eq!(catalog.exceptions(&source(), pass()).unwrap(), [(1, exceptions[0].clone())]);
    assert_eq!(catalog.piece(&source(), pass(), 2).unwrap(), None);
}

#[test]
fn every_reason_is_read_back() {
    let (_dir, catalog) = begun(&[]);
    let reasons = [
        Reason::Socket,
        Reason::Vanished,
        Reason::Mount,
        Reason::Grew,
        Reason::Changed,
        Reason::Damaged,
        Reason::Denied,
        Reason::Unreadable,
        Reason::Replaced,
        Reason::Deep,
        Reason::Metadata,
    ];
    let told: Vec<Exception> = reasons.iter().map(|reason| exception("x", *reason)).collect();
    catalog.add_packed(&packed(1, "x", "x"), &told).unwrap();
    let read: Vec<Exception> =
        catalog.exceptions(&source(), pass()).unwrap().into_iter().map(|(_, exception)| exception).collect();
    assert_eq!(read, told);
}

#[test]
fn pieces_and_exceptions_come_in_walk_order() {
    // As joined strings, `Photos (old)` and `Photos-2019` would come before `Photos/x`.
    let (_dir, catalog) = begun(&[
        packed(4, "Photos-2019", "Photos.bak"),
        packed(1, "/", "Photos"),
        packed(3, "Photos (old)/y", "Photos (old)/z"),
        packed(2, "Photos/x", "Photos/x.y"),
        segment(5, "big", 3),
        segment(6, "big", 2),
        segment(7, "big", 1),
    ]);
    assert_eq!(seqs(&catalog.pieces(&source(), pass()).unwrap()), [1, 2, 3, 4, 7, 6, 5]);
    let told = [exception("k/b.c", Reason::Denied), exception("k (1)", Reason::Denied)];
    let more = [exception("k/b/c", Reason::Socket)];
    catalog.add_packed(&packed(8, "k", "l"), &told).unwrap();
    catalog.add_packed(&packed(9, "m", "m"), &more).unwrap();
    let order: Vec<_> = catalog.exceptions(&source(), pass()).unwrap();
    let order: Vec<_> = order.iter().map(|(seq, exception)| (*seq, exception.path.display())).collect();
    let expected = [(9, "k/b/c"), (8, "k/b.c"), (8, "k (1)")];
    assert_eq!(order, expected.map(|(seq, path)| (seq, path.to_owned())));
}

#[test]
fn a_path_is_found_in_the_piece_whose_range_holds_it() {
    let (_dir, catalog) = begun(&[
        packed(1, "/", "Photos/w"),
        packed(2, "Photos/x", "Photos/x.y"),
        packed(3, "Photos (old)/y", "Photos.bak"),
        segment(4, "big", 1),
        segment(5, "big", 2),
        packed(6, "c", "d"),
    ]);
    let holding = |text: &str| seqs(&catalog.holding(&source(), pass(), &path(text)).unwrap());
    for (text, expected) in [
        ("/", vec![1]),
        ("Photos", vec![1]),
        ("Photos/x", vec![2]),
        ("Photos/x/deep/er", vec![2]),
        ("Photos/x.y", vec![2]),
        ("Photos (old)", vec![]),
        ("Photos (old)/y", vec![3]),
        ("Photos-2019", vec![3]),
        ("big", vec![4, 5]),
        ("d", vec![6]),
        ("d/x", vec![]),
    ] {
        assert_eq!(holding(text), expected, "{text}");
    }
    let touching = |text: &str| seqs(&catalog.touching(&source(), pass(), &path(text)).unwrap());
    assert_eq!(touching("/"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(touching("Photos"), [1, 2]);
    assert_eq!(touching("Photos (old)"), [3]);
    assert_eq!(touching("Photos/x"), [2]);
    assert_eq!(touching("d"), [6]);
    assert_eq!(touching("d/x"), [0; 0]);
    assert_eq!(touching("e"), [0; 0]);
}

#[test]
fn finding_a_path_uses_the_index() {
    let (_dir, catalog) = begun(&[]);
    let plan: String = catalog
        .conn()
        .query_row(
            "EXPLAIN QUERY PLAN SELECT * FROM piece WHERE source = 'a' AND pass = 'b' AND first <= x'00' AND last >= x'00'",
            [],
            |row| row.get("detail"),
        )
        .unwrap();
    assert!(plan.contains("USING INDEX") && plan.contains("source=? AND pass=? AND first<?"), "{plan}");
}

#[test]
fn a_piece_is_adopted_once() {
    let piece = packed(1, "a", "b");
    let (_dir, catalog) = begun(&[]);
    let exceptions = [exception("a", Reason::Denied)];
    catalog.add_packed(&piece, &exceptions).unwrap();
    catalog.set_compressed(&piece.name, &compressed()).unwrap();
    catalog.add_packed(&piece, &exceptions).unwrap();
    assert_eq!(catalog.exceptions(&source(), pass()).unwrap().len(), 1);
    assert_eq!(catalog.piece(&source(), pass(), 1).unwrap().unwrap().state, PieceState::Compressed);
    let other = PackedRow { tar_sha256: "0".repeat(64), ..piece.clone() };
    assert!(refused(catalog.add_packed(&other, &[])).contains("another content"));
    assert!(refused(catalog.add_packed(&packed(1, "a", "c"), &[])).contains("another content"));
}

#[test]
fn what_contradicts_the_catalog_is_refused_as_a_whole() {
    let (_dir, catalog) = begun(&[packed(1, "a", "b")]);
    assert!(refused(catalog.add_packed(&packed(2, "b", "a"), &[])).contains("goes from"));
    let back = PackedRow { position: path("c"), ..packed(2, "c", "d") };
    assert!(refused(catalog.add_packed(&back, &[])).contains("goes from"));
    let again = PackedRow { replaces: Some(1), ..packed(2, "a", "b") };
    assert!(refused(catalog.add_packed(&again, &[])).contains("not retired"));
    let mut lost = packed(2, "c", "d");
    lost.name.pass = "20200101T000000Z".parse().unwrap();
    assert!(refused(catalog.add_packed(&lost, &[])).contains("no pass"));
    let mut name = packed(1, "a", "b").name;
    name.label = None;
    assert!(refused(catalog.set_retired(&name, "x")).contains("no piece"));
    let err = catalog.set_replaced(&packed(1, "a", "b").name).unwrap_err();
    assert_eq!((err.fate(), err.trouble()), (Fate::Operator, Trouble::State));
    assert_eq!(catalog.pieces(&source(), pass()).unwrap().len(), 1);
}
