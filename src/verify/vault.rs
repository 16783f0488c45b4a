//! Objects as the vault tells of them, without reading any: whether they are there, how long, in which class, and with the
//! checksum that was taken when they were sealed.

use super::{Finding, Verdict};
use crate::{
    catalog::PieceRow,
    fate::{Fate, Fateful},
    pipeline::{PIECES, all_of},
    vault::{Cause, Crc64, Key, KeyError, Receipt, SHA256_LABEL, Vault, VaultResult},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Of what must be readable at once.
const STANDARD: &str = "STANDARD";
/// Questions under way.
const ASKED_MAX: usize = 16;
/// How often a question is asked that was not answered: somebody waits.
const TRIES: u32 = 3;
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What an object must be.
#[derive(Clone, Debug)]
pub struct Due {
    pub key: Key,
    /// The seq of its piece; none of an object of the pass.
    pub seq: Option<u32>,
    size: Option<u64>,
    crc64: Option<Crc64>,
    sha256: Option<String>,
    class: String,
    /// Of an object of the pass: of which pieces it is.
    pieces: Option<String>,
}

/// What there must be of these pieces, which are delivered: each with its manifest; and of a pass that has ended its
/// listing and its index. `class`: of pieces.
pub fn due(rows: &[PieceRow], has_ended: bool, class: &str) -> Result<Vec<Due>, KeyError> {
    let mut due = Vec::new();
    for row in rows {
        let (Some(sealed), Some(delivered)) = (&row.sealed, &row.delivered) else { continue };
        due.push(Due {
            key: delivered.key.parse()?,
            seq: Some(row.packed.name.seq),
            size: Some(sealed.size),
            crc64: known(sealed.crc64),
            sha256: Some(sealed.sha256.clone()),
            class: class.to_owned(),
            pieces: None,
        });
        due.push(Due {
            key: delivered.manifest_key.parse()?,
            seq: Some(row.packed.name.seq),
            size: Some(sealed.manifest_size).filter(|size| *size > 0),
            crc64: known(sealed.manifest_crc64),
            sha256: None,
            class: STANDARD.to_owned(),
            pieces: None,
        });
    }
    // They lie beside the manifests, sealed in the same way.
    if let Some(manifest) = rows.first().and_then(|row| row.delivered.as_ref()).filter(|_| has_ended) {
        let (dir, file) = manifest.manifest_key.rsplit_once('/').unwrap_or_default();
        let suffix = if file.ends_with(".gpg") { ".gpg" } else { "" };
        for name in ["tree.txt.xz", "index.json.zst"] {
            due.push(Due {
                key: format!("{dir}/{name}{suffix}").parse()?,
                seq: None,
                size: None,
                crc64: None,
                sha256: None,
                class: STANDARD.to_owned(),
                pieces: Some(all_of(rows)),
            });
        }
    }
    Ok(due)
}

/// A catalog that was made of the vault may not know it.
pub fn known(crc64: u64) -> Option<Crc64> {
    Some(Crc64(crc64)).filter(|crc64| crc64.0 != 0)
}

/// What came of looking at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub objects: u64,
    pub bytes: u64,
    /// Of these the vault has no checksum: only their size and what they say of themselves was compared.
    pub without_checksum: u64,
    /// Seqs of pieces of which something is missing or damaged.
    pub bad: Vec<u32>,
}

/// Looks at all of them; findings come in their order. An error means that the vault cannot be asked at all.
pub async fn look(vault: &Arc<dyn Vault>, due: &[Due], tell: &mut dyn FnMut(&Due, Finding)) -> VaultResult<Seen> {
    let mut seen = Seen::default();
    for some in due.chunks(ASKED_MAX) {
        let mut asking = JoinSet::new();
        for (at, due) in some.iter().enumerate() {
            let (vault, key) = (vault.clone(), due.key.clone());
            asking.spawn(async move { (at, ask(|| vault.head(&key)).await) });
        }
        let mut answers = asking.join_all().await;
        answers.sort_by_key(|(at, _)| *at);
        for (due, (_, receipt)) in some.iter().zip(answers) {
            let receipt = receipt?;
            seen.objects += 1;
            seen.bytes += receipt.as_ref().map_or(0, |receipt| receipt.size);
            seen.without_checksum += u64::from(receipt.as_ref().is_some_and(|receipt| receipt.crc64.is_none()));
            for (verdict, why) in judge(due, receipt.as_ref()) {
                if verdict > Verdict::Changed {
                    seen.bad.extend(due.seq);
                }
                tell(due, Finding::object(verdict, &due.key, why));
            }
        }
    }
    seen.bad.dedup();
    Ok(seen)
}

/// Asks a few times, with the pauses that the failure needs, but none that is long.
pub async fn ask<T, F: Future<Output = VaultResult<T>>>(mut question: impl FnMut() -> F) -> VaultResult<T> {
    let mut failures = 0;
    loop {
        match question().await {
            Err(err) if err.fate() == Fate::Retry && err.cause != Cause::Gone && failures + 1 < TRIES => {
                failures += 1;
                tokio::time::sleep(err.waits().first.min(WAIT_MAX)).await;
            }
            answer => return answer,
        }
    }
}

fn judge(due: &Due, held: Option<&Receipt>) -> Vec<(Verdict, String)> {
    let Some(held) = held else { return vec![(Verdict::Missing, "it is not in the vault".to_owned())] };
    let mut wrong = Vec::new();
    if let Some(size) = due.size.filter(|size| *size != held.size) {
        wrong.push((Verdict::Damaged, format!("it is {} bytes long, and was {size} when it was sealed", held.size)));
    } else if held.crc64.zip(due.crc64).is_some_and(|(held, due)| held != due) {
        wrong.push((Verdict::Damaged, "its checksum is another one than when it was sealed".to_owned()));
    }
    if held.metadata.get(SHA256_LABEL).zip(due.sha256.as_ref()).is_some_and(|(held, due)| held != due) {
        wrong.push((Verdict::Damaged, "it says of itself that it is another object".to_owned()));
    }
    if held.metadata.get(PIECES).zip(due.pieces.as_ref()).is_some_and(|(held, due)| held != due) {
        wrong.push((Verdict::Damaged, "it is of other pieces than the catalog knows of this pass".to_owned()));
    }
    // Of what is another object it says nothing.
    if wrong.is_empty() && held.storage_class != due.class {
        wrong.push((Verdict::Changed, format!("it is in the class {}, and not in {}", held.storage_class, due.class)));
    }
    wrong
}
