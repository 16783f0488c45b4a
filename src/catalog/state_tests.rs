//! What the catalog promises of the life of a piece, and of what others see meanwhile.

use super::{tests::*, *};
use crate::{
    fate::{Fate, Fateful, Trouble},
    name::PieceName,
    notice::Reason,
};

fn one() -> (tempfile::TempDir, Catalog, PieceName) {
    let (dir, catalog) = catalog();
    catalog.begin_pass(&new_pass()).unwrap();
    let piece = packed(1, "a", "m");
    catalog.add_packed(&piece, &[exception("b", Reason::Denied)]).unwrap();
    (dir, catalog, piece.name)
}

fn move_to(catalog: &Catalog, name: &PieceName, state: PieceState) -> Result<()> {
    match state {
        PieceState::Packed => unreachable!("nothing moves there"),
        PieceState::Compressed => catalog.set_compressed(name, &compressed()),
        PieceState::Sealed => catalog.set_sealed(name, &sealed()),
        PieceState::Delivered => catalog.set_delivered(name, "key", "manifest", time()),
        PieceState::Retired => catalog.set_retired(name, "rotten"),
    }
}

#[test]
fn states_only_move_forward() {
    use PieceState::{Compressed, Delivered, Packed, Retired, Sealed};
    // The way to each state, and the states that may follow; those after which nothing changes are told too.
    for (way, next) in [
        (&[][..], &[Compressed, Retired][..]),
        (&[Compressed], &[Compressed, Sealed, Retired]),
        (&[Compressed, Sealed], &[Sealed, Delivered, Retired]),
        (&[Compressed, Sealed, Delivered], &[Delivered]),
        (&[Compressed, Retired], &[Retired]),
    ] {
        for state in [Compressed, Sealed, Delivered, Retired] {
            let (_dir, catalog, name) = one();
            for state in way {
                move_to(&catalog, &name, *state).unwrap();
            }
            let before = catalog.piece(&source(), pass(), 1).unwrap();
            let moved = move_to(&catalog, &name, state);
            assert_eq!(moved.is_ok(), next.contains(&state), "from {way:?} to {state:?}: {moved:?}");
            let after = catalog.piece(&source(), pass(), 1).unwrap();
            if moved.is_err() {
                assert_eq!(after, before);
            } else {
                assert_eq!(after.unwrap().state, state);
            }
        }
    }
    assert!(!Packed.may_become(Packed));
}

#[test]
fn a_delivered_piece_keeps_its_key_and_a_retired_one_its_reason() {
    let (_dir, catalog, name) = one();
    for state in [PieceState::Compressed, PieceState::Sealed, PieceState::Delivered] {
        move_to(&catalog, &name, state).unwrap();
    }
    assert!(matches!(catalog.set_delivered(&name, "other", "manifest", time()), Err(CatalogError::Refused { .. })));
    let (_dir, catalog, name) = one();
    catalog.set_retired(&name, "first").unwrap();
    catalog.set_retired(&name, "second").unwrap();
    assert_eq!(catalog.piece(&source(), pass(), 1).unwrap().unwrap().retired.as_deref(), Some("first"));
}

#[test]
fn a_seq_is_never_given_twice() {
    let (_dir, catalog, name) = one();
    let next = || catalog.next_seq(&source(), pass()).unwrap();
    assert_eq!(next(), 2);
    catalog.set_retired(&name, "rotten").unwrap();
    assert_eq!(next(), 2);
    catalog.add_packed(&packed(7, "n", "o"), &[]).unwrap();
    catalog.add_packed(&packed(3, "p", "q"), &[]).unwrap();
    assert_eq!(next(), 8);
    // Not even if somebody takes rows away.
    catalog.conn().execute("DELETE FROM piece WHERE seq = 7", []).unwrap();
    assert_eq!(next(), 8);
    assert!(catalog.next_seq(&"other".parse().unwrap(), pass()).is_err());
}

#[test]
fn a_retired_range_waits_until_it_is_covered_again() {
    let (_dir, catalog, name) = one();
    catalog.add_packed(&packed(2, "n", "z"), &[exception("o", Reason::Socket)]).unwrap();
    catalog.set_retired(&name, "rotten").unwrap();
    let seqs = |rows: Vec<PieceRow>| rows.iter().map(|row| row.name().seq).collect::<Vec<_>>();
    assert_eq!(seqs(catalog.undelivered().unwrap()), [2]);
    assert_eq!(seqs(catalog.to_repack().unwrap()), [1]);
    assert_eq!(seqs(catalog.holding(&source(), pass(), &path("b")).unwrap()), [0; 0]);
    assert_eq!(catalog.exceptions(&source(), pass()).unwrap().len(), 1);

    for (seq, first, last) in [(3, "a", "c"), (4, "d", "m")] {
        let again = PackedRow { replaces: Some(1), seen: 6, ..packed(seq, first, last) };
        catalog.add_packed(&again, &[exception(first, Reason::Denied)]).unwrap();
    }
    catalog.set_replaced(&name).unwrap();
    assert_eq!(seqs(catalog.to_repack().unwrap()), [0; 0]);
    assert_eq!(seqs(catalog.undelivered().unwrap()), [3, 4, 2]);
    assert_eq!(seqs(catalog.holding(&source(), pass(), &path("b")).unwrap()), [3]);
    assert_eq!(catalog.exceptions(&source(), pass()).unwrap().len(), 3);
    let totals = catalog.totals(&source(), pass()).unwrap();
    assert_eq!((totals.pieces, totals.retired, totals.to_repack), (3, 1, 0));
    assert_eq!((totals.walked, totals.seen, totals.archived, totals.lost), (20, 22, 24, 3));
}

#[test]
fn the_walk_goes_on_after_the_farthest_piece_that_it_cut() {
    let (_dir, catalog, _) = one();
    let at = || catalog.resume_point(&source(), pass()).unwrap().unwrap().packed.name.seq;
    assert_eq!(at(), 1);
    // `n` ends before the position of the one that stepped over what is excluded behind it.
    catalog.add_packed(&PackedRow { position: path("q/x"), ..packed(2, "n", "o") }, &[]).unwrap();
    catalog.add_packed(&segment(3, "r", 1), &[]).unwrap();
    catalog.add_packed(&segment(4, "r", 2), &[]).unwrap();
    assert_eq!(at(), 4);
    // Neither the retired one nor what replaces it moves the walk.
    catalog.set_retired(&segment(4, "r", 2).name, "rotten").unwrap();
    assert_eq!(at(), 4);
    let again = PackedRow { replaces: Some(4), ..segment(5, "r", 2) };
    catalog.add_packed(&PackedRow { position: path("s"), ..again }, &[]).unwrap();
    assert_eq!(at(), 4);
    assert_eq!(catalog.resume_point(&"other".parse().unwrap(), pass()).unwrap(), None);
}

#[test]
fn totals_are_the_sums_of_rows() {
    let (_dir, catalog, name) = one();
    assert_eq!(catalog.totals(&"other".parse().unwrap(), pass()).unwrap(), Totals::default());
    for state in [PieceState::Compressed, PieceState::Sealed, PieceState::Delivered] {
        move_to(&catalog, &name, state).unwrap();
    }
    let waiting = packed(2, "n", "z");
    catalog.add_packed(&waiting, &[]).unwrap();
    catalog.set_compressed(&waiting.name, &compressed()).unwrap();
    let expected = Totals {
        pieces: 2,
        sealed: 1,
        delivered: 1,
        retired: 0,
        to_repack: 0,
        walked: 20,
        seen: 20,
        archived: 16,
        archived_read_back: 8,
        lost: 2,
        members: 18,
        tar_bytes: 20_480,
        compressed_bytes: 10_000,
        sealed_bytes: 5_100,
        delivered_bytes: 5_500,
    };
    assert_eq!(catalog.totals(&source(), pass()).unwrap(), expected);
}

#[test]
fn a_reader_sees_what_was_committed_while_another_writes() {
    let (_dir, catalog, _) = one();
    let reader = Catalog::open_read_only(catalog.file()).unwrap();
    {
        let mut conn = catalog.conn();
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        tx.execute("UPDATE piece SET seen = 99", []).unwrap();
        assert_eq!(reader.totals(&source(), pass()).unwrap().seen, 10);
        tx.commit().unwrap();
    }
    assert_eq!(reader.totals(&source(), pass()).unwrap().seen, 99);
    let err = reader.set_setting("a", "b").unwrap_err();
    assert_eq!(err.fate(), Fate::Operator);
}

#[test]
fn what_has_no_room_is_tried_again_and_leaves_nothing_behind() {
    let (_dir, catalog, _) = one();
    let pages: u32 = catalog.conn().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    catalog.conn().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    let many: Vec<_> = (0..10_000).map(|_| exception("x", Reason::Denied)).collect();
    let err = catalog.add_packed(&packed(2, "n", "z"), &many).unwrap_err();
    assert_eq!((err.fate(), err.trouble()), (Fate::Retry, Trouble::State), "{err:?}");
    assert_eq!(catalog.piece(&source(), pass(), 2).unwrap(), None);
    catalog.conn().query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    catalog.add_packed(&packed(2, "n", "z"), &many).unwrap();
    catalog.check().unwrap();
}

#[test]
fn a_copy_is_whole_while_the_catalog_goes_on() {
    let (dir, catalog, _) = one();
    let copy = dir.path().join("copies/catalog.copy");
    std::fs::create_dir(dir.path().join("copies")).unwrap();
    std::fs::write(dir.path().join("copies/catalog.copy.new"), "left by a crash").unwrap();
    catalog.backup_to(&copy).unwrap();
    catalog.set_setting("host", "later").unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path().join("copies")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["catalog.copy"]);
    let copied = Catalog::open(&copy).unwrap();
    assert_eq!(copied.pieces(&source(), pass()).unwrap(), catalog.pieces(&source(), pass()).unwrap());
    assert_eq!(copied.setting("host").unwrap(), None);
    drop(copied);
    catalog.backup_to(&copy).unwrap();
    let copied = Catalog::open_read_only(&copy).unwrap();
    assert_eq!(copied.setting("host").unwrap().as_deref(), Some("later"));
    assert!(catalog.backup_to(catalog.file()).is_err());
}

#[test]
fn threads_share_one_catalog() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let (_dir, catalog, _) = one();
    shared(&catalog);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let catalog = catalog.clone();
            scope.spawn(move || {
                for number in 0..25 {
                    catalog.save_upload(&format!("{thread}/{number}"), "{}").unwrap();
                }
            });
        }
    });
    assert_eq!(catalog.uploads().unwrap().len(), 100);
}

#[test]
fn two_writers_wait_for_one_another() {
    let (_dir, catalog) = catalog();
    let other = Catalog::open(catalog.file()).unwrap();
    std::thread::scope(|scope| {
        for catalog in [&catalog, &other] {
            scope.spawn(move || {
                for number in 0..50 {
                    catalog.setting_or(&format!("id {number}"), || format!("{catalog:p}")).unwrap();
                }
            });
        }
    });
    for number in 0..50 {
        let name = format!("id {number}");
        assert_eq!(catalog.setting(&name).unwrap(), other.setting(&name).unwrap());
    }
}
