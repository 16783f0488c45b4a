//! The door for tests that run the server as a process of its own.

use crate::{answer, body::Answer, state::Shared};
use http::{Request, Response};
use hyper::body::Incoming;

/// What no bucket can be called.
pub(crate) const PATH: &str = "/_double/";

pub(crate) async fn answer(_shared: &Shared, _request: Request<Incoming>) -> Response<Answer> {
    answer::complaint("NotImplemented", "", "")
}
