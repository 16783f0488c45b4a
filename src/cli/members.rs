//! The members of a piece as its manifest tells them, for commands that read many of them: in order, a line at a time.

use super::{Failed, access::Access};
use crate::{
    archive::manifest::Member,
    catalog::{PieceRow, PieceState},
    pipeline::{ManifestReadError, read_manifest},
};
use std::{ops::ControlFlow, path::Path};

/// Hands over all members of a sealed piece. A manifest that is lost or damaged here is fetched from the vault before any
/// of it is believed: only its end tells whether all before is as it was written.
pub fn each_member(
    access: &Access,
    row: &PieceRow,
    mut each: impl FnMut(Member) -> Result<ControlFlow<()>, Failed>,
) -> Result<(), Failed> {
    check_sealed(row)?;
    let mut manifest = access.manifest(row)?;
    if let Err(damaged) = read(&manifest, &mut 0, &mut |_| Ok(ControlFlow::Continue(())))? {
        if row.delivered.is_none() {
            return Err(Failed::of(&damaged));
        }
        eprintln!("archiver: {}; it is fetched again", crate::fate::Chain(&damaged));
        manifest = access.fetched_manifest(row)?;
    }
    read(&manifest, &mut 0, &mut each)?.map_err(|err| Failed::of(&err))
}

/// Hands over the members of a sealed piece until `each` has seen enough, and reads no further: damage behind that is not
/// met. A manifest that was lost here is fetched from the vault, and so is one that turns out to be damaged, which is then
/// gone on with where the other one broke off.
pub fn each_member_until(
    access: &Access,
    row: &PieceRow,
    mut each: impl FnMut(Member) -> Result<ControlFlow<()>, Failed>,
) -> Result<(), Failed> {
    check_sealed(row)?;
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

fn check_sealed(row: &PieceRow) -> Result<(), Failed> {
    if matches!(row.state, PieceState::Packed | PieceState::Compressed) {
        return Err(Failed::new(1, format!("Piece {} has no manifest before it is sealed", row.packed.name.short())));
    }
    Ok(())
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
