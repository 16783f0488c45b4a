//! What the mailer knows, in a file: mails that wait for the server, and what was told when. So neither a restart nor
//! a crash loses a mail, and a daemon that is started again and again does not send one at each start.

use super::{digest::Recollection, letter::Mail};
use crate::{durable, fate::Chain};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const FILE: &str = "mails.json";
/// Held by the one process that mails from there.
const LOCK: &str = "mails.lock";
/// The queue is bounded, and so is every mail: a longer file is none of ours.
const SIZE_MAX: u64 = 64 << 20;

/// A mail that waits for the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    pub id: String,
    pub mail: Mail,
    pub written: Timestamp,
    /// Whether anybody has got it.
    pub arrived: bool,
    /// How many lost mails it tells of, once it was tried.
    pub told: u64,
    /// Addresses that have got it, or have refused it for good.
    pub done: Vec<String>,
}

/// All that a mailer knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Mails that nobody got; told in the next one that somebody does.
    pub lost: u64,
    pub letters: Vec<Letter>,
    pub digest: Recollection,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Stored {
    #[serde(rename = "1")]
    V1(Memory),
}

/// A place for the memory, in a directory that is there.
pub struct Spool {
    dir: PathBuf,
    lock: Option<File>,
    has_failed: bool,
}

impl Spool {
    /// With what is in it. Where another process mails from there, that is nothing, and nothing is kept.
    pub fn open(dir: &Path) -> (Spool, Memory) {
        let mut spool = Spool { dir: dir.to_owned(), lock: None, has_failed: false };
        if !spool.lock() {
            return (spool, Memory::default());
        }
        let path = dir.join(FILE);
        let memory = match read(&path) {
            Ok(memory) => memory,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(err) => {
                tracing::error!("Mails that waited cannot be read from {path:?}, and are lost: {}", Chain(&err));
                Memory::default()
            }
        };
        (spool, memory)
    }

    fn lock(&mut self) -> bool {
        if self.lock.is_none() {
            let path = self.dir.join(LOCK);
            let opened = durable::create(&path).ok().or_else(|| File::open(&path).ok());
            self.lock = opened.filter(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        }
        self.lock.is_some()
    }

    /// Writes all of it down. That this fails is told once: mails go out all the same.
    pub fn save(&mut self, memory: Memory) {
        if !self.lock() {
            return;
        }
        let text = serde_json::to_vec(&Stored::V1(memory)).expect("a memory is made of texts and numbers");
        match durable::write(&self.dir.join(FILE), &text) {
            Ok(()) => self.has_failed = false,
            Err(err) if self.has_failed => drop(err),
            Err(err) => {
                self.has_failed = true;
                tracing::warn!("Mails that wait would not survive a restart: {}", Chain(&err));
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Memory> {
    if fs::metadata(path)?.len() > SIZE_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let Stored::V1(memory) = serde_json::from_slice(&fs::read(path)?)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn memory() -> Memory {
        let letter = Letter {
            id: "c0ffee".to_owned(),
            mail: Mail::test(),
            written: Timestamp::UNIX_EPOCH,
            arrived: false,
            told: 0,
            done: vec!["a@b.org".to_owned()],
        };
        Memory { lost: 7, letters: vec![letter], digest: Recollection::default() }
    }

    #[test]
    fn what_is_kept_is_there_again_for_one_process_and_nobody_elses_eyes() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, nothing) = Spool::open(dir.path());
        assert!(nothing.letters.is_empty());
        spool.save(memory());
        let (mut other, of_other) = Spool::open(dir.path());
        assert_eq!((of_other.lost, of_other.letters.len()), (0, 0), "Somebody mails from there");
        other.save(Memory::default());
        drop(spool);
        let (spool, again) = Spool::open(dir.path());
        assert_eq!((again.lost, &*again.letters[0].done), (7, &["a@b.org".to_owned()][..]));
        assert_eq!(again.letters[0].mail, Mail::test());
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(spool);
        // Damage is told, and is no reason not to mail.
        fs::write(dir.path().join(FILE), "{\"version\":\"1\",\"lost\":").unwrap();
        assert!(Spool::open(dir.path()).1.letters.is_empty());
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("state");
        let (mut spool, _) = Spool::open(&none);
        spool.save(memory());
        assert!(!none.exists());
        // It may be there later.
        fs::create_dir(&none).unwrap();
        spool.save(memory());
        assert!(none.join(FILE).exists());
    }
}
