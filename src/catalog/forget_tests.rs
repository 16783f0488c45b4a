//! What the catalog promises of pieces that were removed from the vault.

use super::{tests::*, *};
use crate::{
    name::{PassId, PieceName, SourceName},
    notice::Reason,
};
use std::collections::BTreeSet;

const PASSES: [&str; 3] = ["20261101T200000Z", "20261115T200000Z", "20261120T200000Z"];

/// Three passes of two sources, all ended: of pieces 1 and 2, delivered, and 3, retired and packed again as 4.
fn three() -> (tempfile::TempDir, Catalog) {
    let (dir, catalog) = catalog();
    for source in ["data", "other"].map(|name| name.parse::<SourceName>().unwrap()) {
        for pass in PASSES.map(|pass| pass.parse::<PassId>().unwrap()) {
            catalog.begin_pass(&NewPass { source: source.clone(), pass, ..new_pass() }).unwrap();
            for (seq, first, last) in [(1, "a", "c"), (2, "d", "f"), (3, "g", "k"), (4, "g", "k")] {
                let mut row = packed(seq, first, last);
                (row.name.source, row.name.pass) = (source.clone(), pass);
                row.replaces = (seq == 4).then_some(3);
                catalog.add_packed(&row, &[exception(first, Reason::Denied)]).unwrap();
                if seq == 3 {
                    catalog.set_retired(&row.name, "rotten").unwrap();
                    catalog.set_replaced(&row.name).unwrap();
                } else {
                    deliver(&catalog, &row.name);
                    prove(&catalog, &row.name);
                }
            }
            catalog.walk_ended(&source, pass, 40).unwrap();
            catalog.end_pass(&source, pass, time()).unwrap();
        }
    }
    (dir, catalog)
}

fn deliver(catalog: &Catalog, name: &PieceName) {
    catalog.set_compressed(name, &compressed()).unwrap();
    catalog.set_sealed(name, &sealed()).unwrap();
    catalog.set_delivered(name, &format!("{name}.tar"), &format!("{name}.manifest"), time()).unwrap();
}

fn prove(catalog: &Catalog, name: &PieceName) {
    let row = (name.source.as_str(), name.pass.to_string(), name.seq, "listed", time().to_string());
    catalog.conn().execute("INSERT INTO proof VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
}

fn id(pass: usize) -> PassId {
    PASSES[pass].parse().unwrap()
}

fn seqs(catalog: &Catalog, pass: usize) -> Vec<u32> {
    catalog.pieces(&source(), id(pass)).unwrap().iter().map(|row| row.name().seq).collect()
}

/// Rows of `table` by source.
fn count(catalog: &Catalog, table: &str, source: &str) -> u32 {
    let sql = format!("SELECT count(*) FROM {table} WHERE source = ?1");
    catalog.conn().query_row(&sql, [source], |row| row.get(0)).unwrap()
}

fn passes(catalog: &Catalog) -> Vec<PassId> {
    catalog.passes(Some(&source())).unwrap().iter().map(|row| row.pass).collect()
}

#[test]
fn a_piece_goes_with_all_that_is_known_of_it_and_no_other() {
    let (_dir, catalog) = three();
    for _ in 0..2 {
        catalog.forget_pieces(&source(), id(0), &BTreeSet::from([2, 77])).unwrap();
        assert_eq!((seqs(&catalog, 0), seqs(&catalog, 1)), (vec![1, 3, 4], vec![1, 2, 3, 4]));
    }
    assert_eq!(catalog.exceptions(&source(), id(0)).unwrap().len(), 2);
    let counts = ["piece", "exception", "proof"].map(|table| count(&catalog, table, "data"));
    assert_eq!(counts, [11, 11, 8]);
    assert_eq!(count(&catalog, "piece", "other"), 12);
    catalog.check().unwrap();
    assert!(Catalog::open_read_only(catalog.file()).unwrap().passes(None).unwrap().len() == 6);
}

#[test]
fn a_pass_goes_with_its_last_piece_unless_it_is_the_newest() {
    let (_dir, catalog) = three();
    catalog.forget_pieces(&source(), id(1), &BTreeSet::from([1, 2])).unwrap();
    assert_eq!(passes(&catalog), [id(2), id(1), id(0)]);
    catalog.forget_pieces(&source(), id(1), &BTreeSet::from([4])).unwrap();
    assert_eq!((passes(&catalog), seqs(&catalog, 1)), (vec![id(2), id(0)], vec![]));
    catalog.forget_pieces(&source(), id(2), &BTreeSet::from([1, 2, 4])).unwrap();
    assert_eq!((passes(&catalog), seqs(&catalog, 2)), (vec![id(2), id(0)], vec![]));
    // It keeps what it was, and one that was newer when it was emptied goes when it is not any more.
    let newest = catalog.pass(&source(), id(2)).unwrap().unwrap();
    assert_eq!((newest.seen, newest.ended), (Some(40), Some(time())));
    let next = NewPass { pass: "20261201T200000Z".parse().unwrap(), ..new_pass() };
    catalog.begin_pass(&next).unwrap();
    catalog.forget_pieces(&source(), id(2), &BTreeSet::new()).unwrap();
    assert_eq!(passes(&catalog), [next.pass, id(0)]);
    assert_eq!(count(&catalog, "piece", "other"), 12);
    catalog.check().unwrap();
}

#[test]
fn what_is_on_its_way_is_not_forgotten() {
    let (_dir, catalog) = catalog();
    catalog.begin_pass(&new_pass()).unwrap();
    for (seq, path) in [(1, "a"), (2, "b")] {
        catalog.add_packed(&packed(seq, path, path), &[]).unwrap();
    }
    deliver(&catalog, &packed(1, "a", "a").name);
    for seqs in [&[1][..], &[2], &[]] {
        let forgotten = catalog.forget_pieces(&source(), pass(), &seqs.iter().copied().collect());
        assert!(matches!(forgotten, Err(CatalogError::Refused { .. })), "{forgotten:?}");
    }
    // All of it or nothing.
    let (_dir, ended) = three();
    let forgotten = ended.forget_pieces(&source(), id(0), &BTreeSet::from([1, 3]));
    assert!(matches!(forgotten, Err(CatalogError::Refused { .. })), "{forgotten:?}");
    assert_eq!(seqs(&ended, 0), [1, 2, 3, 4]);
    catalog.forget_pieces(&source(), id(0), &BTreeSet::from([1])).unwrap();
}
