//! Lines of the member list.

use super::{PackError, Packer, draft::hex};
use crate::{
    archive::{
        entry::{Kind, Meta},
        header::{Body, Spec},
        manifest::{ExceptionLine, Member, note, rfc3339, split},
    },
    notice::{Exception, Reason},
    path::SourcePath,
};
use sha2::{Digest, Sha256};

/// Longest path that the kernel takes in one call, so that GNU tar can unpack it, bytes.
const PATH_LEN_MAX: usize = 4095;

/// What the list says of a member of this header at this offset; content and notes are still missing.
pub fn describe(spec: &Spec, offset: u64) -> Member {
    let (path, path_b64) = split(spec.name);
    let (link, link_b64) = match spec.body {
        Body::Symlink(target) | Body::HardLink(target) => split(target),
        _ => (None, None),
    };
    let meta = spec.meta;
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Member {
        path,
        path_b64,
        r#type: meta.kind.as_str().to_owned(),
        size: match spec.body {
            Body::File { len } => len,
            Body::Sparse { real, .. } => real,
            _ => 0,
        },
        mtime: rfc3339(meta.mtime),
        ctime: rfc3339(meta.ctime),
        mode: format!("{:04o}", meta.mode),
        uid: meta.uid,
        gid: meta.gid,
        user: named(spec.user),
        group: named(spec.group),
        dev: meta.dev,
        ino: meta.ino,
        nlink: meta.nlink,
        link,
        link_b64,
        rdev: matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice).then_some(meta.rdev),
        xattr_sha256: xattr_sha256(spec.xattrs),
        offset,
        ..Member::default()
    }
}

/// Of attributes that are sorted by name; none without any.
pub fn xattr_sha256(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Option<String> {
    let mut hasher = Sha256::new();
    for (name, value) in xattrs {
        hasher.update(name);
        hasher.update(format!("\0{}\0", value.len()));
        hasher.update(value);
    }
    (!xattrs.is_empty()).then(|| hex(hasher))
}

/// Joins notes in the order of [`note`].
pub fn notes(has: impl Fn(&str) -> bool) -> Option<String> {
    let all = [note::ANCESTOR, note::CHANGED, note::DAMAGED, note::HARDLINK, note::LINKED, note::DEEP];
    let notes: Vec<&str> = all.into_iter().filter(|note| has(note)).collect();
    (!notes.is_empty()).then(|| notes.join(","))
}

/// Whether other names of the inode may be elsewhere.
pub fn is_linked(meta: &Meta) -> bool {
    meta.kind != Kind::Dir && meta.nlink > 1
}

/// Whether GNU tar cannot unpack a path of this length.
pub fn is_deep(name: &[u8]) -> bool {
    name.len() > PATH_LEN_MAX
}

impl Packer<'_> {
    /// Accounts for a member whose header and data are in the tar: its line, its counts, its exceptions.
    pub fn commit(&mut self, path: &SourcePath, member: &Member, troubles: &[Exception]) -> Result<(), PackError> {
        self.line(member)?;
        self.links.add(member);
        self.range.members += 1;
        if member.is_counted() {
            self.range.counts.seen += 1;
            let is_clean = !member.has_note(note::CHANGED) && !member.has_note(note::DAMAGED);
            let count = if is_clean { &mut self.range.counts.clean } else { &mut self.range.counts.changed };
            *count += 1;
        }
        self.range.exceptions.extend(troubles.iter().map(ExceptionLine::from));
        if member.has_note(note::DEEP) {
            let detail = "The path is longer than GNU tar can unpack";
            let deep = super::exception(path, Reason::Deep, None, detail);
            self.range.exceptions.push(ExceptionLine::from(&deep));
        }
        self.range.first.get_or_insert_with(|| path.into());
        self.range.last = Some(path.into());
        Ok(())
    }

    pub fn line(&mut self, member: &Member) -> Result<(), PackError> {
        let mut line = serde_json::to_vec(member).expect("a member has only plain fields");
        line.push(b'\n');
        self.list.write(&line)
    }
}
