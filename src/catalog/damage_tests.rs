//! Damage is not absence: whatever is done to the file, a catalog is opened as it was, or not at all.

use super::{tests::*, *};
use crate::{
    fate::{Fate, Fateful, Trouble},
    notice::{Exception, Reason},
};
use std::fs;

/// Everything that a catalog says.
#[derive(Debug, PartialEq)]
struct Said {
    vault: Option<String>,
    uploads: Vec<(String, String)>,
    passes: Vec<PassRow>,
    pieces: Vec<PieceRow>,
    exceptions: Vec<(u32, Exception)>,
    totals: Totals,
}

fn said(catalog: &Catalog) -> Result<Said> {
    Ok(Said {
        vault: catalog.setting("vault")?,
        uploads: catalog.uploads()?,
        passes: catalog.passes(None)?,
        pieces: catalog.pieces(&source(), pass())?,
        exceptions: catalog.exceptions(&source(), pass())?,
        totals: catalog.totals(&source(), pass())?,
    })
}

/// The bytes of a catalog that was closed, and what it says.
fn whole() -> (Vec<u8>, Said) {
    let (_dir, catalog) = catalog();
    catalog.set_setting("vault", "v-4711").unwrap();
    catalog.begin_pass(&new_pass()).unwrap();
    for seq in 1..=12 {
        let (first, last) = (format!("dir {seq:02}/a"), format!("dir {seq:02}/z"));
        let exceptions: Vec<_> = (0..3).map(|number| exception(&format!("{first}/{number}"), Reason::Denied)).collect();
        let piece = packed(seq, &first, &last);
        catalog.add_packed(&piece, &exceptions).unwrap();
        catalog.set_compressed(&piece.name, &compressed()).unwrap();
        catalog.set_sealed(&piece.name, &sealed()).unwrap();
    }
    catalog.save_upload("key", "{\"parts\":[]}").unwrap();
    let (file, said) = (catalog.file().to_owned(), said(&catalog).unwrap());
    drop(catalog);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "closing leaves one file");
    (fs::read(file).unwrap(), said)
}

fn assert_damaged(err: &CatalogError, what: &str) {
    assert!(matches!(err, CatalogError::Damaged { .. }), "{what}: {err:?}");
    assert_eq!((err.fate(), err.trouble(), err.trouble().exit_code()), (Fate::Operator, Trouble::State, 7), "{what}");
}

/// Opens these bytes. What fails leaves the file as it was.
fn open_bytes(bytes: &[u8], open: fn(&Path) -> Result<Catalog>) -> Result<Said> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog");
    fs::write(&file, bytes).unwrap();
    let opened = open(&file).and_then(|catalog| said(&catalog));
    assert!(opened.is_ok() || fs::read(&file).unwrap() == bytes, "{opened:?}: the file was changed");
    opened
}

const WAYS: [fn(&Path) -> Result<Catalog>; 2] = [Catalog::open, Catalog::open_read_only];

#[test]
fn what_is_no_catalog_is_an_error_and_stays() {
    let (bytes, said) = whole();
    for open in WAYS {
        assert_eq!(open_bytes(&bytes, open).unwrap(), said);
    }
    let foreign = {
        let dir = tempfile::tempdir().unwrap();
        let conn = Connection::open(dir.path().join("other")).unwrap();
        conn.execute_batch("CREATE TABLE bookmark (url TEXT)").unwrap();
        drop(conn);
        fs::read(dir.path().join("other")).unwrap()
    };
    for (what, bytes) in [
        ("empty", vec![]),
        ("one byte", vec![b'S']),
        ("text", b"passes: none\n".to_vec()),
        ("long text", b"passes: none\n".repeat(1000)),
        ("zeros", vec![0; bytes.len()]),
        ("one zero page", vec![0; 4096]),
        ("zeroed header", [&[0; 100], &bytes[100..]].concat()),
        ("zeroed first page", [&[0; 4096], &bytes[4096..]].concat()),
        ("zeroed tail", [&bytes[..bytes.len() / 2], &vec![0; bytes.len() - bytes.len() / 2]].concat()),
        ("another program's", foreign),
    ] {
        for open in WAYS {
            let err = open_bytes(&bytes, open).unwrap_err();
            assert_damaged(&err, what);
            // SQLite would take it for a database without tables.
            assert_eq!(err.to_string().contains("it is empty"), bytes.is_empty(), "{err}");
        }
    }
}

#[test]
fn a_truncated_file_is_damaged() {
    let (bytes, expected) = whole();
    for len in (1..bytes.len()).step_by(4096 / 3).chain([16, 99, 100, 101, 4095, 4096, 4097, bytes.len() - 1]) {
        for open in WAYS {
            match open_bytes(&bytes[..len], open) {
                // SQLite reads what is missing of the last page as zeros.
                Ok(said) => assert!(said == expected && bytes[len..].iter().all(|b| *b == 0), "{len} bytes"),
                Err(err) => assert_damaged(&err, &format!("{len} bytes")),
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_found_or_changes_nothing() {
    let (bytes, expected) = whole();
    let header = (0..100).flat_map(|at| [0x01, 0x80].map(|mask| (at, mask)));
    let pages = (100..bytes.len()).step_by(409).map(|at| (at, 1 << (at % 8)));
    let mut found = 0;
    for (at, mask) in header.chain(pages) {
        let mut flipped = bytes.clone();
        flipped[at] ^= mask;
        let what = format!("byte {at} ^ {mask:#x}");
        match open_bytes(&flipped, Catalog::open) {
            Ok(said) => assert_eq!(said, expected, "{what}"),
            Err(err) => {
                assert_eq!((err.fate(), err.trouble()), (Fate::Operator, Trouble::State), "{what}: {err:?}");
                found += 1;
            }
        }
    }
    assert!(found > 100, "{found} flips were found");
}

#[test]
fn a_flipped_bit_in_a_value_is_found() {
    let (bytes, _) = whole();
    for value in [
        &b"v-4711"[..],
        b"nas1",
        b"dir_07.a_to_z",
        &[b'5'; 64],
        b"dir 07\0z",
        b"Permission denied",
        b"{\"parts\":[]}",
        b"sealed",
    ] {
        // Every place where it is stored: in a table, and in its proof.
        let places: Vec<_> = bytes.windows(value.len()).enumerate().filter(|(_, at)| *at == value).collect();
        let mut found = 0;
        for (at, _) in &places {
            let mut flipped = bytes.clone();
            flipped[at + value.len() - 1] ^= 0x02;
            found += usize::from(open_bytes(&flipped, Catalog::open).is_err());
        }
        assert!(places.len() >= 2, "{:?} {}", String::from_utf8_lossy(value), places.len());
        // Pages keep bytes of rows that moved: those may be flipped.
        assert!(found >= 2, "{:?}: {found} of {}", String::from_utf8_lossy(value), places.len());
    }
}

#[test]
fn a_table_that_became_another_is_found() {
    let (bytes, _) = whole();
    // Still a statement that SQLite takes, and to which all rows keep.
    let (was, became) = (b"last_seq INTEGER NOT NULL DEFAULT 0", b"last_seq INTEGER NOT NULL DEFAULT 8");
    // Pages keep bytes of rows that moved.
    let places: Vec<_> = (0..bytes.len() - was.len()).filter(|at| bytes[*at..].starts_with(was)).collect();
    let mut bytes = bytes;
    for at in places {
        bytes[at..at + became.len()].copy_from_slice(became);
    }
    for open in WAYS {
        let err = open_bytes(&bytes, open).unwrap_err();
        assert_damaged(&err, "table");
        assert!(err.to_string().contains("its tables are not"), "{err}");
    }
}

#[test]
fn a_newer_version_is_left_to_a_newer_program() {
    let (mut bytes, _) = whole();
    // The user version, in the header of the file format.
    bytes[60..64].copy_from_slice(&3_u32.to_be_bytes());
    for open in WAYS {
        let err = open_bytes(&bytes, open).unwrap_err();
        assert!(matches!(err, CatalogError::Newer { found: 3, known: 2, .. }), "{err:?}");
        assert_eq!((err.fate(), err.trouble().exit_code()), (Fate::Operator, 7));
    }
    bytes[60..64].copy_from_slice(&0_u32.to_be_bytes());
    for open in WAYS {
        assert_damaged(&open_bytes(&bytes, open).unwrap_err(), "no version");
    }
}

#[test]
fn what_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_damaged(&Catalog::open(dir.path()).unwrap_err(), "a directory");
    assert_damaged(&Catalog::open_read_only(dir.path()).unwrap_err(), "a directory");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert!(matches!(Catalog::open(&link).unwrap_err(), CatalogError::Disk(_)));
    assert!(!dir.path().join("nowhere").exists());
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let err = Catalog::open(&file.join("catalog")).unwrap_err();
    assert_eq!((err.fate(), err.trouble()), (Fate::Operator, Trouble::State));
}

#[test]
fn a_log_without_its_catalog_is_not_a_fresh_start() {
    for end in ["-wal", "-shm", "-journal"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("catalog{end}")), "").unwrap();
        let file = dir.path().join("catalog");
        assert_damaged(&Catalog::open(&file).unwrap_err(), end);
        assert_damaged(&Catalog::open_read_only(&file).unwrap_err(), end);
        assert!(!file.exists());
    }
}

#[test]
fn reading_never_creates() {
    let dir = tempfile::tempdir().unwrap();
    let err = Catalog::open_read_only(&dir.path().join("state/catalog")).unwrap_err();
    assert!(matches!(err, CatalogError::Missing { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_creation_that_was_cut_off_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, draft) = (dir.path().join("catalog"), dir.path().join("catalog.new"));
    fs::write(&draft, &whole().0[..5000]).unwrap();
    assert_eq!(said(&Catalog::open(&file).unwrap()).unwrap().passes, []);
    assert!(!draft.exists());
}
