//! The listing of a vault, sorted into passes and pieces by the names of what is there.

use crate::{
    name::PassId,
    pipeline::VAULT_FILE,
    restore::patiently,
    vault::{Key, Listed, Vault, VaultError},
};
use std::collections::BTreeMap;

/// Keys asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// What there is of a piece.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub piece: Option<Listed>,
    pub manifest: Option<Listed>,
}

/// A directory of the vault in which a pass lies.
#[derive(Clone, Debug)]
pub struct FoundPass {
    /// In the keys: the name of the host and of the source, or what stands for them.
    pub host_id: String,
    pub source_id: String,
    pub pass: PassId,
    pub index: Option<Listed>,
    pub tree: Option<Listed>,
    /// By seq.
    pub pieces: BTreeMap<u32, Objects>,
}

impl FoundPass {
    /// With the trailing `/`.
    pub fn prefix(&self) -> String {
        format!("{}/{}/{}/", self.host_id, self.source_id, self.pass)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// In order of their keys.
    pub passes: Vec<FoundPass>,
    /// What has no name of ours.
    pub strangers: Vec<Key>,
}

/// Lists a whole vault.
pub async fn contents(vault: &dyn Vault) -> Result<Contents, VaultError> {
    let mut contents = Contents::default();
    let mut passes: BTreeMap<(String, String, PassId), FoundPass> = BTreeMap::new();
    let mut after: Option<Key> = None;
    loop {
        let listed = patiently(|| vault.list("", after.as_ref(), PAGE)).await?;
        let is_last = listed.len() < PAGE;
        after = listed.last().map(|last| last.key.clone());
        for object in listed {
            sort(object, &mut passes, &mut contents.strangers);
        }
        if is_last {
            contents.passes = passes.into_values().collect();
            return Ok(contents);
        }
    }
}

fn sort(object: Listed, passes: &mut BTreeMap<(String, String, PassId), FoundPass>, strangers: &mut Vec<Key>) {
    if object.key.as_str() == VAULT_FILE {
        return;
    }
    let key = object.key.clone();
    let words: Vec<&str> = key.as_str().split('/').collect();
    let [host, source, pass, file] = words[..] else { return strangers.push(key.clone()) };
    let (Ok(pass), Some(what)) = (pass.parse::<PassId>(), what_is(file)) else { return strangers.push(key.clone()) };
    let found = passes.entry((host.to_owned(), source.to_owned(), pass)).or_insert_with(|| FoundPass {
        host_id: host.to_owned(),
        source_id: source.to_owned(),
        pass,
        index: None,
        tree: None,
        pieces: BTreeMap::new(),
    });
    let place = match what {
        What::Index => &mut found.index,
        What::Tree => &mut found.tree,
        What::Piece(seq) => &mut found.pieces.entry(seq).or_default().piece,
        What::Manifest(seq) => &mut found.pieces.entry(seq).or_default().manifest,
    };
    match place {
        // Two names for the same: nothing of ours does that.
        Some(_) => strangers.push(key),
        None => *place = Some(object),
    }
}

enum What {
    Index,
    Tree,
    Piece(u32),
    Manifest(u32),
}

fn what_is(file: &str) -> Option<What> {
    let stem = file.strip_suffix(".gpg").unwrap_or(file);
    match stem {
        "index.json.zst" => return Some(What::Index),
        "tree.txt.xz" => return Some(What::Tree),
        _ => {}
    }
    let seq = seq_of(file)?;
    match stem.strip_suffix(".manifest.jsonl.zst") {
        Some(_) => Some(What::Manifest(seq)),
        None => [".tar.xz", ".tar.zst", ".tar"].iter().any(|end| stem.ends_with(end)).then_some(What::Piece(seq)),
    }
}

/// The number at the beginning of the name of a piece or a manifest.
pub fn seq_of(file: &str) -> Option<u32> {
    let digits = file.find(|c: char| !c.is_ascii_digit())?;
    (digits >= 6).then(|| file[..digits].parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Thaw;

    #[test]
    fn names_are_sorted_into_passes_and_pieces() {
        let (mut passes, mut strangers) = (BTreeMap::new(), Vec::new());
        for key in [
            "archiver.json",
            "nas1/data/20261120T200000Z/index.json.zst.gpg",
            "nas1/data/20261120T200000Z/tree.txt.xz.gpg",
            "nas1/data/20261120T200000Z/000001-a.tar.xz.gpg",
            "nas1/data/20261120T200000Z/000001-a.tar.xz",
            "nas1/data/20261120T200000Z/000001-a.manifest.jsonl.zst.gpg",
            "nas1/data/20261120T200000Z/1000000.tar",
            "nas1/data/20261120T200000Z/12-a.tar.xz.gpg",
            "nas1/data/20261120T200000Z/notes.txt",
            "nas1/data/2026/000001-a.tar.xz.gpg",
            "nas1/other",
        ] {
            let listed = Listed { key: key.parse().unwrap(), size: 1, storage_class: String::new(), thaw: Thaw::Ready };
            sort(listed, &mut passes, &mut strangers);
        }
        let [found] = &passes.into_values().collect::<Vec<_>>()[..] else { panic!("one pass") };
        assert_eq!(found.prefix(), "nas1/data/20261120T200000Z/");
        assert!(found.index.is_some() && found.tree.is_some());
        assert_eq!(found.pieces.keys().copied().collect::<Vec<_>>(), [1, 1_000_000]);
        assert!(found.pieces[&1].manifest.is_some() && found.pieces[&1_000_000].manifest.is_none());
        assert_eq!(strangers.len(), 5, "{strangers:?}");
    }
}
