//! Which members other names of the same inode may link to.

use super::{LIST, Mark, PackError, draft::Draft};
use crate::archive::{
    entry::{Kind, Meta, Stamp},
    manifest::{Member, join, kind, note, parse_rfc3339},
};
use std::{collections::HashMap, fs::File};

/// By device and inode: the last member that holds a full, clean copy.
#[derive(Default)]
pub struct Links(HashMap<(u64, u64), Link>);

#[derive(Clone, Debug)]
pub struct Link {
    /// The member's name.
    pub name: Vec<u8>,
    pub sha256: Option<String>,
    pub xattr_sha256: Option<String>,
    kind: Kind,
    size: u64,
    mtime: Stamp,
    ctime: Stamp,
}

impl Link {
    /// Whether the inode is still as it was archived.
    pub fn is_current(&self, now: &Meta) -> bool {
        (self.kind, self.mtime, self.ctime) == (now.kind, now.mtime, now.ctime)
            && (self.kind != Kind::File || self.size == now.size)
    }
}

impl Links {
    pub fn find(&self, meta: &Meta) -> Option<&Link> {
        if meta.nlink < 2 || meta.kind == Kind::Dir { None } else { self.0.get(&(meta.dev, meta.ino)) }
    }

    /// Hears of every member in order, from the packer or from a list.
    pub fn add(&mut self, member: &Member) {
        let is_target = member.nlink > 1
            && member.segment.is_none()
            && ![note::ANCESTOR, note::CHANGED, note::DAMAGED, note::HARDLINK].iter().any(|n| member.has_note(n));
        if !is_target {
            return;
        }
        let facts = || {
            Some(Link {
                name: join(&member.path, &member.path_b64)?,
                sha256: member.sha256.clone(),
                xattr_sha256: member.xattr_sha256.clone(),
                kind: kind(&member.r#type).filter(|kind| *kind != Kind::Dir)?,
                size: member.size,
                mtime: parse_rfc3339(&member.mtime)?,
                ctime: parse_rfc3339(&member.ctime)?,
            })
        };
        if let Some(link) = facts() {
            self.0.insert((member.dev, member.ino), link);
        }
    }

    /// Opens the member list up to the mark, and learns from it.
    pub fn resume(&mut self, list: File, mark: &Mark, stop: &dyn Fn() -> bool) -> Result<Draft, PackError> {
        let mut line = Vec::new();
        let mut is_sound = true;
        let draft = Draft::resume(list, LIST, mark.list_len, &mark.list_sha256, &mut |bytes| {
            for part in bytes.split_inclusive(|b| *b == b'\n') {
                line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    match serde_json::from_slice::<Member>(&line) {
                        Ok(member) => self.add(&member),
                        Err(_) => is_sound = false,
                    }
                    line.clear();
                }
            }
            if stop() { Err(PackError::Stopped) } else { Ok(()) }
        })?;
        if is_sound && line.is_empty() {
            Ok(draft)
        } else {
            Err(PackError::Rotten { what: LIST, why: "A line of it is no member" })
        }
    }
}
