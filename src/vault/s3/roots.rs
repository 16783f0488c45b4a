//! Whom a server's certificate is trusted by: the roots of the system, or of `SSL_CERT_FILE`.
//!
//! The SDK takes it for granted that there are some when its client is made, and looks only once. A minimal system has
//! none until somebody installs them; until then whatever needs them is refused here, and all else goes on.

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::HttpRequest,
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Debug, thiserror::Error)]
#[error("This system has no root certificates: install ca-certificates, or name a file of them in SSL_CERT_FILE")]
pub(super) struct NoRoots;

/// Two clients: one that trusts the roots of the system, from when there are any, and one that trusts nobody.
#[derive(Debug)]
pub(super) struct Rooted {
    pub trusting: SharedHttpClient,
    pub distrusting: SharedHttpClient,
    /// Once seen, they are there.
    pub are_there: AtomicBool,
}

impl Rooted {
    fn may_trust(&self) -> bool {
        if !self.are_there.load(Relaxed) && !rustls_native_certs::load_native_certs().certs.is_empty() {
            self.are_there.store(true, Relaxed);
        }
        self.are_there.load(Relaxed)
    }
}

impl HttpClient for Rooted {
    /// Asked for each request.
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        if self.may_trust() {
            return self.trusting.http_connector(settings, components);
        }
        SharedHttpConnector::new(Distrusting(self.distrusting.http_connector(settings, components)))
    }
}

#[derive(Debug)]
struct Distrusting(SharedHttpConnector);

impl HttpConnector for Distrusting {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if request.uri().starts_with("https:") {
            return HttpConnectorFuture::ready(Err(ConnectorError::other(BoxError::from(NoRoots), None)));
        }
        self.0.call(request)
    }
}
