//! A vault is known by the id in its `archiver.json`, and all that this host has delivered is in one vault. One of
//! another name, or of none, is another vault, whatever led there: a configuration that was changed, a bucket that
//! was emptied or replaced. An index there would claim pieces that it does not hold.

use super::{
    context::{Context, Failure, random_id},
    delivery::{STANDARD, spec},
    kept,
};
use crate::{
    archive::manifest::FORMAT_VERSION,
    catalog::{self, Catalog},
    fate::{Fate, Trouble},
    upload::Retries,
    vault::{Cause, Key, Vault, checksum::crc64, payload::Payload},
};
use std::path::Path;

/// Names the vault and the version of what is in it. Hosts that share a vault go by the name that the first gave it.
pub const VAULT_FILE: &str = "archiver.json";
/// Setting of the catalog: what this host calls a vault that has no name yet.
const VAULT_ID: &str = "vault-id";
/// Setting of the catalog: the name of the vault that this host delivers to, as it stands there.
const VAULT_GREETED: &str = "vault-greeted";

/// Whether something may be in a vault that belongs to this catalog, or to the one that it was before it went back to
/// its copy: then passes are on record beside it.
pub fn is_vault_known(catalog: &Catalog, state: &Path) -> catalog::Result<bool> {
    let is_named = vault_name(catalog)?.or(catalog.setting(VAULT_ID)?).is_some();
    Ok(is_named || kept::passes(state).is_ok_and(|passes| !passes.is_empty()))
}

/// The name of the vault to which everything went so far, if anything did.
pub fn vault_name(catalog: &Catalog) -> catalog::Result<Option<String>> {
    catalog.setting(VAULT_GREETED)
}

/// Why this cannot be the vault of that name, if it answers; one that does not is known when it does.
pub async fn is_stranger(vault: &dyn Vault, known: &str, retries: Retries) -> Option<String> {
    match name_of(vault, retries, &VAULT_FILE.parse().ok()?).await {
        Ok(found) if found.as_deref() != Some(known) => Some(stranger(known, found.as_deref()).chain()),
        Err(failure) if failure.fate == Fate::Operator => Some(failure.chain()),
        _ => None,
    }
}

/// Makes sure that this is the vault to which everything went so far. One that nobody has used is given a name.
pub(super) fn greet(ctx: &Context) -> Result<(), Failure> {
    let key: Key = VAULT_FILE.parse()?;
    let found = ctx.ask(name_of(ctx.vault.as_ref(), ctx.options.upload.retries, &key))?;
    match (vault_name(&ctx.catalog)?, found) {
        (Some(known), Some(found)) if known == found => Ok(()),
        (Some(known), found) => Err(stranger(&known, found.as_deref())),
        (None, Some(found)) => Ok(ctx.catalog.set_setting(VAULT_GREETED, &found)?),
        (None, None) => Ok(ctx.catalog.set_setting(VAULT_GREETED, &give_name(ctx, &key)?)?),
    }
}

fn stranger(known: &str, found: Option<&str>) -> Failure {
    let found = found.map_or_else(|| "is not there".to_owned(), |found| format!("names the vault {found}"));
    let what = format!(
        "{VAULT_FILE} {found}, but what this host has delivered is in the vault {known}: write the vault.url of that \
         one again; if it was moved here, copy its {VAULT_FILE} as well; to begin anew in this one, name another state"
    );
    Failure::new(Fate::Operator, Trouble::Vault, what)
}

/// What the vault is called; nothing when it has no name. One that is newer than we are is refused.
async fn name_of(vault: &dyn Vault, retries: Retries, key: &Key) -> Result<Option<String>, Failure> {
    let Some(receipt) = retries.ask(|| vault.head(key)).await? else { return Ok(None) };
    let text = retries.ask(|| vault.get_range(key, 0, receipt.size.min(64 << 10))).await?;
    let known: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    match (known["format"].as_u64(), known["vault"].as_str()) {
        (Some(format), Some(name)) if format <= u64::from(FORMAT_VERSION) => Ok(Some(name.to_owned())),
        _ => {
            let what = format!("{VAULT_FILE} in the vault is not of a format that this version knows");
            Err(Failure::new(Fate::Operator, Trouble::Vault, what))
        }
    }
}

/// Gives the vault a name, unless another host is faster. Returns the one that it has then.
fn give_name(ctx: &Context, key: &Key) -> Result<String, Failure> {
    let id = ctx.catalog.setting_or(VAULT_ID, random_id)?;
    let bytes = format!("{}\n", serde_json::json!({ "format": FORMAT_VERSION, "vault": id })).into_bytes();
    let crc64 = crc64(&bytes);
    let spec = spec(bytes.len() as u64, crc64, STANDARD);
    ctx.ask(async {
        let payload = Payload::of_bytes(bytes, crc64);
        match ctx.options.upload.retries.ask(|| ctx.vault.put(key, &spec, payload.clone())).await {
            Err(err) if err.cause != Cause::Exists => return Err(Failure::from(err)),
            _ => {}
        }
        let lost = || format!("The vault took {VAULT_FILE}, but does not hold it");
        let name = name_of(ctx.vault.as_ref(), ctx.options.upload.retries, key).await?;
        name.ok_or_else(|| Failure::new(Fate::Retry, Trouble::Vault, lost()))
    })
}
