//! Members without data: directories, symlinks, devices, fifos, and further names of what is already in the piece.

use super::{
    PackError, Packer, Step, exception,
    member::{describe, is_deep, is_linked, notes},
};
use crate::{
    archive::{
        content::{OpenError, Xattrs},
        entry::{Entry, Kind, Walked},
        header::{Body, Spec},
        manifest::{member_name, note},
    },
    notice::{Exception, Reason},
};

impl Packer<'_> {
    pub fn node(&mut self, entry: &Entry) -> Result<Step, PackError> {
        if let Some(step) = self.hard_link(entry)? {
            return Ok(step);
        }
        let is_left_out = entry.meta.kind == Kind::Dir && self.content.is_left_out(&entry.path);
        let read = || -> Result<_, OpenError> {
            // Of what is mounted there nothing is asked: its server may be gone.
            if is_left_out {
                return Ok((Vec::new(), (Xattrs::default(), None)));
            }
            let target = match entry.meta.kind {
                Kind::Symlink => self.content.read_link(entry)?,
                _ => Vec::new(),
            };
            Ok((target, self.xattrs(entry)?))
        };
        let (target, (xattrs, trouble)) = match read() {
            Ok(found) => found,
            Err(err) => return self.skip_unopened(entry, err),
        };
        let name = member_name(&entry.path);
        let body = match entry.meta.kind {
            Kind::Dir => Body::Dir,
            Kind::Symlink => Body::Symlink(&target),
            Kind::CharDevice => Body::CharDevice,
            Kind::BlockDevice => Body::BlockDevice,
            Kind::Fifo | Kind::File | Kind::Socket => Body::Fifo,
        };
        let spec = self.spec(&name, entry, body, &xattrs);
        // Only a file can be cut into segments: anything else must go in, whatever it needs.
        let is_first = self.range.members == 0;
        let (blocks, len) = (spec.build(), spec.header_len());
        if let Some(needs) = self.begin(&entry.path, len, is_first)? {
            return Ok(Step::Full { item: Walked::Entry(entry.clone()), needs });
        }
        let spec = self.spec(&name, entry, body, &xattrs);
        let mut member = describe(&spec, self.tar.len());
        member.note = notes(|n| n == note::LINKED && is_linked(&entry.meta) || n == note::DEEP && is_deep(&name));
        self.tar.write(&blocks)?;
        let left_out =
            is_left_out.then(|| exception(&entry.path, Reason::Mount, None, "What is mounted there is left out"));
        let troubles: Vec<Exception> = left_out.into_iter().chain(trouble).collect();
        self.commit(&entry.path, &member, &troubles)?;
        Ok(Step::Done)
    }

    /// Writes a link if the inode is already in the piece, whole, clean and as it is now.
    pub fn hard_link(&mut self, entry: &Entry) -> Result<Option<Step>, PackError> {
        let Some(link) = self.links.find(&entry.meta).cloned() else {
            return Ok(None);
        };
        let now = match self.content.stat(&entry.path) {
            Ok(now) if now.is_same_inode(&entry.meta) => now,
            Ok(_) => return self.skip_unopened(entry, OpenError::Replaced).map(Some),
            Err(err) => return self.skip_unopened(entry, err.into()).map(Some),
        };
        if !link.is_current(&now) {
            return Ok(None);
        }
        let now = Entry { path: entry.path.clone(), meta: now };
        let name = member_name(&now.path);
        let spec = self.spec(&name, &now, Body::HardLink(&link.name), &[]);
        let (blocks, len) = (spec.build(), spec.header_len());
        let mut member = describe(&spec, self.tar.len());
        if let Some(needs) = self.begin(&now.path, len, false)? {
            return Ok(Some(Step::Full { item: Walked::Entry(now), needs }));
        }
        (member.sha256, member.xattr_sha256) = (link.sha256, link.xattr_sha256);
        member.note = notes(|n| n == note::HARDLINK || n == note::DEEP && is_deep(&name));
        self.tar.write(&blocks)?;
        self.commit(&now.path, &member, &[])?;
        Ok(Some(Step::Done))
    }

    pub fn spec<'s>(
        &'s self,
        name: &'s [u8],
        entry: &'s Entry,
        body: Body<'s>,
        xattrs: &'s [(Vec<u8>, Vec<u8>)],
    ) -> Spec<'s> {
        let meta = &entry.meta;
        let (user, group) = (self.names.user(meta.uid), self.names.group(meta.gid));
        Spec { name, meta, body, user, group, xattrs }
    }

    /// All xattrs, sorted. Where they cannot be read the entry is archived without, and that is told.
    pub fn xattrs(&self, entry: &Entry) -> Result<(Xattrs, Option<Exception>), OpenError> {
        match self.content.xattrs(entry) {
            Ok(mut xattrs) => {
                xattrs.sort();
                Ok((xattrs, None))
            }
            Err(err @ (OpenError::Denied(_) | OpenError::Unreadable(_))) => {
                let detail = "Its extended attributes could not be read and are not archived";
                Ok((Vec::new(), Some(exception(&entry.path, Reason::Metadata, err.errno(), detail))))
            }
            Err(err) => Err(err),
        }
    }

    /// Accounts for an entry that could not be opened.
    /// Want of descriptors or memory is our trouble, and never told as the loss of an entry.
    pub fn skip_unopened(&mut self, entry: &Entry, err: OpenError) -> Result<Step, PackError> {
        if err.is_exhausted() {
            return Err(PackError::Exhausted(err));
        }
        self.skip(&exception(&entry.path, err.reason(), err.errno(), err.to_string()));
        Ok(Step::Done)
    }
}
