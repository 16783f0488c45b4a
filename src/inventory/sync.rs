//! Catalog and vault held against each other, both ways.

use super::Contents;
use crate::{
    catalog::{Catalog, CatalogError, PieceRow, PieceState},
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

/// What the catalog says and the vault does not, and the other way round, among passes of the hosts `hosts` (as they
/// stand in keys).
pub fn compare(contents: &Contents, catalog: &Catalog, hosts: &[String]) -> Result<Vec<Difference>, CatalogError> {
    let mut differences = Vec::new();
    let mut in_vault: BTreeMap<String, &Listed> = BTreeMap::new();
    let passes = || contents.passes.iter().filter(|found| hosts.contains(&found.host_id));
    for found in passes() {
        let small = found.index.iter().chain(&found.tree);
        let objects = found.pieces.values().flat_map(|objects| objects.piece.iter().chain(&objects.manifest));
        in_vault.extend(small.chain(objects).map(|listed| (listed.key.to_string(), listed)));
    }
    let mut is_known: BTreeMap<String, bool> = passes().map(|found| (found.prefix(), false)).collect();
    for pass in catalog.passes(None)? {
        let mut prefix = None;
        for row in catalog.pieces(&pass.source, pass.pass)? {
            piece(&row, &mut in_vault, &mut differences);
            let key = row.delivered.as_ref().map(|delivered| delivered.key.clone());
            prefix = prefix.or_else(|| key.and_then(|key| key.rsplit_once('/').map(|(dir, _)| format!("{dir}/"))));
        }
        let Some(prefix) = prefix else { continue };
        let has_index = ["index.json.zst.gpg", "index.json.zst"]
            .iter()
            .any(|end| in_vault.remove(&format!("{prefix}{end}")).is_some());
        if pass.ended.is_some() && !has_index {
            differences.push(Difference::NoIndex { key: format!("{prefix}index.json.zst") });
        }
        for end in ["tree.txt.xz.gpg", "tree.txt.xz"] {
            in_vault.remove(&format!("{prefix}{end}"));
        }
        is_known.insert(prefix, true);
    }
    for (prefix, _) in is_known.iter().filter(|(_, is_known)| !**is_known) {
        in_vault.retain(|key, _| !key.starts_with(prefix));
        differences.push(Difference::UnknownPass { prefix: prefix.clone() });
    }
    differences.extend(in_vault.into_values().map(|listed| Difference::Unknown { key: listed.key.clone() }));
    Ok(differences)
}

fn piece(row: &PieceRow, in_vault: &mut BTreeMap<String, &Listed>, differences: &mut Vec<Difference>) {
    if row.state != PieceState::Delivered {
        // What is on its way may be there already, and is not told of before it is delivered.
        let short = format!("/{}/{:06}", row.name().pass, row.name().seq);
        in_vault.retain(|key, _| !key.contains(&short));
        return;
    }
    let (Some(sealed), Some(delivered)) = (&row.sealed, &row.delivered) else { return };
    for (key, size) in [(&delivered.key, sealed.size), (&delivered.manifest_key, sealed.manifest_size)] {
        match in_vault.remove(key) {
            None => differences.push(Difference::Missing { key: key.clone() }),
            // A catalog that was made of an index does not know how long a manifest is.
            Some(listed) if size > 0 && listed.size != size => {
                differences.push(Difference::Size { key: listed.key.clone(), catalog: size, vault: listed.size });
            }
            Some(_) => {}
        }
    }
}
