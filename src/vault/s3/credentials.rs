//! Who we are to the server, as it is known now.
//!
//! The SDK asks a profile once in the life of a process. Keys are replaced while we run for months, so they are asked
//! for anew whenever they expire, whenever the server does not accept them, and when we are told to.

use aws_config::{
    Region,
    default_provider::credentials::DefaultCredentialsChain,
    profile::{ProfileFileCredentialsProvider, credentials::Builder},
    provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// So long before they expire, credentials are asked for anew.
const BEFORE_EXPIRY: Duration = Duration::from_secs(300);
/// Files are looked at again after this long, so that keys can be replaced before the old ones are refused.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// For all that hands out credentials: some of it has no limit of its own, and a helper program may hang. Shorter than
/// anybody waits for the answer of a server.
const ANSWER_MAX: Duration = Duration::from_secs(20);

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
        let asked = timeout(ANSWER_MAX, self.ask()).await;
        let asked = asked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(ANSWER_MAX)));
        let mut known = self.known();
        match (asked, known.as_mut()) {
            (Ok(credentials), _) => {
                *known = Some(Known { credentials: credentials.clone(), asked: now });
                Ok(credentials)
            }
            // Who hands them out is away; the old ones may do for a while.
            (Err(_), Some(old)) if old.credentials.expiry().is_none_or(|expiry| now < expiry) => {
                // Nobody is kept waiting for it at every request.
                old.asked = now;
                Ok(old.credentials.clone())
            }
            (Err(err), _) => Err(err),
        }
    }

    /// Everything is built anew, since providers keep what they have read.
    async fn ask(&self) -> provider::Result {
        match &self.identity {
            // It looks for a region of its own, whatever its configuration says, unless it is given one.
            Identity::Chain => {
                let chain = DefaultCredentialsChain::builder().configure(self.config.clone());
                chain.region(self.region.clone()).build().await.provide_credentials().await
            }
            // Not the chain: the environment would come before the profile, and a role of the instance after it.
            Identity::Profile(name) => self.profile(name).build().provide_credentials().await,
            Identity::File { path, profile } => {
                let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
                let profile = self.profile(profile.as_deref().unwrap_or("default")).profile_files(files);
                profile.build().provide_credentials().await
            }
        }
    }

    fn profile(&self, name: &str) -> Builder {
        let config = self.config.clone().with_region(Some(self.region.clone()));
        ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name)
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

    /// As the profile `backup` of a file says.
    fn reloading(path: &std::path::Path) -> Reloading {
        let identity = Identity::File { path: path.to_owned(), profile: Some("backup".into()) };
        let config = ProviderConfig::without_region().with_http_client(super::super::client::http_client());
        Reloading::new(identity, config, Region::from_static("eu-central-1"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_program_that_hangs_is_not_waited_for_for_ever() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[backup]\ncredential_process = sleep 90\n").unwrap();
        let err = reloading(file.path()).provide_credentials().await.unwrap_err();
        assert!(matches!(err, CredentialsError::ProviderTimedOut(_)), "{err:?}");
    }

    #[tokio::test]
    async fn a_file_that_was_replaced_is_read_again_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        write(&path, "OLD");
        let reloading = reloading(&path);
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
