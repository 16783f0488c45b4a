//! Lines of a manifest, beside the members of which they tell.

use crate::{
    archive::{
        entry::Kind,
        manifest::{self, Member, join, member_name, note},
        reader::TarMember,
    },
    path::SourcePath,
    pipeline::read_manifest,
};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
#[error("The manifest is of no use")]
pub struct LinesError(#[source] Box<dyn std::error::Error + Send + Sync>);

pub type Lines = Box<dyn Iterator<Item = Result<Member, LinesError>>>;

pub fn lines(manifest: &Path) -> Result<Lines, LinesError> {
    let lines = read_manifest(manifest).map_err(|err| LinesError(err.into()))?;
    Ok(Box::new(lines.map(|line| line.map_err(|err| LinesError(err.into())))))
}

pub fn name_of(line: &Member) -> Option<Vec<u8>> {
    join(&line.path, &line.path_b64)
}

/// The member of the same piece of which a hard link is another name.
pub fn original(line: &Member) -> Option<SourcePath> {
    SourcePath::parse(&join(&line.link, &line.link_b64)?).ok()
}

/// Whether a line of the manifest is about this member. A name that leads elsewhere is in no line.
pub fn is_of(found: &TarMember, line: &Member) -> bool {
    let is_name = || {
        name_of(line).is_some_and(|name| {
            name == found.name && SourcePath::parse(&name).is_ok_and(|path| member_name(&path) == name)
        })
    };
    let kind = manifest::kind(&line.r#type);
    let is_link = line.has_note(note::HARDLINK);
    line.offset == found.offset
        // A hard link may be another name of anything but a directory.
        && (kind == Some(found.kind) || is_link && kind.is_some_and(|kind| kind != Kind::Dir))
        && is_link == found.is_hard_link
        && is_name()
        && (found.kind != Kind::File || is_link || line.size == found.size())
        && (line.uid, line.gid) == (found.uid, found.gid)
        && line.mode == format!("{:04o}", found.mode)
        && line.mtime == manifest::rfc3339(found.mtime)
}

/// The member of which a line tells, as far as it does: without attributes.
pub fn bare(line: &Member) -> Option<TarMember> {
    let kind = manifest::kind(&line.r#type)?;
    Some(TarMember {
        offset: line.offset,
        name: name_of(line)?,
        kind,
        is_hard_link: line.has_note(note::HARDLINK),
        sparse: None,
        link: join(&line.link, &line.link_b64).unwrap_or_default(),
        stored: line.size,
        mode: u32::from_str_radix(&line.mode, 8).ok()?,
        uid: line.uid,
        gid: line.gid,
        mtime: manifest::parse_rfc3339(&line.mtime)?,
        rdev: line.rdev.unwrap_or(0),
        xattrs: Vec::new(),
    })
}
