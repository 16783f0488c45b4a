//! Who we are to the server, as it is known now.
//!
//! The SDK asks a profile once in the life of a process. Keys are replaced while we run for months, so they are asked
//! for anew whenever they expire, whenever the server does not accept them, and when we are told to.

use aws_config::{
    Region,
    default_provider::credentials::{Builder, DefaultCredentialsChain},
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, future},
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// So long before they expire, credentials are asked for anew.
const BEFORE_EXPIRY: Duration = Duration::from_secs(300);
/// Files are looked at again after this long, so that keys can be replaced before the old ones are refused.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The usual chain: environment, profile, web identity, container, instance.
    Chain,
    /// A profile of the usual files.
    Profile(String),
    /// A file of profiles, and which of them; `default` where none is named.
    File { path: PathBuf, profile: Option<String> },
}

/// Asks again when it must.
#[derive(Clone, Debug)]
pub(super) struct Reloading {
    identity: Identity,
    config: ProviderConfig,
    region: Region,
    known: Arc<Mutex<Option<Known>>>,
}

#[derive(Debug)]
struct Known {
    credentials: Credentials,
    asked: SystemTime,
}

impl Reloading {
    pub(super) fn new(identity: Identity, config: ProviderConfig, region: Region) -> Reloading {
        Reloading { identity, config, region, known: Arc::default() }
    }

    /// The next request asks anew.
    pub(super) fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self) -> provider::Result {
        let now = SystemTime::now();
        if let Some(credentials) = self.known().as_ref().and_then(|known| known.fresh(now)) {
            return Ok(credentials);
        }
        let asked = self.ask().await;
        let mut known = self.known();
        match (asked, known.as_ref()) {
            (Ok(credentials), _) => {
                *known = Some(Known { credentials: credentials.clone(), asked: now });
                Ok(credentials)
            }
            // Who hands them out is away; the old ones may do for a while.
            (Err(_), Some(old)) if old.credentials.expiry().is_none_or(|expiry| now < expiry) => {
                Ok(old.credentials.clone())
            }
            (Err(err), _) => Err(err),
        }
    }

    /// Everything is built anew, since providers keep what they have read.
    async fn ask(&self) -> provider::Result {
        match &self.identity {
            Identity::Chain => self.chain().build().await.provide_credentials().await,
            Identity::Profile(name) => self.chain().profile_name(name).build().await.provide_credentials().await,
            Identity::File { path, profile } => {
                let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
                let profile = profile.as_deref().unwrap_or("default");
                let provider = ProfileFileCredentialsProvider::builder()
                    .configure(&self.config.clone().with_region(Some(self.region.clone())))
                    .profile_files(files)
                    .profile_name(profile);
                provider.build().provide_credentials().await
            }
        }
    }

    /// The chain looks for a region of its own, whatever its configuration says, unless it is given one.
    fn chain(&self) -> Builder {
        DefaultCredentialsChain::builder().configure(self.config.clone()).region(self.region.clone())
    }
}

impl Known {
    fn fresh(&self, now: SystemTime) -> Option<Credentials> {
        let lasts = self.credentials.expiry().is_none_or(|expiry| now + BEFORE_EXPIRY < expiry);
        let is_young = now.duration_since(self.asked).is_ok_and(|age| age < LOOK_AGAIN);
        // What expires is asked for before it does; what does not may be replaced.
        let holds = if self.credentials.expiry().is_some() { lasts } else { is_young };
        holds.then(|| self.credentials.clone())
    }
}

impl ProvideCredentials for Reloading {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &std::path::Path, key: &str) {
        std::fs::write(path, format!("[backup]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_was_replaced_is_read_again_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        write(&path, "OLD");
        let identity = Identity::File { path: path.clone(), profile: Some("backup".into()) };
        let config = ProviderConfig::without_region().with_http_client(super::super::client::http_client());
        let reloading = Reloading::new(identity, config, Region::from_static("eu-central-1"));
        let key = async || reloading.provide_credentials().await.map(|found| found.access_key_id().to_owned());
        assert_eq!(key().await.unwrap(), "OLD");
        write(&path, "NEW");
        assert_eq!(key().await.unwrap(), "OLD", "not asked for every request");
        reloading.forget();
        assert_eq!(key().await.unwrap(), "NEW");
        std::fs::remove_file(&path).unwrap();
        reloading.forget();
        assert!(key().await.is_err(), "none are made up");
    }

    #[test]
    fn what_expires_is_asked_for_in_time() {
        let now = SystemTime::now();
        let known = |expiry: Option<u64>, age: u64| Known {
            credentials: Credentials::new("a", "b", None, expiry.map(|left| now + Duration::from_secs(left)), "test"),
            asked: now - Duration::from_secs(age),
        };
        assert!(known(Some(301), 100_000).fresh(now).is_some());
        assert!(known(Some(300), 0).fresh(now).is_none());
        assert!(known(None, 299).fresh(now).is_some());
        assert!(known(None, 300).fresh(now).is_none());
    }
}
