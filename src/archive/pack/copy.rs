//! The bytes of a file, or of a range of it: exactly as many as were announced, come what may.

use super::{
    PackError, Packer,
    cache::Cache,
    packed::{Copied, HashState},
    under_way::UnderWay,
};
use sha2::{Digest, Sha256};
use std::{fs::File, io};

/// Bytes that are read at a time.
pub const BUFFER_LEN: usize = 1 << 20;
/// Bytes that are read at a time where a file fails; what can be read around them is not lost.
const PAGE_LEN: u64 = 4096;
/// Of holes and padding.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// How far a range was read, and what was found.
pub struct Reading {
    at: u64,
    /// The first extent that may reach beyond `at`.
    extent: usize,
    /// Errors are expected before here: read by the page.
    careful_until: u64,
    /// Nothing follows: the file is shorter than the range.
    has_ended: bool,
    pub sha256: Sha256,
    /// Over the whole file, when this is a segment.
    pub file_sha256: Option<Sha256>,
    /// Stopped at a failure, and may be tried again or gone on with.
    pub is_broken: bool,
    /// Bytes that were replaced by zeros.
    pub lost: u64,
    /// Where in the file the first of them is, and the system's error; without one the file came short.
    pub trouble: Option<(u64, Option<i32>)>,
}

impl Reading {
    pub fn new(file_sha256: Option<Sha256>) -> Reading {
        Reading {
            at: 0,
            extent: 0,
            careful_until: 0,
            has_ended: false,
            sha256: Sha256::new(),
            file_sha256,
            is_broken: false,
            lost: 0,
            trouble: None,
        }
    }

    /// Goes on where a mark stands.
    pub fn resume(copied: &Copied) -> Option<Reading> {
        let file_sha256 = match &copied.file_sha256_state {
            Some(state) => Some(state.hasher()?),
            None => None,
        };
        Some(Reading {
            at: copied.len,
            sha256: copied.sha256_state.hasher()?,
            lost: copied.lost,
            trouble: copied.trouble,
            ..Reading::new(file_sha256)
        })
    }

    /// What a mark must say of it.
    pub fn copied(&self, under_way: &UnderWay) -> Copied {
        Copied {
            member: under_way.member.clone(),
            troubles: under_way.troubles.iter().map(Into::into).collect(),
            tar_state: under_way.point.hasher().into(),
            map_offset: under_way.map_offset,
            is_sparse: under_way.is_sparse,
            len: self.at,
            sha256_state: HashState::from(&self.sha256),
            file_sha256_state: self.file_sha256.as_ref().map(HashState::from),
            lost: self.lost,
            trouble: self.trouble,
        }
    }

    /// Whether nothing was read yet.
    pub fn is_fresh(&self) -> bool {
        self.at == 0 && !self.is_broken
    }

    /// Bytes that are still to be written into the tar.
    pub fn left(&self, range: &UnderWay) -> u64 {
        range.extents.iter().map(|extent| extent.end().saturating_sub(extent.offset.max(self.at))).sum()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(hasher) = &mut self.file_sha256 {
            hasher.update(bytes);
        }
        self.at += bytes.len() as u64;
    }

    /// How much lies before the next change between data and hole, and whether it is data.
    fn region(&mut self, range: &UnderWay) -> (bool, u64) {
        while range.extents.get(self.extent).is_some_and(|extent| extent.end() <= self.at) {
            self.extent += 1;
        }
        match range.extents.get(self.extent) {
            Some(extent) if extent.offset <= self.at => (true, extent.end() - self.at),
            Some(extent) => (false, extent.offset - self.at),
            None => (false, range.len - self.at),
        }
    }
}

impl Packer<'_> {
    /// Copies from where the reading stands to the end of the range. At the first failure it stops as broken; with
    /// `salvage` it goes on, and only what cannot be read becomes zeros.
    ///
    /// `file` is absent when it could not be opened: all that is left of the range is lost then.
    pub fn copy(
        &mut self,
        file: Option<&File>,
        range: &UnderWay,
        reading: &mut Reading,
        salvage: bool,
    ) -> Result<(), PackError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let done = self.copy_with(&mut buffer, file, range, reading, salvage);
        self.buffer = buffer;
        done
    }

    fn copy_with(
        &mut self,
        buffer: &mut [u8],
        file: Option<&File>,
        range: &UnderWay,
        reading: &mut Reading,
        salvage: bool,
    ) -> Result<(), PackError> {
        reading.is_broken = false;
        let start = range.start();
        let mut cache = file.map(|file| Cache::new(file, start + reading.at, start + range.len));
        while reading.at < range.len {
            (self.progress)(self.tar.len());
            // Of a file that cannot be opened nothing is kept: the next run may find it again.
            if file.is_some() {
                self.mark_inside_if_due(range, reading)?;
            }
            self.content.beat(&range.file.path);
            let (is_data, len) = reading.region(range);
            if !is_data {
                self.heed()?;
                reading.take(&ZEROS[..len.min(ZEROS.len() as u64) as usize]);
                continue;
            }
            let at = start + reading.at;
            let Some((file, cache)) = file.zip(cache.as_mut()).filter(|_| !reading.has_ended) else {
                self.heed()?;
                self.lose(reading, len, at, None)?;
                continue;
            };
            cache.reach(at);
            let is_careful = reading.at < reading.careful_until;
            let len = len.min(if is_careful { PAGE_LEN - at % PAGE_LEN } else { BUFFER_LEN as u64 });
            let read = (self.read_at)(file, &mut buffer[..len as usize], at);
            // The source has answered: what takes long from here on is ours.
            self.heed()?;
            match read {
                Ok(got) if got > 0 => {
                    self.tar.write(&buffer[..got])?;
                    reading.take(&buffer[..got]);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                _ if !salvage => {
                    reading.is_broken = true;
                    return Ok(());
                }
                Ok(_) => reading.has_ended = true,
                Err(_) if !is_careful => reading.careful_until = reading.at + len,
                Err(err) => self.lose(reading, len, at, Some(err.raw_os_error().unwrap_or(0)))?,
            }
        }
        Ok(())
    }

    pub(super) fn heed(&self) -> Result<(), PackError> {
        if (self.stop)() { Err(PackError::Stopped) } else { Ok(()) }
    }

    /// Writes zeros for bytes that are not to be had.
    fn lose(&mut self, reading: &mut Reading, len: u64, at: u64, errno: Option<i32>) -> Result<(), PackError> {
        let zeros = &ZEROS[..len.min(ZEROS.len() as u64) as usize];
        self.tar.write(zeros)?;
        reading.take(zeros);
        reading.lost += zeros.len() as u64;
        reading.trouble.get_or_insert((at, errno));
        Ok(())
    }
}
