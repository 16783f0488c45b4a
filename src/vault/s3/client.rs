//! The client of the SDK, with everything off that would get in the way for months: its retries, its guesses of when
//! a transfer is dead, its checksums of what we have checksums of.

use super::{Options, Patience, credentials::Reloading, roots::Rooted};
use aws_config::{
    BehaviorVersion, environment::EnvironmentVariableRegionProvider, imds::region::ImdsRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider, provider_config::ProviderConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::{
    Client,
    config::{
        Config, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::SharedHttpClient, runtime_components::RuntimeComponents};
use std::{sync::atomic::AtomicBool, time::Duration};

/// A connection that was idle for longer is not used again: servers close theirs after some 20 s, and a firewall may
/// have forgotten it without telling.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// Where no region is known and none matters.
const ANY_REGION: &str = "us-east-1";

/// Asks the instance for its region where nobody else knows it.
pub(super) async fn client(options: &Options) -> (Client, Reloading) {
    let http = http_client();
    let config =
        ProviderConfig::without_region().with_http_client(http.clone()).with_retry_config(RetryConfig::disabled());
    let region = region(options, &config).await;
    let credentials = Reloading::new(options.identity.clone(), config, region.clone());
    let mut builder = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .http_client(http)
        .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(&options.patience))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(options.path_style);
    if let Some(url) = &options.endpoint_url {
        builder = builder.endpoint_url(url);
    }
    (Client::from_conf(builder.build()), credentials)
}

async fn region(options: &Options, config: &ProviderConfig) -> Region {
    let known = match &options.region {
        Some(region) => Some(Region::new(region.clone())),
        None if options.endpoint_url.is_some() => None,
        None => {
            let profile = ProfileFileRegionProvider::builder().configure(config);
            let profile = match &options.identity {
                super::Identity::Profile(name) => profile.profile_name(name),
                _ => profile,
            };
            // The SDK's default chain, which takes no HTTP client of ours for its last link.
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(profile.build())
                .or_else(ImdsRegionProvider::builder().configure(config).build())
                .region()
                .await
        }
    };
    known.unwrap_or_else(|| Region::from_static(ANY_REGION))
}

/// Everything beyond connecting is watched by ourselves: only we know how much is to be sent, and how fast.
fn timeouts(patience: &Patience) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(patience.connect).build()
}

/// TLS by rustls with the system's roots, through the proxy that the environment names.
pub(super) fn http_client() -> SharedHttpClient {
    let (trusting, distrusting) = (with_trust(TrustStore::default()), with_trust(TrustStore::empty()));
    SharedHttpClient::new(Rooted { trusting, distrusting, are_there: AtomicBool::new(false) })
}

fn with_trust(store: TrustStore) -> SharedHttpClient {
    let tls = TlsContext::builder().with_trust_store(store).build().expect("a trust store is all that it has");
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .pool_idle_timeout(IDLE_MAX)
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}
