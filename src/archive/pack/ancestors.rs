//! The directories above a piece's range, so that it unpacks alone with the right modes and owners.

use super::{
    PackError, Packer,
    member::{describe, notes},
};
use crate::{
    archive::{
        content::Xattrs,
        entry::{Entry, Kind},
        header::{BLOCK, Body, END_LEN, Spec, plain_dir},
        manifest::{ExceptionLine, member_name, note},
    },
    notice::{Exception, Reason},
    path::SourcePath,
};
use std::io;

/// One directory above the first member.
struct Above {
    entry: Entry,
    xattrs: Xattrs,
    trouble: Option<Exception>,
}

impl Packer<'_> {
    /// Makes ready for a member of `len` bytes: writes the ancestors if it is the first. `Some` when it does not fit:
    /// the length that the tar would have had.
    pub fn begin(&mut self, path: &SourcePath, len: u64, may_exceed: bool) -> Result<Option<u64>, PackError> {
        let above = if self.ancestors_due { self.above(path) } else { Vec::new() };
        let specs: Vec<(Vec<u8>, &Above)> = above.iter().map(|above| (member_name(&above.entry.path), above)).collect();
        let specs: Vec<Spec> = specs
            .iter()
            .map(|(name, above)| Spec {
                name,
                meta: &above.entry.meta,
                body: Body::Dir,
                user: self.names.user(above.entry.meta.uid),
                group: self.names.group(above.entry.meta.gid),
                xattrs: &above.xattrs,
            })
            .collect();
        let needs = self.tar.len() + specs.iter().map(Spec::header_len).sum::<u64>() + len + END_LEN;
        if needs > self.options.max_size && !may_exceed {
            return Ok(Some(needs));
        }
        for spec in &specs {
            let mut member = describe(spec, self.tar.len());
            member.note = notes(|n| n == note::ANCESTOR || n == note::DEEP && super::member::is_deep(spec.name));
            self.tar.write(&spec.build())?;
            self.line(&member)?;
        }
        let troubles = above.iter().filter_map(|above| above.trouble.as_ref()).map(ExceptionLine::from);
        self.range.exceptions.extend(troubles);
        self.ancestors_due = false;
        debug_assert_eq!(self.tar.len() % BLOCK, 0);
        Ok(None)
    }

    fn above(&self, path: &SourcePath) -> Vec<Above> {
        path.ancestors().into_iter().map(|path| self.one_above(path)).collect()
    }

    /// One that is gone, or is no directory any more, is written plain: what was below it still has to unpack.
    fn one_above(&self, path: SourcePath) -> Above {
        let plain =
            |path: SourcePath, trouble| Above { entry: Entry { path, meta: plain_dir() }, xattrs: Vec::new(), trouble };
        let meta = match self.content.stat(&path) {
            Ok(meta) if meta.kind == Kind::Dir => meta,
            Ok(_) => return plain(path, None),
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return plain(path, None);
            }
            Err(err) => {
                let detail = "Mode and owner of this directory could not be read";
                let trouble = super::exception(&path, Reason::Metadata, err.raw_os_error(), detail);
                return plain(path, Some(trouble));
            }
        };
        let entry = Entry { path, meta };
        match self.xattrs(&entry) {
            Ok((xattrs, trouble)) => Above { entry, xattrs, trouble },
            Err(_) => plain(entry.path, None),
        }
    }
}
