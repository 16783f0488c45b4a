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
        && kind == Some(found.kind)
        && is_link == found.is_hard_link
        && is_name()
        && (found.kind != Kind::File || is_link || line.size == found.size())
        && (line.uid, line.gid) == (found.uid, found.gid)
        && line.mode == format!("{:04o}", found.mode)
        && line.mtime == manifest::rfc3339(found.mtime)
}
