//! Who may sign requests.

use crate::{options::Key, state::lock};
use s3s::{S3Result, auth::S3Auth, auth::SecretKey, s3_error};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

/// The keys that are valid now.
#[derive(Default)]
pub(crate) struct Keys {
    valid: HashMap<String, Key>,
    /// Access keys and session tokens whose time is over.
    expired: BTreeSet<String>,
}

impl Keys {
    pub fn new(keys: &[Key]) -> Keys {
        Keys { valid: keys.iter().map(|key| (key.access.clone(), key.clone())).collect(), expired: BTreeSet::new() }
    }

    pub fn add(&mut self, key: Key) {
        self.expired.remove(&key.access);
        self.valid.insert(key.access.clone(), key);
    }

    pub fn revoke(&mut self, access: &str) {
        self.valid.remove(access);
    }

    pub fn expire(&mut self, access_or_token: &str) {
        self.expired.insert(access_or_token.to_owned());
    }

    /// What is wrong with these credentials, apart from the signature.
    pub fn complaint(&self, access: &str, token: Option<&str>) -> Option<(&'static str, &'static str)> {
        let Some(key) = self.valid.get(access) else {
            return Some(("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."));
        };
        if self.expired.contains(access) || token.is_some_and(|token| self.expired.contains(token)) {
            return Some(("ExpiredToken", "The provided token has expired."));
        }
        match (&key.token, token) {
            (Some(_), None) => Some(("InvalidAccessKeyId", "A session token is required with this key.")),
            (Some(wanted), Some(token)) if wanted != token => {
                Some(("InvalidToken", "The provided token is malformed or otherwise not valid."))
            }
            _ => None,
        }
    }
}

/// Hands the secrets to the check of signatures.
pub(crate) struct Auth(pub Arc<Mutex<Keys>>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access: &str) -> S3Result<SecretKey> {
        let keys = lock(&self.0);
        let key = keys.valid.get(access).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        Ok(SecretKey::from(key.secret.as_str()))
    }
}
