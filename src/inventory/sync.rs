//! Catalog and vault held against each other, both ways.

use super::{Contents, FoundPass};
use crate::{
    catalog::{Catalog, CatalogError, PassRow, PieceRow, PieceState},
    vault::{Key, Listed},
};
use std::{collections::BTreeMap, fmt};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The catalog says that it was delivered.
    Missing {
        key: String,
    },
    /// Of a pass that has ended.
    NoIndex {
        key: String,
    },
    Size {
        key: Key,
        catalog: u64,
        vault: u64,
    },
    /// A pass that lies in the vault, and that the catalog does not know.
    UnknownPass {
        prefix: String,
    },
    /// Of a pass that the catalog knows.
    Unknown {
        key: Key,
    },
}

impl Difference {
    pub fn kind(&self) -> &'static str {
        match self {
            Difference::Missing { .. } => "missing",
            Difference::NoIndex { .. } => "no-index",
            Difference::Size { .. } => "size",
            Difference::UnknownPass { .. } => "unknown-pass",
            Difference::Unknown { .. } => "unknown",
        }
    }

    pub fn key(&self) -> &str {
        match self {
            Difference::Missing { key } | Difference::NoIndex { key } => key,
            Difference::UnknownPass { prefix } => prefix,
            Difference::Size { key, .. } | Difference::Unknown { key } => key.as_str(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { key } => write!(f, "{key}: delivered, and not in the vault"),
            Difference::NoIndex { key } => write!(f, "{key}: the pass has ended, and its index is not in the vault"),
            Difference::Size { key, catalog, vault } => {
                write!(f, "{key}: {vault} bytes in the vault, and {catalog} by the catalog")
            }
            Difference::UnknownPass { prefix } => write!(f, "{prefix}: a pass that the catalog does not know"),
            Difference::Unknown { key } => write!(f, "{key}: in the vault, and not in the catalog"),
        }
    }
}

/// What a catalog knows, read before the vault is listed.
pub struct Known(Vec<(PassRow, Vec<PieceRow>)>);

impl Known {
    pub fn of(catalog: &Catalog) -> Result<Known, CatalogError> {
        let passes = catalog.passes(None)?.into_iter();
        let with_pieces = passes.map(|pass| {
            let pieces = catalog.pieces(&pass.source, pass.pass)?;
            Ok((pass, pieces))
        });
        Ok(Known(with_pieces.collect::<Result<_, CatalogError>>()?))
    }
}

/// What the catalog says and the vault does not, and the other way round, among passes of the hosts `hosts` (as they
/// stand in keys).
pub fn compare(contents: &Contents, known: &Known, hosts: &[String]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut in_vault: BTreeMap<&str, &Listed> = BTreeMap::new();
    let passes = || contents.passes.iter().filter(|found| hosts.contains(&found.host_id));
    for found in passes() {
        let small = found.index.iter().chain(&found.tree);
        let objects = found.pieces.values().flat_map(|objects| objects.piece.iter().chain(&objects.manifest));
        in_vault.extend(small.chain(objects).map(|listed| (listed.key.as_str(), listed)));
    }
    let mut unknown: BTreeMap<String, &FoundPass> = passes().map(|found| (found.prefix(), found)).collect();
    for (pass, pieces) in &known.0 {
        for row in pieces {
            piece(row, &mut in_vault, &mut differences);
        }
        let key = pieces.iter().find_map(|row| Some(&row.delivered.as_ref()?.key));
        let lies_at = |prefix: &&String| prefix.ends_with(&format!("/{}/{}/", pass.source_id, pass.pass));
        let prefix = match key.and_then(|key| key.rsplit_once('/')) {
            Some((dir, _)) => format!("{dir}/"),
            None => match unknown.keys().find(lies_at) {
                Some(prefix) => prefix.clone(),
                None => continue,
            },
        };
        let has_index = ["index.json.zst.gpg", "index.json.zst"]
            .iter()
            .any(|end| in_vault.remove(&*format!("{prefix}{end}")).is_some());
        if pass.ended.is_some() && !has_index {
            differences.push(Difference::NoIndex { key: format!("{prefix}index.json.zst") });
        }
        for end in ["tree.txt.xz.gpg", "tree.txt.xz"] {
            in_vault.remove(&*format!("{prefix}{end}"));
        }
        if let Some(found) = unknown.remove(&prefix) {
            ignore_under_way(found, pass, pieces, &mut in_vault);
        }
    }
    for prefix in unknown.into_keys() {
        in_vault.retain(|key, _| !key.starts_with(&prefix));
        differences.push(Difference::UnknownPass { prefix });
    }
    differences.extend(in_vault.into_values().map(|listed| Difference::Unknown { key: listed.key.clone() }));
    differences
}

/// What is on its way may be there already, or was begun since the catalog was read, and is not told of.
fn ignore_under_way(found: &FoundPass, pass: &PassRow, pieces: &[PieceRow], in_vault: &mut BTreeMap<&str, &Listed>) {
    let delivered: BTreeMap<u32, bool> =
        pieces.iter().map(|row| (row.packed.name.seq, row.state == PieceState::Delivered)).collect();
    let last = delivered.keys().next_back().copied().unwrap_or(0);
    for (seq, objects) in &found.pieces {
        let is_under_way = match delivered.get(seq) {
            Some(is_delivered) => !is_delivered,
            None => pass.ended.is_none() && *seq > last,
        };
        if is_under_way {
            for listed in objects.piece.iter().chain(&objects.manifest) {
                in_vault.remove(listed.key.as_str());
            }
        }
    }
}

fn piece(row: &PieceRow, in_vault: &mut BTreeMap<&str, &Listed>, differences: &mut Vec<Difference>) {
    let (PieceState::Delivered, Some(sealed), Some(delivered)) = (row.state, &row.sealed, &row.delivered) else {
        return;
    };
    for (key, size) in [(&delivered.key, sealed.size), (&delivered.manifest_key, sealed.manifest_size)] {
        match in_vault.remove(key.as_str()) {
            None => differences.push(Difference::Missing { key: key.clone() }),
            // A catalog that was made of an index does not know how long a manifest is.
            Some(listed) if size > 0 && listed.size != size => {
                differences.push(Difference::Size { key: listed.key.clone(), catalog: size, vault: listed.size });
            }
            Some(_) => {}
        }
    }
}
