//! The members of a piece as its manifest tells them, for commands that read many of them: in order, a line at a time.

use super::{Failed, access::Access};
use crate::{
    archive::manifest::Member,
    catalog::{PieceRow, PieceState},
    pipeline::{ManifestReadError, read_manifest},
};
use std::{ops::ControlFlow, path::Path};

/// Hands over the members of a sealed piece until `each` has seen enough. A manifest that was lost here is fetched from
/// the vault, and so is one that turns out to be damaged, which is then gone on with where the other one broke off.
pub fn each_member(
    access: &Access,
    row: &PieceRow,
    mut each: impl FnMut(Member) -> Result<ControlFlow<()>, Failed>,
) -> Result<(), Failed> {
    if matches!(row.state, PieceState::Packed | PieceState::Compressed) {
        return Err(Failed::new(1, format!("Piece {} has no manifest before it is sealed", row.packed.name.short())));
    }
    let mut done = 0;
    match read(&access.manifest(row)?, &mut done, &mut each)? {
        Ok(()) => Ok(()),
        Err(damaged) if row.delivered.is_some() => {
            eprintln!("archiver: {}; it is fetched again", crate::fate::Chain(&damaged));
            read(&access.fetched_manifest(row)?, &mut done, &mut each)?.map_err(|err| Failed::of(&err))
        }
        Err(damaged) => Err(Failed::of(&damaged)),
    }
}

/// Passes over the first `done` members, and counts what it hands over.
fn read(
    manifest: &Path,
    done: &mut usize,
    each: &mut dyn FnMut(Member) -> Result<ControlFlow<()>, Failed>,
) -> Result<Result<(), ManifestReadError>, Failed> {
    let members = match read_manifest(manifest) {
        Ok(members) => members,
        Err(err) => return Ok(Err(err)),
    };
    for member in members.skip(*done) {
        match member {
            Ok(member) => {
                *done += 1;
                if each(member)?.is_break() {
                    break;
                }
            }
            Err(err) => return Ok(Err(ManifestReadError { path: manifest.to_owned(), source: err.into() })),
        }
    }
    Ok(Ok(()))
}
