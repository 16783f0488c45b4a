//! Whether the working directory can be worked in: its room, its speed, and that what is written is read. For
//! `archiver doctor` and `archiver status`; nothing here takes the lock.

use crate::{
    durable::{self, DurableError, at},
    fate::Chain,
    finding::Findings,
    units::ByteSize,
};
use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

/// What is written and read to see how fast that goes …
const TRIED_LEN: u64 = 256 * ByteSize::MIB;
/// … unless the disk is so slow that this is long enough.
const TRIED_FOR: Duration = Duration::from_secs(20);
const BLOCK_LEN: usize = ByteSize::MIB as usize;
/// A pass has a few files at a time, of a few pieces.
const FILES_LEAST: u64 = 1_000;
/// Below so many bytes per second, xz at its slowest waits for the disk.
const SLOW: f64 = 10e6;

/// Whether a daemon holds the lock.
pub fn is_in_use(root: &Path) -> bool {
    File::open(root.join("lock"))
        .is_ok_and(|lock| rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_err())
}

/// Allocated bytes below a directory, as far as we may look.
pub fn used_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.metadata().ok().map(|meta| (entry.path(), meta)))
        .map(|(path, meta)| meta.blocks() * 512 + if meta.is_dir() { used_below(&path) } else { 0 })
        .sum()
}

/// `nonce` is in the name of the file that is tried, which is never seen for longer than a moment.
pub fn probe(root: &Path, cap: u64, nonce: &str, out: &mut Findings<'_>) {
    let Some(place) = root.ancestors().find(|place| place.exists()) else {
        return out.problem("staging", format!("{root:?} is nowhere"), "Correct staging.path");
    };
    if !place.is_dir() {
        return out.problem("staging", format!("{place:?} is no directory"), "Correct staging.path");
    }
    match (place == root, is_in_use(root)) {
        (true, true) => out.ok("staging", format!("{root:?} is in use by a daemon; nothing is written beside it")),
        (true, false) => out.ok("staging", format!("{root:?} is there, and not in use")),
        (false, _) => out.ok("staging", format!("{root:?} is not there yet: the first run makes it")),
    }
    let used = used_below(root);
    let free = match durable::free(place) {
        Ok(free) => free,
        Err(err) => return out.problem("staging-room", Chain(&err).to_string(), DISK),
    };
    room(free, used, cap, out);
    if is_in_use(root) {
        return;
    }
    let len = TRIED_LEN.min(cap.saturating_sub(used) / 2).min(free.bytes / 2) / BLOCK_LEN as u64;
    if len == 0 {
        return out.warning(
            "staging-speed",
            "there is no room to try it",
            "Let what is there be delivered, or make room",
        );
    }
    match speed(place, nonce, len) {
        Ok(Some(speed)) => speed.tell(out),
        Ok(None) => out.problem("staging-speed", "other bytes are read than were written", DISK),
        Err(err) => out.problem("staging-speed", Chain(&err).to_string(), DISK),
    }
}

const DISK: &str = "Look at the rights of the directory, and at `dmesg` and `smartctl` for what the disk says";

fn room(free: durable::Free, used: u64, cap: u64, out: &mut Findings<'_>) {
    let (all, shown) = (free.bytes.saturating_add(used), ByteSize);
    if all < cap {
        let what = format!(
            "{} are free and {} in use, less than the cap of {}: the disk would be full before",
            shown(free.bytes),
            shown(used),
            shown(cap)
        );
        out.problem("staging-room", what, "Make room, lower staging.cap, or move staging.path to a larger disk");
    } else {
        let what = format!("{} are free; the cap is {}, {} in use", shown(free.bytes), shown(cap), shown(used));
        out.ok("staging-room", what);
    }
    if let Some(files) = free.files.filter(|files| *files < FILES_LEAST) {
        let what = format!("only {files} more files can be made on this disk");
        out.warning("staging-files", what, "Remove files, or make the filesystem anew with more inodes");
    }
}

struct Speed {
    len: u64,
    write: Duration,
    read: Duration,
}

impl Speed {
    fn tell(&self, out: &mut Findings<'_>) {
        let rate = |took: Duration| self.len as f64 / took.as_secs_f64().max(1e-6);
        let (write, read) = (rate(self.write), rate(self.read));
        let len = ByteSize(self.len);
        let what = format!("{len} are written durably at {:.0} MB/s, and read at {:.0} MB/s", write / 1e6, read / 1e6);
        if write.min(read) < SLOW {
            out.warning("staging-speed", what, "Everything goes through here several times: use a faster disk");
        } else {
            out.ok("staging-speed", what);
        }
    }
}

/// `None` where other bytes are read than were written. `blocks` are those of [`BLOCK_LEN`].
fn speed(place: &Path, nonce: &str, blocks: u64) -> Result<Option<Speed>, DurableError> {
    let path = place.join(format!(".archiver-doctor-{nonce}"));
    let file = durable::create(&path)?;
    // Without a name it goes with us, however we end.
    fs::remove_file(&path).map_err(at("remove", &path))?;
    let mut block = noise();
    let (began, mut written) = (Instant::now(), 0);
    while written < blocks && began.elapsed() < TRIED_FOR {
        number(&mut block, written);
        durable::write_at(&file, &path, &block, written * BLOCK_LEN as u64)?;
        written += 1;
    }
    durable::sync(&file, &path)?;
    let write = began.elapsed();
    let len = written * BLOCK_LEN as u64;
    durable::forget_cached(&file, 0, len);
    let (began, mut back) = (Instant::now(), vec![0; BLOCK_LEN]);
    for index in 0..written {
        number(&mut block, index);
        file.read_exact_at(&mut back, index * BLOCK_LEN as u64).map_err(at("read", &path))?;
        if back != block {
            return Ok(None);
        }
    }
    Ok(Some(Speed { len, write, read: began.elapsed() }))
}

/// Bytes that no disk can make smaller.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; BLOCK_LEN];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Makes a block unlike all others, wherever it is cut.
fn number(block: &mut [u8], index: u64) {
    for chunk in block.chunks_exact_mut(4096) {
        chunk[..8].copy_from_slice(&index.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fate::Trouble,
        finding::{Finding, State},
        staging::Staging,
    };

    fn probed(root: &Path, cap: u64) -> Vec<(&'static str, State, String)> {
        let mut found = Vec::new();
        let mut tell = |finding: Finding| found.push((finding.check, finding.state, finding.what));
        probe(root, cap, "test", &mut Findings::new(Trouble::Staging, &mut tell));
        found
    }

    #[test]
    fn it_is_tried_whether_it_is_there_or_not_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        for root in [dir.path().to_owned(), dir.path().join("not/yet")] {
            let found = probed(&root, 8 << 20);
            let states: Vec<_> = found.iter().map(|(check, state, _)| (*check, *state)).collect();
            let ok = |check| (check, State::Ok);
            assert_eq!(states[..2], [ok("staging"), ok("staging-room")], "{found:?}");
            assert_eq!(states.last().unwrap().0, "staging-speed", "{found:?}");
            assert!(found.last().unwrap().2.starts_with("4.00 MiB") || found.last().unwrap().2.starts_with("4 MiB"));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_running_daemon_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let _staging = Staging::open(dir.path(), 8 << 20).unwrap();
        let found = probed(dir.path(), 8 << 20);
        assert!(found[0].2.contains("in use by a daemon") && found.len() == 2, "{found:?}");
    }

    #[test]
    fn a_disk_smaller_than_the_cap_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let found = probed(dir.path(), u64::MAX);
        assert_eq!((found[1].0, found[1].1), ("staging-room", State::Problem), "{found:?}");
        let mut told = Vec::new();
        let mut tell = |finding: Finding| told.push((finding.check, finding.state));
        let mut out = Findings::new(Trouble::Staging, &mut tell);
        room(durable::Free { bytes: 6, files: Some(999) }, 4, 10, &mut out);
        room(durable::Free { bytes: 5, files: None }, 4, 10, &mut out);
        let expected = [State::Ok, State::Warning, State::Problem];
        assert_eq!(told.iter().map(|(_, state)| *state).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_in_the_way_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        for root in [file.clone(), file.join("below")] {
            assert_eq!(probed(&root, 1 << 20)[0].1, State::Problem);
        }
    }
}
