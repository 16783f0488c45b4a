//! Files that are larger than a piece: their segments come one after the other, each with a piece of its own.

use super::{
    content::copy,
    target::{Unnamed, Wrong, has_content},
    unpack::{Trouble, Unpacker},
};
use crate::{
    archive::{
        manifest::{Member, Segment},
        reader::{TarMember, TarReader},
    },
    path::SourcePath,
};
use rustix::fd::OwnedFd;
use sha2::Sha256;
use std::io::Read;

/// A file while its segments come.
pub struct Growing {
    pub path: SourcePath,
    into: Into,
    next: u32,
    /// Bytes of the segments that came.
    len: u64,
    hasher: Sha256,
}

enum Into {
    New(Unnamed),
    /// It is there, and is looked at when the last segment tells what it is to be.
    There(OwnedFd),
}

impl Unpacker<'_> {
    pub(super) fn segment(
        &mut self,
        tar: &mut TarReader<impl Read>,
        found: &TarMember,
        line: &Member,
        (path, segment): (&SourcePath, Segment),
    ) -> Result<(), Trouble> {
        if segment.index == 1 && self.growing.is_none() {
            let into = match self.target.there(path) {
                Some(held) if !self.overwrite => Into::There(held),
                _ => Into::New(self.target.unnamed(path)?),
            };
            self.growing = Some(Growing { path: path.clone(), into, next: 1, len: 0, hasher: Sha256::default() });
        }
        if self.growing.as_ref().is_some_and(|growing| segment.index < growing.next) {
            // It came already, from a piece of the same.
            return Ok(());
        }
        let Some(mut growing) = self.growing.take_if(|growing| growing.next == segment.index) else {
            return Err(Wrong::Missing.into());
        };
        growing.next += 1;
        // The segments of a file come one after the other, so where one begins need not be told.
        let offset = growing.len;
        growing.len += found.size();
        let is_last = segment.index == segment.count;
        let sha256 = match &growing.into {
            Into::There(held) if is_last => {
                return Ok(self.is_as_it_was(
                    has_content(held, growing.len, line.file_sha256.as_deref()),
                    held,
                    found,
                )?);
            }
            Into::There(_) => None,
            Into::New(file) => {
                let copied = copy(tar, found, (file.file(), offset), &mut growing.hasher);
                Some(self.copied(copied)?)
            }
        };
        match &growing.into {
            Into::New(file) if is_last => {
                // Where its manifest is gone nobody knows it; the seals of the pieces prove their parts.
                if line.file_sha256.is_some() && line.file_sha256 != sha256 {
                    return Err(Wrong::Damaged.into());
                }
                Ok(self.target.name(file, path, found)?)
            }
            _ => {
                self.growing = Some(growing);
                Ok(())
            }
        }
    }

    /// A file whose last segments did not come.
    pub(super) fn end_growing(&mut self) {
        if let Some(growing) = self.growing.take() {
            self.wrong(&growing.path, &Wrong::Missing);
        }
    }
}
