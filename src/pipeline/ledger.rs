//! Uploads under way, as the catalog keeps them.

use crate::{
    catalog::{Catalog, CatalogError},
    fate::Fateful,
    upload::{Ledger, LedgerError},
    vault::Key,
};

pub struct CatalogLedger(pub Catalog);

impl Ledger for CatalogLedger {
    fn load(&self, key: &Key) -> Result<Option<String>, LedgerError> {
        self.0.upload(key.as_str()).map_err(ledger_error("read", key))
    }

    fn save(&self, key: &Key, record: &str) -> Result<(), LedgerError> {
        self.0.save_upload(key.as_str(), record).map_err(ledger_error("write", key))
    }

    fn forget(&self, key: &Key) -> Result<(), LedgerError> {
        self.0.forget_upload(key.as_str()).map_err(ledger_error("remove", key))
    }
}

fn ledger_error<'a>(attempt: &'static str, key: &'a Key) -> impl FnOnce(CatalogError) -> LedgerError + 'a {
    move |err| LedgerError { attempt, key: key.clone(), fate: err.fate(), source: Box::new(err) }
}
