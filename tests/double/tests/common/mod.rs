//! What the tests of the double share: a client that does as it is told, once.
#![allow(dead_code, reason = "no test uses all of it")]

use archiver_s3_double::{ACCESS_KEY, Double, REGION, SECRET_KEY};
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use std::time::Duration;

/// The bucket that exists from the start.
pub const BUCKET: &str = "bucket";

/// A client of this server.
pub fn client(double: &Double) -> Client {
    client_of(&double.endpoint(), Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
}

/// A client without retries, so that every request of a test is one request.
pub fn client_of(endpoint: &str, credentials: Credentials) -> Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(20)).build();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(credentials)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// Status and code of a refusal. Without an answer: 0, and what went wrong.
pub fn refusal<T: std::fmt::Debug, E>(result: Result<T, SdkError<E>>) -> (u16, String)
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    match result {
        Err(error) => {
            let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
            (status, error.code().map_or_else(|| format!("{error:?}"), str::to_owned))
        }
        Ok(answer) => panic!("expected a refusal, got {answer:?}"),
    }
}

/// Bytes that do not compress and differ from each other.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Stores an object.
pub async fn put(client: &Client, key: &str, bytes: &[u8]) {
    let body = ByteStream::from(bytes.to_vec());
    client.put_object().bucket(BUCKET).key(key).body(body).send().await.expect("put");
}
