//! A manifest made again of the piece itself, where the one beside it is gone: of every member what its header says, and
//! the digest of its content. The piece is proven by its own seal and digest; what only a manifest knows is missing: which
//! members changed while they were read, and of which file a segment is a part.

use super::{
    bring::Wanted,
    content::hash_content,
    open::{RestoreError, form, with_clear},
    unpack::UnpackError,
};
use crate::{
    archive::{
        entry::Kind,
        manifest::{FORMAT_VERSION, Head, Member, RangeEnd, Segment, note, rfc3339, split},
        manifest_io::write_parts,
        reader::{TarMember, TarReader},
    },
    catalog::SegmentRow,
    compress,
    durable::{self, at},
    encrypt::Opener,
    name::{Compression, Encryption},
    path::SourcePath,
};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

/// Writes to `manifest` what the piece in `file` says of itself.
///
/// Of a piece that is not known to be a segment of a file, segments come back as files in a directory of the name of theirs;
/// of one whose first path is known, directories above it are left to the piece that holds them.
pub fn derive(file: &Path, piece: &Wanted, opener: Option<&Opener>, manifest: &Path) -> Result<(), RestoreError> {
    let (_, form) = form(file)?;
    let lines = manifest.with_extension("lines");
    durable::create_dir(manifest.parent().expect("a manifest lies in a directory"))?;
    durable::remove(&lines)?;
    let draft = durable::create(&lines)?;
    let members = with_clear(file, form, opener, |clear| {
        let mut out = BufWriter::new(&draft);
        let count = members(clear, (&piece.first, piece.segment), &mut out)
            .map_err(|source| RestoreError::Unpack { path: file.to_owned(), source })?;
        out.flush().map_err(at("write", &lines))?;
        Ok(count)
    })?;
    let head = head(piece, members, form.compression);
    let draft_of = manifest.with_extension("derived");
    durable::remove(&draft_of)?;
    let made = durable::create(&draft_of)?;
    let write = || -> io::Result<()> {
        let mut zstd = compress::zstd_writer(BufWriter::new(&made))?;
        let mut list = BufReader::new(File::open(&lines)?);
        write_parts(&head, &mut list, &RangeEnd::default(), &mut zstd)?;
        zstd.finish()?.flush()
    };
    write().map_err(at("write", manifest))?;
    durable::publish(&made, &draft_of, manifest)?;
    Ok(durable::remove(&lines)?)
}

/// Writes a line for each member. Gives how many there are.
fn members(
    clear: &mut dyn Read,
    (first, segment): (&SourcePath, Option<SegmentRow>),
    out: &mut dyn Write,
) -> Result<u64, UnpackError> {
    let mut tar = TarReader::new(clear);
    let mut count = 0;
    while let Some(found) = tar.next_member()? {
        let sha256 = match found.kind == Kind::File && !found.is_hard_link {
            true => Some(hash_content(&mut tar, &found).map_err(UnpackError::Content)?),
            false => None,
        };
        let is_above = SourcePath::parse(&found.name).is_ok_and(|path| path != *first && first.is_within(&path));
        let mut line = line(&found, sha256);
        if is_above {
            line.note = Some(note::ANCESTOR.to_owned());
        } else if let Some(SegmentRow { index, count, offset, file_size, .. }) = segment {
            line.segment = Some(Segment { index, count, offset, file_size });
        }
        let line = serde_json::to_string(&line).map_err(io::Error::from);
        let written = line.and_then(|line| writeln!(out, "{line}"));
        written.map_err(|source| UnpackError::Content(super::content::ContentError::Write(source)))?;
        count += u64::from(!is_above);
    }
    Ok(count)
}

fn line(found: &TarMember, sha256: Option<String>) -> Member {
    let (path, path_b64) = split(&found.name);
    let has_link = found.is_hard_link || found.kind == Kind::Symlink;
    let (link, link_b64) = if has_link { split(&found.link) } else { (None, None) };
    Member {
        path,
        path_b64,
        r#type: found.kind.as_str().to_owned(),
        size: if found.kind == Kind::File && !found.is_hard_link { found.size() } else { 0 },
        mtime: rfc3339(found.mtime),
        ctime: rfc3339(found.mtime),
        mode: format!("{:04o}", found.mode),
        uid: found.uid,
        gid: found.gid,
        // Whether there are more names only a later member says.
        nlink: if found.kind == Kind::Dir { 1 } else { 2 },
        link,
        link_b64,
        rdev: matches!(found.kind, Kind::CharDevice | Kind::BlockDevice).then_some(found.rdev),
        sha256,
        offset: found.offset,
        note: found.is_hard_link.then(|| note::HARDLINK.to_owned()),
        ..Member::default()
    }
}

fn head(piece: &Wanted, members: u64, compression: Compression) -> Head {
    Head {
        format: FORMAT_VERSION,
        program: concat!("archiver ", env!("CARGO_PKG_VERSION")).to_owned(),
        host: String::new(),
        source: piece.name.source.clone(),
        source_id: String::new(),
        pass: piece.name.pass,
        seq: piece.name.seq,
        key: piece.object.key.to_string(),
        first: None,
        first_b64: None,
        last: None,
        last_b64: None,
        supersedes: Vec::new(),
        compression,
        compression_level: None,
        encryption: Encryption::None,
        fingerprints: Vec::new(),
        filter_sha256: String::new(),
        members,
        tar_size: 0,
        tar_sha256: String::new(),
        compressed_size: 0,
        compressed_sha256: String::new(),
        sealed_size: 0,
        sealed_sha256: String::new(),
        sealed_crc64nvme: String::new(),
        blocks: Vec::new(),
        header_length: 0,
    }
}
