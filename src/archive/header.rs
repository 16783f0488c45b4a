//! The header of one member: a ustar block, and before it a pax record block for what ustar cannot hold.
//!
//! Written as GNU tar writes `--format=posix`, less what a restore does not need (atime, ctime) and what would make
//! the same tree give other bytes on another day (process ids, the time of packing).
//!
//! Of the `tar` crate only the header block is used, here and in [`super::reader`]: neither of its writers can archive
//! a file that changes its size while being read.

use super::{
    acl,
    entry::{Entry, Kind, Meta, Stamp},
    manifest::member_name,
};
use crate::path::SourcePath;
use tar::{EntryType, Header, UstarHeader};

/// Everything in a tar is a multiple of this, bytes.
pub const BLOCK: u64 = 512;
/// The two zero blocks at the end.
pub const END_LEN: u64 = 2 * BLOCK;

/// Largest numbers of the octal fields.
const OCTAL_7_MAX: u64 = 0o777_7777;
const OCTAL_11_MAX: u64 = 0o777_7777_7777;
/// Owner in the ustar block where the true one does not fit: never root, should a reader ignore pax records.
const NOBODY: u64 = 65_534;

/// What kind of member, with what only that kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    Dir,
    /// A file with `len` bytes of data after the header.
    File {
        len: u64,
    },
    /// A file of `real` bytes, of which a map and the regions with data follow as `stored` bytes.
    Sparse {
        stored: u64,
        real: u64,
    },
    Symlink(&'a [u8]),
    /// Another name of the member of this name.
    HardLink(&'a [u8]),
    Fifo,
    CharDevice,
    BlockDevice,
}

/// One member.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// As in manifests: no trailing `/`, but the root is `./`.
    pub name: &'a [u8],
    pub meta: &'a Meta,
    pub body: Body<'a>,
    /// Empty when unknown.
    pub user: &'a str,
    pub group: &'a str,
    /// Names and values, sorted by name.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Bytes up to the next full block.
pub fn padded(len: u64) -> u64 {
    len.div_ceil(BLOCK) * BLOCK
}

/// Bytes of the member in the tar, as far as its stat tells: exact when it has no xattrs, its link target and the
/// names of its owners are plain and short, and it is neither sparse nor another name of an earlier member.
/// 0 for sockets, which are never archived.
pub fn estimate(entry: &Entry) -> u64 {
    if entry.meta.kind == Kind::Socket {
        return 0;
    }
    // Only its length is known before it is read; the kernel allows no longer one.
    let target = match entry.meta.kind {
        Kind::Symlink => vec![b'x'; entry.meta.size.min(4096) as usize],
        _ => Vec::new(),
    };
    let body = match entry.meta.kind {
        Kind::Dir => Body::Dir,
        Kind::File => Body::File { len: entry.meta.size },
        Kind::Symlink => Body::Symlink(&target),
        Kind::Fifo | Kind::Socket => Body::Fifo,
        Kind::CharDevice => Body::CharDevice,
        Kind::BlockDevice => Body::BlockDevice,
    };
    let name = member_name(&entry.path);
    let spec = Spec { name: &name, meta: &entry.meta, body, user: "", group: "", xattrs: &[] };
    spec.header_len() + padded(spec.data_len())
}

/// Bytes of the header that a directory above a piece's range takes, at most, when it has no xattrs.
pub fn ancestor(path: &SourcePath) -> u64 {
    let late = Stamp { sec: i64::MAX, nsec: 999_999_999 };
    let meta = Meta { uid: u32::MAX, gid: u32::MAX, mtime: late, ..plain_dir() };
    estimate(&Entry { path: path.clone(), meta })
}

/// What is written for a directory of which nothing is known any more.
pub fn plain_dir() -> Meta {
    Meta {
        kind: Kind::Dir,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Stamp::default(),
        ctime: Stamp::default(),
        dev: 0,
        ino: 0,
        nlink: 2,
        rdev: 0,
    }
}

impl Spec<'_> {
    /// Bytes of data after the header, before padding.
    pub fn data_len(&self) -> u64 {
        match self.body {
            Body::File { len } => len,
            Body::Sparse { stored, .. } => stored,
            _ => 0,
        }
    }

    /// Bytes of all header blocks.
    pub fn header_len(&self) -> u64 {
        match self.records().len() as u64 {
            0 => BLOCK,
            len => BLOCK + padded(len) + BLOCK,
        }
    }

    /// All header blocks, pax records first.
    pub fn build(&self) -> Vec<u8> {
        let records = self.records();
        let mut blocks = Vec::with_capacity(self.header_len() as usize);
        if !records.is_empty() {
            blocks.extend_from_slice(self.pax_header(records.len() as u64).as_bytes());
            blocks.extend_from_slice(&records);
            blocks.resize(padded(blocks.len() as u64) as usize, 0);
        }
        blocks.extend_from_slice(self.ustar_header().as_bytes());
        blocks
    }

    /// The name as it stands in the tar: directories end in `/`.
    fn full_name(&self) -> Vec<u8> {
        let mut name = self.name.to_vec();
        if self.body == Body::Dir && !name.ends_with(b"/") {
            name.push(b'/');
        }
        name
    }

    fn link(&self) -> &[u8] {
        match self.body {
            Body::Symlink(target) | Body::HardLink(target) => target,
            _ => b"",
        }
    }

    /// Pax records for what the ustar block cannot hold.
    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let name = self.full_name();
        let is_sparse = matches!(self.body, Body::Sparse { .. });
        let has_path = is_sparse || is_foreign(&name) || fit(&name).is_none();
        let has_link = is_foreign(self.link()) || self.link().len() > 100;
        let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
        if has_path && !is_text(&name) || has_link && !is_text(self.link()) {
            // Else they are said to be UTF-8, and bsdtar unpacks them but calls it an error. GNU tar warns of the keyword,
            // which it does not know, and takes the bytes as they are either way.
            record(&mut out, b"hdrcharset", b"BINARY");
        }
        if let Body::Sparse { real, .. } = self.body {
            record(&mut out, b"GNU.sparse.major", b"1");
            record(&mut out, b"GNU.sparse.minor", b"0");
            record(&mut out, b"GNU.sparse.name", &name);
            record(&mut out, b"GNU.sparse.realsize", real.to_string().as_bytes());
        } else if has_path {
            record(&mut out, b"path", &name);
        }
        if has_link {
            record(&mut out, b"linkpath", self.link());
        }
        if self.data_len() > OCTAL_11_MAX {
            record(&mut out, b"size", self.data_len().to_string().as_bytes());
        }
        for (key, id) in [(b"uid", self.meta.uid), (b"gid", self.meta.gid)] {
            if u64::from(id) > OCTAL_7_MAX {
                record(&mut out, key, id.to_string().as_bytes());
            }
        }
        for (key, name) in [(b"uname", self.user), (b"gname", self.group)] {
            if !fits_owner(name) {
                record(&mut out, key, name.as_bytes());
            }
        }
        let mtime = self.meta.mtime;
        if mtime.nsec != 0 || !u64::try_from(mtime.sec).is_ok_and(|sec| sec <= OCTAL_11_MAX) {
            record(&mut out, b"mtime", decimal(mtime).as_bytes());
        }
        for (key, number) in [(b"SCHILY.devmajor", major(self.meta.rdev)), (b"SCHILY.devminor", minor(self.meta.rdev))]
        {
            if self.is_device() && number > OCTAL_7_MAX {
                record(&mut out, key, number.to_string().as_bytes());
            }
        }
        self.xattr_records(&mut out);
        out
    }

    fn xattr_records(&self, out: &mut Vec<u8>) {
        for (name, value) in self.xattrs {
            let acl = [acl::ACCESS, acl::DEFAULT].into_iter().find(|(xattr, _)| xattr == name);
            if let Some((_, key)) = acl
                && let Some(text) = acl::text(value)
            {
                record(out, key, text.as_bytes());
                continue;
            }
            let mut key = b"SCHILY.xattr.".to_vec();
            // A keyword ends at the first `=`; GNU tar writes and reads it this way.
            for b in name {
                match b {
                    b'%' => key.extend_from_slice(b"%25"),
                    b'=' => key.extend_from_slice(b"%3D"),
                    b => key.push(*b),
                }
            }
            record(out, &key, value);
        }
    }

    fn is_device(&self) -> bool {
        matches!(self.body, Body::CharDevice | Body::BlockDevice)
    }

    fn pax_header(&self, len: u64) -> Header {
        let mut header = Header::new_ustar();
        let base = self.name.rsplit(|b| *b == b'/').find(|name| !name.is_empty()).unwrap_or(b".");
        put_name(ustar(&mut header), &[b"PaxHeaders/", base].concat());
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(len);
        header.set_cksum();
        header
    }

    fn ustar_header(&self) -> Header {
        let mut header = Header::new_ustar();
        let name = match self.body {
            Body::Sparse { .. } => sparse_name(self.name),
            _ => self.full_name(),
        };
        let fields = ustar(&mut header);
        put_name(fields, &name);
        put(&mut fields.linkname, self.link());
        for (field, name) in [(&mut fields.uname, self.user), (&mut fields.gname, self.group)] {
            put(field, if fits_owner(name) { name.as_bytes() } else { b"" });
        }
        if self.is_device() {
            fields.set_device_major(octal_or(major(self.meta.rdev), OCTAL_7_MAX, 0) as u32);
            fields.set_device_minor(octal_or(minor(self.meta.rdev), OCTAL_7_MAX, 0) as u32);
        }
        header.set_entry_type(match self.body {
            Body::Dir => EntryType::Directory,
            Body::File { .. } | Body::Sparse { .. } => EntryType::Regular,
            Body::Symlink(_) => EntryType::Symlink,
            Body::HardLink(_) => EntryType::Link,
            Body::Fifo => EntryType::Fifo,
            Body::CharDevice => EntryType::Char,
            Body::BlockDevice => EntryType::Block,
        });
        header.set_mode(self.meta.mode & 0o7777);
        header.set_uid(octal_or(self.meta.uid.into(), OCTAL_7_MAX, NOBODY));
        header.set_gid(octal_or(self.meta.gid.into(), OCTAL_7_MAX, NOBODY));
        header.set_size(octal_or(self.data_len(), OCTAL_11_MAX, 0));
        header.set_mtime(u64::try_from(self.meta.mtime.sec).map_or(0, |sec| sec.min(OCTAL_11_MAX)));
        header.set_cksum();
        header
    }
}

/// `25 path=…\n`: the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Text outside ASCII, for which pax says that it is UTF-8. Bytes that are not UTF-8 stand better in the plain field,
/// where it can hold them: there nobody converts them.
fn is_foreign(name: &[u8]) -> bool {
    !name.is_ascii() && std::str::from_utf8(name).is_ok()
}

/// Splits a name into the ustar fields `prefix` and `name`, if it fits.
fn fit(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    let least = name.len() - 101;
    let cut = (least..name.len() - 1).find(|at| name[*at] == b'/')?;
    (0 < cut && cut <= 155).then(|| (&name[..cut], &name[cut + 1..]))
}

/// The name, or as much of it as fits, when a pax record has it whole.
fn put_name(fields: &mut UstarHeader, name: &[u8]) {
    if let Some((prefix, name)) = fit(name) {
        put(&mut fields.prefix, prefix);
        put(&mut fields.name, name);
        return;
    }
    let mut cut = &name[..100];
    // A trailing slash would make a directory of a file, to old readers.
    while let Some(rest) = cut.strip_suffix(b"/") {
        cut = rest;
    }
    put(&mut fields.name, cut);
}

/// The name for readers that know nothing of sparse files: they unpack the map and the data as they stand.
fn sparse_name(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    [&name[..at], b"GNUSparseFile.0/", &name[at..]].concat()
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

/// The field has 32 bytes and ends with a NUL.
fn fits_owner(name: &str) -> bool {
    name.len() < 32 && name.is_ascii()
}

fn octal_or(number: u64, max: u64, other: u64) -> u64 {
    if number <= max { number } else { other }
}

/// Seconds as a decimal number. The fraction of a `Stamp` runs forward, that of a negative number backward.
fn decimal(stamp: Stamp) -> String {
    let (sign, sec, nsec) = match stamp {
        Stamp { sec, nsec } if sec < 0 && nsec > 0 => ("-", (sec + 1).unsigned_abs(), 1_000_000_000 - nsec),
        Stamp { sec, nsec } => (if sec < 0 { "-" } else { "" }, sec.unsigned_abs(), nsec),
    };
    match nsec {
        0 => format!("{sign}{sec}"),
        _ => format!("{sign}{sec}.{nsec:09}").trim_end_matches('0').to_owned(),
    }
}

fn major(rdev: u64) -> u64 {
    rustix::fs::major(rdev).into()
}

fn minor(rdev: u64) -> u64 {
    rustix::fs::minor(rdev).into()
}

fn ustar(header: &mut Header) -> &mut UstarHeader {
    header.as_ustar_mut().expect("it was made as ustar")
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
