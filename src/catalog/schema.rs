//! The tables, by version. A version that was released never changes; a new one is a new step.

use rusqlite::Connection;

/// `PRAGMA application_id`: "Arcv". Says that a SQLite file is a catalog of ours.
pub const APPLICATION_ID: u32 = u32::from_be_bytes(*b"Arcv");

/// What leads from each version to the next; the first from nothing to version 1.
const STEPS: [&str; 2] = [V1, V2];

/// `PRAGMA user_version` of what this program writes.
pub const VERSION: u32 = STEPS.len() as u32;

/// The indexes named `*_proof` cover all columns of their tables. No query needs them: they hold everything a
/// second time, so that a flipped bit in either makes `PRAGMA integrity_check` fail. SQLite has no checksums.
const V1: &str = "
CREATE TABLE setting (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
CREATE INDEX setting_proof ON setting (name, value);

CREATE TABLE pass (
    source TEXT NOT NULL,
    pass TEXT NOT NULL,
    host TEXT NOT NULL,
    source_id TEXT NOT NULL,
    filter_sha256 TEXT NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT 0,
    seen INTEGER,
    ended TEXT,
    PRIMARY KEY (source, pass)
) STRICT;
CREATE UNIQUE INDEX pass_open ON pass (source) WHERE ended IS NULL;
CREATE INDEX pass_proof ON pass (source, pass, host, source_id, filter_sha256, last_seq, seen, ended);

CREATE TABLE piece (
    source TEXT NOT NULL,
    pass TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    label TEXT,
    first BLOB NOT NULL,
    last BLOB NOT NULL CHECK (last >= first),
    position BLOB NOT NULL CHECK (position >= last),
    segment_index INTEGER,
    segment_count INTEGER,
    segment_offset INTEGER,
    segment_len INTEGER,
    segment_file_size INTEGER,
    segment_state TEXT,
    members INTEGER NOT NULL,
    tar_size INTEGER NOT NULL,
    tar_sha256 TEXT NOT NULL,
    counts TEXT NOT NULL,
    seen INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    replaces INTEGER,
    packed_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('packed', 'compressed', 'sealed', 'delivered', 'retired')),
    compressed_size INTEGER,
    compressed_sha256 TEXT,
    sealed_size INTEGER,
    sealed_sha256 TEXT,
    sealed_crc64 INTEGER,
    manifest_size INTEGER,
    manifest_crc64 INTEGER,
    archived_read_back INTEGER,
    key TEXT UNIQUE,
    manifest_key TEXT UNIQUE,
    delivered_at TEXT,
    retired_why TEXT,
    replaced_done INTEGER NOT NULL DEFAULT 0 CHECK (replaced_done IN (0, 1)),
    PRIMARY KEY (source, pass, seq),
    FOREIGN KEY (source, pass) REFERENCES pass (source, pass),
    FOREIGN KEY (source, pass, replaces) REFERENCES piece (source, pass, seq)
) STRICT;
CREATE INDEX piece_range ON piece (source, pass, first, last);
CREATE INDEX piece_waiting ON piece (state, replaced_done) WHERE state <> 'delivered';
CREATE INDEX piece_proof ON piece (
    source, pass, seq, label, first, last, position, segment_index, segment_count, segment_offset, segment_len,
    segment_file_size, segment_state, members, tar_size, tar_sha256, counts, seen, archived, lost, replaces,
    packed_at, state, compressed_size, compressed_sha256, sealed_size, sealed_sha256, sealed_crc64, manifest_size,
    manifest_crc64, archived_read_back, key, manifest_key, delivered_at, retired_why, replaced_done
);

CREATE TABLE exception (
    source TEXT NOT NULL,
    pass TEXT NOT NULL,
    path BLOB NOT NULL,
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    reason TEXT NOT NULL,
    errno INTEGER,
    detail TEXT NOT NULL,
    FOREIGN KEY (source, pass, seq) REFERENCES piece (source, pass, seq)
) STRICT;
CREATE UNIQUE INDEX exception_of ON exception (source, pass, seq, number);
CREATE INDEX exception_proof ON exception (source, pass, path, seq, number, reason, errno, detail);

CREATE TABLE upload (
    key TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX upload_proof ON upload (key, record);
";

/// When a piece was last proven, by each way of proving; and restores under way, as their room wrote them.
const V2: &str = "
CREATE TABLE proof (
    source TEXT NOT NULL,
    pass TEXT NOT NULL,
    seq INTEGER NOT NULL,
    how TEXT NOT NULL CHECK (how IN ('listed', 'hashed', 'opened')),
    at TEXT NOT NULL,
    PRIMARY KEY (source, pass, seq, how),
    FOREIGN KEY (source, pass, seq) REFERENCES piece (source, pass, seq)
) STRICT;
CREATE INDEX proof_proof ON proof (source, pass, seq, how, at);

CREATE TABLE restore (
    job TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX restore_proof ON restore (job, record);
";

/// Brings a database from version `from` to [`VERSION`], in one transaction.
pub fn migrate(conn: &mut Connection, from: u32) -> Result<(), rusqlite::Error> {
    let tx = conn.transaction()?;
    for step in STEPS.iter().skip(from as usize) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

/// Every table and index, as SQLite keeps the statements that made them. It parses them again at every opening,
/// so a flipped bit there could change what a column is.
pub fn dump(conn: &Connection) -> Result<Vec<(String, String, Option<String>)>, rusqlite::Error> {
    conn.prepare("SELECT type || ' ' || name, tbl_name, sql FROM sqlite_schema ORDER BY 1")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// What [`dump`] tells of a catalog that is as it should be.
pub fn expected() -> Result<Vec<(String, String, Option<String>)>, rusqlite::Error> {
    let mut conn = Connection::open_in_memory()?;
    migrate(&mut conn, 0)?;
    dump(&conn)
}
