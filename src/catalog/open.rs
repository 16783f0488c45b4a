//! Opening, creating and checking the file.
//!
//! The file itself is never opened here but through SQLite: closing any descriptor of a file drops all POSIX
//! locks that the process holds on it (fcntl(2)), also those of another connection, and the database could be
//! damaged by the next process that believes itself alone (sqlite.org/howtocorrupt.html, 2.2).

use super::{
    CatalogError, Result, index,
    schema::{self, APPLICATION_ID, VERSION},
};
use crate::durable;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a call waits for another process's transaction. Those are short; a checkpoint on a slow disk is not.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// What SQLite keeps beside the file while it is open, and after a crash; and the copy of the last day.
const BESIDE: [&str; 4] = ["-wal", "-shm", "-journal", super::backup::COPY];

pub fn open(file: &Path) -> Result<(PathBuf, Connection)> {
    let file = absolute(file)?;
    if !is_there(&file)? {
        create(&file)?;
    }
    index::look_for_room(&file)?;
    let fail = |err| CatalogError::of("open", &file, err);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(&file, flags).map_err(fail)?;
    configure(&conn).map_err(|err| unreadable(&file, err))?;
    let version = version(&conn, &file)?;
    if conn.is_readonly("main").map_err(fail)? {
        // SQLite opens a file that cannot be written for reading, and says so only at the first change.
        return refuse(&file, "it cannot be written");
    }
    if version < VERSION {
        integrity(&conn, &file)?;
        schema::migrate(&mut conn, version).map_err(fail)?;
    }
    check(&conn, &file)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(fail)?;
    if mode != "wal" {
        return refuse(&file, "its filesystem has no shared memory for a write-ahead log");
    }
    // Only now the log and its index are there, also of a file that had none.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(fail)?;
    // A copy that was brought back by hand may be readable by others; its names are nobody else's.
    fs::set_permissions(&file, Permissions::from_mode(durable::FILE_MODE))
        .map_err(durable::at("set the mode of", &file))?;
    Ok((file, conn))
}

/// Says that this process uses the catalog, to whoever would put it aside. The lock is on the directory, which no room
/// but this one locks; where a filesystem has no such locks, there is none.
pub fn in_use(file: &Path) -> Result<Option<File>> {
    let file = absolute(file)?;
    let dir = dir_of(&file);
    durable::create_dir(dir)?;
    let held = File::open(dir).map_err(durable::at("open", dir))?;
    Ok(flock(&held, FlockOperation::LockShared).is_ok().then_some(held))
}

pub fn open_read_only(file: &Path) -> Result<(PathBuf, Connection)> {
    let file = absolute(file)?;
    if !is_there(&file)? {
        return Err(CatalogError::Missing { path: file });
    }
    index::look_for_room(&file)?;
    let fail = |err| CatalogError::of("open", &file, err);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&file, flags).map_err(fail)?;
    configure(&conn).map_err(|err| unreadable(&file, err))?;
    if version(&conn, &file)? < VERSION {
        return refuse(&file, "it is of an older version, and is brought up to date when the daemon starts");
    }
    check(&conn, &file)?;
    Ok((file, conn))
}

/// Whether there is a catalog; an error when there is something else, or only what was left of one.
fn is_there(file: &Path) -> Result<bool> {
    match fs::metadata(file) {
        Ok(meta) if !meta.is_file() => Err(CatalogError::damaged(file, "it is not a file", None)),
        // SQLite would take an empty file for a new database.
        Ok(meta) if meta.len() == 0 => Err(CatalogError::damaged(file, "it is empty", None)),
        Ok(_) => Ok(true),
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(durable::at("examine", file)(err).into()),
        Err(_) => {
            // A log beside a new database would be replayed into it. All of them say that there was an old one, and who
            // began a new one would forget what is under way and what was delivered.
            for end in BESIDE {
                let beside = with_end(file, end);
                if fs::symlink_metadata(&beside).is_ok() {
                    // Another process may have made both just now, the catalog first.
                    if fs::metadata(file).is_ok_and(|meta| meta.len() > 0) {
                        return Ok(true);
                    }
                    return Err(CatalogError::damaged(file, format!("it is gone, but {beside:?} is there"), None));
                }
            }
            Ok(false)
        }
    }
}

/// Makes an empty catalog under another name first: a crash leaves either none or a whole one.
fn create(file: &Path) -> Result<()> {
    if let Some(dir) = file.parent() {
        durable::create_dir(dir)?;
    }
    let tmp = with_end(file, ".new");
    durable::remove(&tmp)?;
    let draft = durable::create(&tmp)?;
    let fill = || {
        let mut conn = Connection::open_with_flags(&tmp, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // A draft needs no journal; what a crash leaves of it is removed.
        conn.pragma_update(None, "journal_mode", "off")?;
        schema::migrate(&mut conn, 0)?;
        conn.close().map_err(|(_, err)| err)
    };
    fill().map_err(|err| CatalogError::of("create", file, err))?;
    durable::publish_new(&draft, &tmp, file)?;
    Ok(())
}

/// Settings of the connection; none of them changes the file.
pub(super) fn configure(conn: &Connection) -> std::result::Result<(), rusqlite::Error> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // A damaged file must not run what is written in it, and is better noticed early.
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)
}

/// The version of the file, which is ours and not newer than this program.
pub(super) fn version(conn: &Connection, file: &Path) -> Result<u32> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let fail = |err| unreadable(file, err);
    if pragma("application_id").map_err(fail)?.cast_unsigned() != APPLICATION_ID {
        return Err(CatalogError::damaged(file, "it is not a catalog of archiver", None));
    }
    match pragma("user_version").map_err(fail)?.cast_unsigned() {
        0 => Err(CatalogError::damaged(file, "it says no version", None)),
        found if found > VERSION => Err(CatalogError::Newer { path: file.to_owned(), found, known: VERSION }),
        found => Ok(found),
    }
}

/// Whether the file is whole and has the tables of this version.
pub fn check(conn: &Connection, file: &Path) -> Result<()> {
    let fail = |err| unreadable(file, err);
    if schema::dump(conn).map_err(fail)? != schema::expected().map_err(fail)? {
        return Err(CatalogError::damaged(file, "its tables are not those of its version", None));
    }
    integrity(conn, file)
}

pub(super) fn integrity(conn: &Connection, file: &Path) -> Result<()> {
    let fail = |err| unreadable(file, err);
    // Not `quick_check`: only this one compares tables with their indexes, and so everything with its proof. It
    // says one thing that is wrong, or `ok`.
    let said: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if said != "ok" {
        return Err(CatalogError::damaged(file, said, None));
    }
    let mut orphans = conn.prepare("PRAGMA foreign_key_check").map_err(fail)?;
    if orphans.exists([]).map_err(fail)? {
        return Err(CatalogError::damaged(file, "some of its rows belong to nothing", None));
    }
    Ok(())
}

/// While a file is being checked, whatever SQLite cannot make sense of is damage: a flipped bit may also look
/// like a statement that does not parse, or a format that is not supported.
pub(super) fn unreadable(file: &Path, err: rusqlite::Error) -> CatalogError {
    match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::Unknown) | None => CatalogError::damaged(file, "it cannot be read", Some(err)),
        _ => CatalogError::of("check", file, err),
    }
}

fn refuse<T>(file: &Path, why: &str) -> Result<T> {
    Err(CatalogError::Refused { attempt: "open", path: file.to_owned(), why: why.to_owned() })
}

/// SQLite takes a relative `file:x` for a URI.
pub fn absolute(file: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(file).map_err(durable::at("find", file))?)
}

pub fn dir_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

pub fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
