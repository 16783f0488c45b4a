//! Reads a tar as [`super::header`] writes it, and no other: pax records of one member, its ustar block, its data.
//! What else an archive may hold (global records, long names of GNU, old forms of sparse files, records that come
//! twice) is refused and not interpreted, since nothing of ours ever has it: no two readers can then disagree about
//! where a member ends.

use super::{
    acl,
    entry::{Kind, Stamp},
    header::{BLOCK, padded},
    tree::Xattrs,
};
use std::io::{self, Read};
use tar::{EntryType, Header};

/// Longest pax records of a member, bytes: the kernel gives a file no more attributes than this by far.
const RECORDS_LEN_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("Cannot read the tar at byte {at}")]
    Read { at: u64, source: io::Error },
    #[error("The tar is not one of ours at byte {at}: {why}")]
    Foreign { at: u64, why: &'static str },
}

/// One member, as its header says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarMember {
    /// Of its first header block.
    pub offset: u64,
    /// As in manifests: directories have no trailing `/`, the root is `./`.
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Another name of the earlier member that is named by `link`; `kind` is then a file.
    pub is_hard_link: bool,
    /// Of a file with holes: its full size. The data begin with a map.
    pub sparse: Option<u64>,
    /// Of a symlink or hard link.
    pub link: Vec<u8>,
    /// Bytes of data that follow.
    pub stored: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Stamp,
    /// As `makedev` makes it.
    pub rdev: u64,
    /// Names and values; ACLs in the form in which the kernel has them.
    pub xattrs: Xattrs,
}

impl TarMember {
    /// Bytes of the file itself.
    pub fn size(&self) -> u64 {
        self.sparse.unwrap_or(self.stored)
    }
}

/// Members one after the other; between two calls of [`next_member`](Self::next_member) it reads as the data of the member.
pub struct TarReader<R> {
    input: R,
    at: u64,
    /// Data of the member that were not read yet, and the padding behind them.
    left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub fn new(input: R) -> TarReader<R> {
        TarReader { input, at: 0, left: 0, padding: 0 }
    }

    /// The next member; `None` at the end, when all of the input was read.
    pub fn next_member(&mut self) -> Result<Option<TarMember>, TarError> {
        let skip = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        self.skip(skip)?;
        let offset = self.at;
        let mut block = self.block()?;
        if block.as_bytes().iter().all(|byte| *byte == 0) {
            self.end()?;
            return Ok(None);
        }
        self.check_sum(&block)?;
        let mut records = Records::default();
        if block.entry_type() == EntryType::XHeader {
            records = self.records(&block)?;
            block = self.block()?;
            self.check_sum(&block)?;
        }
        let member = member(offset, &block, records).map_err(|why| TarError::Foreign { at: offset, why })?;
        self.left = member.stored;
        self.padding = padded(member.stored) - member.stored;
        Ok(Some(member))
    }

    /// Nothing but zeros may follow; whoever decrypts has to see the end.
    fn end(&mut self) -> Result<(), TarError> {
        let mut rest = [0; 8192];
        loop {
            match self.read_some(&mut rest)? {
                0 => return Ok(()),
                len if rest[..len].iter().all(|byte| *byte == 0) => {}
                _ => return Err(self.foreign("something follows its end")),
            }
        }
    }

    fn records(&mut self, header: &Header) -> Result<Records, TarError> {
        let len = header.entry_size().map_err(|_| self.foreign("the size of its pax records is no number"))?;
        if len > RECORDS_LEN_MAX {
            return Err(self.foreign("its pax records are longer than any of ours"));
        }
        let mut bytes = Vec::new();
        let at = self.at;
        (&mut self.input).take(padded(len)).read_to_end(&mut bytes).map_err(|source| TarError::Read { at, source })?;
        self.at += bytes.len() as u64;
        if bytes.len() as u64 != padded(len) {
            return Err(self.foreign("it ends within pax records"));
        }
        Records::parse(&bytes[..len as usize]).map_err(|why| TarError::Foreign { at, why })
    }

    fn block(&mut self) -> Result<Header, TarError> {
        let mut header = Header::new_old();
        let mut done = 0;
        while done < BLOCK as usize {
            match self.read_some(&mut header.as_mut_bytes()[done..])? {
                0 => return Err(self.foreign("it ends where a header is due")),
                len => done += len,
            }
        }
        Ok(header)
    }

    fn check_sum(&self, header: &Header) -> Result<(), TarError> {
        let mut counted = header.clone();
        counted.set_cksum();
        match header.cksum() {
            Ok(sum) if counted.cksum().is_ok_and(|right| right == sum) => Ok(()),
            _ => Err(self.foreign("the checksum of a header is wrong")),
        }
    }

    fn skip(&mut self, len: u64) -> Result<(), TarError> {
        let mut buffer = vec![0; len.min(1 << 16) as usize];
        let mut left = len;
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            match self.read_some(&mut buffer[..most])? {
                0 => return Err(self.foreign("it ends within a member")),
                len => left -= len as u64,
            }
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.input.read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { at: self.at, source }),
                Ok(len) => {
                    self.at += len as u64;
                    return Ok(len);
                }
            }
        }
    }

    fn foreign(&self, why: &'static str) -> TarError {
        TarError::Foreign { at: self.at, why }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let len = self.input.read(&mut buffer[..most])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= len as u64;
        self.at += len as u64;
        Ok(len)
    }
}

/// The pax records of one member, by keyword.
#[derive(Default)]
struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// `25 path=…\n`, one after the other.
    fn parse(mut bytes: &[u8]) -> Result<Records, &'static str> {
        let damaged = "a pax record is damaged";
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(damaged)?;
            let len: usize = number(&bytes[..space]).and_then(|len| usize::try_from(len).ok()).ok_or(damaged)?;
            if len > bytes.len() || len < space + 4 {
                return Err(damaged);
            }
            let (record, rest) = bytes.split_at(len);
            let text = record[space + 1..].strip_suffix(b"\n").ok_or(damaged)?;
            let equals = text.iter().position(|byte| *byte == b'=').ok_or(damaged)?;
            records.push((text[..equals].to_vec(), text[equals + 1..].to_vec()));
            bytes = rest;
        }
        let mut keys: Vec<&[u8]> = records.iter().map(|(key, _)| key.as_slice()).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|two| two[0] == two[1]) {
            return Err("a pax record comes twice");
        }
        Ok(Records(records))
    }

    fn take(&mut self, key: &str) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(found, _)| found == key.as_bytes())?;
        Some(self.0.swap_remove(at).1)
    }

    fn number(&mut self, key: &str, plain: u64) -> Result<u64, &'static str> {
        match self.take(key) {
            Some(text) => number(&text).ok_or("a pax record is no number"),
            None => Ok(plain),
        }
    }

    /// What is left must be attributes.
    fn xattrs(self) -> Result<Xattrs, &'static str> {
        let xattr = |(key, value): (Vec<u8>, Vec<u8>)| -> Result<_, &'static str> {
            if let Some((name, _)) = [acl::ACCESS, acl::DEFAULT].into_iter().find(|(_, keyword)| *keyword == key) {
                return Ok((name.to_vec(), acl::binary(&value).ok_or("an ACL is damaged")?));
            }
            let name = key.strip_prefix(b"SCHILY.xattr.").ok_or("it has a pax record that we never write")?;
            Ok((unescaped(name), value))
        };
        let mut found = self.0.into_iter().map(xattr).collect::<Result<Vec<_>, _>>()?;
        found.sort();
        Ok(found)
    }
}

/// `%25` is `%`, `%3D` is `=`.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', b'2', b'5', tail @ ..] => (b'%', tail),
            [b'%', b'3', b'D', tail @ ..] => (b'=', tail),
            _ => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}

fn number(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// What [`super::header`] writes as a decimal number of seconds.
fn stamp(text: &[u8]) -> Option<Stamp> {
    let (is_before, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'.');
    let sec = number(parts.next()?)?;
    let nsec = match parts.next() {
        Some(fraction) if fraction.len() <= 9 => number(fraction)? * 10_u64.pow(9 - fraction.len() as u32),
        Some(_) => return None,
        None => 0,
    } as u32;
    Some(match (is_before, nsec) {
        (false, _) => Stamp { sec: i64::try_from(sec).ok()?, nsec },
        (true, 0) => Stamp { sec: 0_i64.checked_sub_unsigned(sec)?, nsec },
        (true, _) => Stamp { sec: (-1_i64).checked_sub_unsigned(sec)?, nsec: 1_000_000_000 - nsec },
    })
}

fn member(offset: u64, header: &Header, mut records: Records) -> Result<TarMember, &'static str> {
    if header.as_ustar().is_none() {
        return Err("a header is not of ustar");
    }
    let (kind, is_hard_link) = match header.entry_type() {
        EntryType::Regular => (Kind::File, false),
        EntryType::Link => (Kind::File, true),
        EntryType::Directory => (Kind::Dir, false),
        EntryType::Symlink => (Kind::Symlink, false),
        EntryType::Fifo => (Kind::Fifo, false),
        EntryType::Char => (Kind::CharDevice, false),
        EntryType::Block => (Kind::BlockDevice, false),
        _ => return Err("a member is of a type that we never write"),
    };
    let no_number = |_| "a field of a header is no number";
    let _ = records.take("hdrcharset");
    let sparse = sparse(&mut records)?;
    let name = match (&sparse, records.take("path")) {
        (Some((name, _)), None) => name.clone(),
        (Some(_), Some(_)) => return Err("a sparse member has two names"),
        (None, Some(name)) => name,
        (None, None) => header.path_bytes().into_owned(),
    };
    let link = match records.take("linkpath") {
        Some(link) => link,
        None => header.link_name_bytes().map_or(Vec::new(), std::borrow::Cow::into_owned),
    };
    let stored = records.number("size", header.entry_size().map_err(no_number)?)?;
    if stored > 0 && (kind != Kind::File || is_hard_link) {
        return Err("a member without content has data");
    }
    let id = |number: u64| u32::try_from(number).map_err(|_| "an owner is no number of 32 bits");
    let uid = id(records.number("uid", header.uid().map_err(no_number)?)?)?;
    let gid = id(records.number("gid", header.gid().map_err(no_number)?)?)?;
    let (_, _) = (records.take("uname"), records.take("gname"));
    let mtime = match records.take("mtime") {
        Some(text) => stamp(&text).ok_or("a time is damaged")?,
        None => Stamp { sec: header.mtime().map_err(no_number)? as i64, nsec: 0 },
    };
    let rdev = match kind {
        Kind::CharDevice | Kind::BlockDevice => device(header, &mut records)?,
        _ => 0,
    };
    Ok(TarMember {
        offset,
        name: plain_name(name),
        kind,
        is_hard_link,
        sparse: sparse.map(|(_, real)| real),
        link,
        stored,
        mode: header.mode().map_err(no_number)? & 0o7777,
        uid,
        gid,
        mtime,
        rdev,
        xattrs: records.xattrs()?,
    })
}

/// The number of a device, as `makedev` makes it.
fn device(header: &Header, records: &mut Records) -> Result<u64, &'static str> {
    let mut part = |key, field: io::Result<Option<u32>>| {
        let plain = field.ok().flatten().ok_or("a device has no number")?;
        let number = records.number(key, plain.into())?;
        u32::try_from(number).map_err(|_| "a device has no number")
    };
    let major = part("SCHILY.devmajor", header.device_major())?;
    Ok(rustix::fs::makedev(major, part("SCHILY.devminor", header.device_minor())?))
}

/// Name and full size of a file with holes.
fn sparse(records: &mut Records) -> Result<Option<(Vec<u8>, u64)>, &'static str> {
    let fields = ["GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize"];
    match fields.map(|key| records.take(key)) {
        [None, None, None, None] => Ok(None),
        [Some(major), Some(minor), Some(name), Some(real)] if major == b"1" && minor == b"0" => {
            Ok(Some((name, number(&real).ok_or("the size of a sparse file is no number")?)))
        }
        _ => Err("a sparse member is not of the form that we write"),
    }
}

fn plain_name(mut name: Vec<u8>) -> Vec<u8> {
    if name != b"./" && name.ends_with(b"/") {
        name.pop();
    }
    name
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
