//! A process that is killed in the middle of its transactions, and readers in other processes.

use super::{tests::*, *};
use crate::notice::Reason;
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

/// Tells the writing process where its catalog is.
const FILE_VAR: &str = "ARCHIVER_TEST_CATALOG";
/// Exceptions of every piece that the writer adds: enough that a kill mostly falls into a transaction.
const EXCEPTIONS: usize = 300;

/// Not a test by itself: the process that `writer` starts. Adds pieces for ever, and prints the seq of each when
/// it is durable.
#[test]
fn the_writing_process() {
    let Some(file) = std::env::var_os(FILE_VAR) else { return };
    let catalog = Catalog::open(Path::new(&file)).unwrap();
    catalog.begin_pass(&new_pass()).unwrap();
    loop {
        let seq = catalog.next_seq(&source(), pass()).unwrap();
        let piece = packed(seq, &format!("{seq:06}"), &format!("{seq:06}/z"));
        let exceptions: Vec<_> =
            (0..EXCEPTIONS).map(|number| exception(&format!("{seq:06}/{number}"), Reason::Denied)).collect();
        catalog.add_packed(&piece, &exceptions).unwrap();
        // Fails when nobody reads any more, so that no writer outlives its test.
        writeln!(std::io::stdout(), "durable {seq}").unwrap();
    }
}

/// A process that writes to a catalog until it is killed.
struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Writer {
    fn start(file: &Path) -> Writer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "catalog::crash_tests::the_writing_process", "--nocapture", "--test-threads=1"])
            .env(FILE_VAR, file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Writer { child, lines }
    }

    /// The seq of the next piece that the writer says is durable; `None` when it is gone.
    fn next(&mut self) -> Option<u32> {
        let seq =
            |line: std::io::Result<String>| line.unwrap().strip_prefix("durable ").map(|seq| seq.parse().unwrap());
        self.lines.by_ref().find_map(seq)
    }

    /// Kills it as `kill -9` does, and tells the last piece that it said is durable.
    fn kill(mut self) -> u32 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).last().unwrap_or(0)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every piece is there from 1 on, with all of its exceptions; tells how many there are.
fn consistent(catalog: &Catalog) -> u32 {
    let sql = "SELECT (SELECT count(*) FROM piece), (SELECT ifnull(max(seq), 0) FROM piece), \
               (SELECT count(*) FROM exception), (SELECT ifnull(max(last_seq), 0) FROM pass)";
    let (pieces, last, exceptions, last_seq): (u32, u32, usize, u32) = catalog
        .read("count", |conn| conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))))
        .unwrap();
    assert_eq!((pieces, pieces, exceptions), (last, last_seq, pieces as usize * EXCEPTIONS));
    pieces
}

#[test]
fn a_killed_writer_leaves_all_that_it_said_is_durable_and_nothing_by_halves() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog");
    let mut durable = 0;
    for lines in [0, 1, 3, 1, 7, 2] {
        let mut writer = Writer::start(&file);
        let mut said = durable;
        for _ in 0..lines {
            said = writer.next().unwrap();
        }
        said = said.max(writer.kill());
        if file.exists() {
            let found = consistent(&Catalog::open(&file).unwrap());
            // One more may be durable whose line was not written any more.
            assert!(found == said || found == said + 1, "{found} pieces, {said} were said to be durable");
            durable = found;
        }
    }
    assert!(durable >= 14, "{durable}");
}

#[test]
fn another_process_sees_only_whole_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog");
    let mut writer = Writer::start(&file);
    for _ in 0..5 {
        let said = writer.next().unwrap();
        let reader = Catalog::open_read_only(&file).unwrap();
        let first = consistent(&reader);
        assert!(first >= said, "{first} pieces, {said} were said to be durable");
        // The writer may be ahead of what we have read of its lines.
        while writer.next().unwrap() <= first {}
        assert!(consistent(&reader) > first);
    }
    // A second writer waits for its turn.
    let second = Catalog::open(&file).unwrap();
    second.set_setting("host", "nas1").unwrap();
    writer.next().unwrap();
    second.backup_to(&dir.path().join("copy")).unwrap();
    consistent(&Catalog::open(&dir.path().join("copy")).unwrap());
    let last = writer.kill();
    assert!(consistent(&second) >= last);
}
