//! What a manifest tells of its piece: enough to make its row in the catalog again.

use super::{
    context::Failure,
    records::{ManifestReadError, read_manifest},
};
use crate::{
    archive::manifest::{ExceptionLine, Head, Member, join},
    catalog::{PackedRow, SegmentRow},
    fate::{Fate, Trouble},
    name::{PassId, PieceName, SourceName},
    notice::Severity,
    path::SourcePath,
};
use jiff::Timestamp;
use std::path::Path;

pub struct Described {
    pub head: Head,
    pub row: PackedRow,
    pub exceptions: Vec<ExceptionLine>,
}

/// Reads a manifest that lies on this host to its end. Only entries behind its last member that were left out are not in
/// it, so a walk that goes on there may look at them again; and what the next segment of a file would need is not.
pub fn described(manifest: &Path, packed_at: Timestamp) -> Result<Described, Failure> {
    let mut reader = read_manifest(manifest)?;
    let head = reader.head().clone();
    let mut last_member: Option<Member> = None;
    for member in reader.by_ref() {
        last_member = Some(member.map_err(|err| ManifestReadError { path: manifest.to_owned(), source: err.into() })?);
    }
    let damaged = || {
        let what = format!("The manifest {manifest:?} does not say which piece it is of");
        Failure::new(Fate::Operator, Trouble::State, what)
    };
    let end = reader.range_end().cloned().ok_or_else(damaged)?;
    let path = |text, b64| join(text, b64).and_then(|bytes| SourcePath::parse(&bytes).ok()).ok_or_else(damaged);
    let (first, last) = (path(&head.first, &head.first_b64)?, path(&head.last, &head.last_b64)?);
    let segment = last_member.and_then(|member| Some((member.segment?, member.size)));
    let row = PackedRow {
        name: name_in(&head.key, &head.source, head.pass).ok_or_else(damaged)?,
        first,
        position: last.clone(),
        last,
        segment: segment.map(|(segment, len)| SegmentRow {
            index: segment.index,
            count: segment.count,
            offset: segment.offset,
            len,
            file_size: segment.file_size,
        }),
        segment_state: None,
        members: head.members,
        tar_size: head.tar_size,
        tar_sha256: head.tar_sha256.clone(),
        counts: serde_json::to_string(&end.counts).unwrap_or_default(),
        seen: end.counts.seen,
        archived: end.counts.clean + end.counts.changed,
        lost: end.exceptions.iter().filter(|line| line.severity == Severity::Loss).count() as u64,
        replaces: None,
        packed_at,
    };
    Ok(Described { head, row, exceptions: end.exceptions })
}

/// The name of a piece of this source and pass, by its key in the vault.
pub fn name_in(key: &str, source: &SourceName, pass: PassId) -> Option<PieceName> {
    let file = key.rsplit('/').next()?;
    let short = &file[..file.rfind(".tar")?];
    format!("{source}.{pass}.{short}").parse().ok()
}
