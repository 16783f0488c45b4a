//! What is to go, by what somebody named.

use crate::{
    catalog::{Catalog, CatalogError, PassRow, PieceRow, PieceState},
    name::{PassId, SourceName},
};
use std::collections::BTreeMap;

/// What was named.
#[derive(Clone, Debug)]
pub enum What {
    Passes(Vec<PassId>),
    /// Each by its number, its name or its key.
    Pieces(Vec<String>),
    AllOfSource,
}

#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("There is no pass {pass} of {source_name}")]
    NoPass { pass: PassId, source_name: SourceName },
    #[error("There is no piece {piece:?} of {source_name}")]
    NoPiece { piece: String, source_name: SourceName },
    #[error("{piece:?} may be any of {}: write one of these names", .names.join(", "))]
    Ambiguous { piece: String, names: Vec<String> },
}

/// A pass of which something is to go.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub pass: PassRow,
    /// What is to go, in walk order; retired pieces are not among it.
    pub pieces: Vec<PieceRow>,
    /// Whether nothing of the pass is to stay.
    pub is_whole: bool,
}

/// By pass, the oldest first.
pub fn choose(catalog: &Catalog, source: &SourceName, what: &What) -> Result<Vec<Chosen>, ChoiceError> {
    let mut passes = BTreeMap::new();
    for row in catalog.passes(Some(source))? {
        let mut pieces = catalog.pieces(source, row.pass)?;
        pieces.retain(|piece| piece.state != PieceState::Retired);
        passes.insert(row.pass, Chosen { pass: row, pieces, is_whole: true });
    }
    match what {
        What::AllOfSource => {}
        What::Passes(wanted) => {
            if let Some(pass) = wanted.iter().find(|pass| !passes.contains_key(pass)) {
                return Err(ChoiceError::NoPass { pass: *pass, source_name: source.clone() });
            }
            passes.retain(|pass, _| wanted.contains(pass));
        }
        What::Pieces(wanted) => {
            let mut found = Vec::new();
            for piece in wanted {
                found.push(only(piece, source, passes.values().flat_map(|chosen| &chosen.pieces))?.name().clone());
            }
            passes.retain(|_, chosen| {
                let all = chosen.pieces.len();
                chosen.pieces.retain(|row| found.contains(row.name()));
                chosen.is_whole = chosen.pieces.len() == all;
                !chosen.pieces.is_empty()
            });
        }
    }
    Ok(passes.into_values().collect())
}

/// The one piece that is named so.
fn only<'a>(
    piece: &str,
    source: &SourceName,
    all: impl Iterator<Item = &'a PieceRow>,
) -> Result<&'a PieceRow, ChoiceError> {
    let meant: Vec<&PieceRow> = all.filter(|row| row.is_named(piece)).collect();
    match meant.as_slice() {
        [one] => Ok(one),
        [] => Err(ChoiceError::NoPiece { piece: piece.to_owned(), source_name: source.clone() }),
        several => {
            let names = several.iter().map(|row| row.name().to_string()).collect();
            Err(ChoiceError::Ambiguous { piece: piece.to_owned(), names })
        }
    }
}
