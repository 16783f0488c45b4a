//! What an answer of the server means, and what must be done about it.
//!
//! Servers agree on the status more than on the code, and on the code more than on the message; a HEAD has no body,
//! so it has a status only.

use super::{Place, roots::NoRoots};
use crate::vault::{Cause, VaultError, payload::PayloadError};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::{RequestId, RequestIdExt},
};
use std::{error::Error, fmt::Display};

/// A call, and what is needed to be allowed to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub name: &'static str,
    /// What it does, to be read after "Cannot".
    pub attempt: &'static str,
    pub permission: &'static str,
    /// Whether the permission is one on the bucket, not on objects.
    pub of_bucket: bool,
    /// Whether it is a call on an upload under way.
    pub of_upload: bool,
}

const fn on_object(name: &'static str, attempt: &'static str, permission: &'static str) -> Call {
    Call { name, attempt, permission, of_bucket: false, of_upload: false }
}

const fn on_upload(name: &'static str, attempt: &'static str, permission: &'static str) -> Call {
    Call { of_upload: true, ..on_object(name, attempt, permission) }
}

const fn on_bucket(name: &'static str, attempt: &'static str, permission: &'static str) -> Call {
    Call { of_bucket: true, ..on_object(name, attempt, permission) }
}

impl Call {
    pub const PUT: Call = on_object("PutObject", "put", "s3:PutObject");
    pub const CREATE: Call = on_object("CreateMultipartUpload", "begin an upload of", "s3:PutObject");
    pub const PART: Call = on_upload("UploadPart", "store a part of", "s3:PutObject");
    pub const COMPLETE: Call = on_upload("CompleteMultipartUpload", "complete", "s3:PutObject");
    pub const ABORT: Call = on_upload("AbortMultipartUpload", "abort an upload of", "s3:AbortMultipartUpload");
    pub const PARTS: Call = on_upload("ListParts", "list the parts of", "s3:ListMultipartUploadParts");
    pub const UPLOADS: Call =
        on_bucket("ListMultipartUploads", "list the uploads below", "s3:ListBucketMultipartUploads");
    pub const HEAD: Call = on_object("HeadObject", "look at", "s3:GetObject");
    pub const GET: Call = on_object("GetObject", "read", "s3:GetObject");
    pub const LIST: Call = on_bucket("ListObjectsV2", "list what is below", "s3:ListBucket");
    pub const DELETE: Call = on_object("DeleteObject", "delete", "s3:DeleteObject");
    pub const DELETE_MANY: Call = on_object("DeleteObjects", "delete", "s3:DeleteObject");
    pub const DELETE_VERSIONS: Call = on_object("DeleteObjects", "delete every version of", "s3:DeleteObjectVersion");
    pub const VERSIONS: Call = on_bucket("ListObjectVersions", "list the versions of", "s3:ListBucketVersions");
    pub const THAW: Call = on_object("RestoreObject", "thaw", "s3:RestoreObject");
    pub const VERSIONING: Call =
        on_bucket("GetBucketVersioning", "look at the versioning of", "s3:GetBucketVersioning");
    pub const LOCK: Call =
        on_bucket("GetObjectLockConfiguration", "look at the lock of", "s3:GetBucketObjectLockConfiguration");
    pub const LIFECYCLE: Call =
        on_bucket("GetBucketLifecycleConfiguration", "look at the lifecycle of", "s3:GetLifecycleConfiguration");
    pub const ENCRYPTION: Call =
        on_bucket("GetBucketEncryption", "look at the encryption of", "s3:GetEncryptionConfiguration");
}

/// What the server, or the way to it, said.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{call} failed with {status} {code}: {message}{hint}{request}")]
    Answer {
        call: &'static str,
        status: u16,
        code: String,
        message: String,
        hint: String,
        request: String,
        cause: Cause,
    },
    #[error("{call} got no answer{hint}")]
    NoAnswer { call: &'static str, hint: &'static str, cause: Cause, source: Box<dyn Error + Send + Sync> },
    #[error("{call} took too long: {what}")]
    Stalled { call: &'static str, what: &'static str },
    #[error("{0}")]
    Mismatch(String),
    #[error("The key exists, and the server does not guard it")]
    Taken,
}

impl Failure {
    pub(super) fn cause(&self) -> Cause {
        match self {
            Failure::Answer { cause, .. } | Failure::NoAnswer { cause, .. } => *cause,
            Failure::Stalled { .. } => Cause::Network,
            Failure::Mismatch(_) => Cause::Integrity,
            Failure::Taken => Cause::Exists,
        }
    }

    /// Whether the server said yes or no without saying why: then it must be asked in another way.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self, Failure::Answer { status: 400 | 401 | 403 | 301 | 307, code, .. } if code.is_empty())
    }

    /// Whether the server may not know a thing that it was asked for; or something else is wrong with the request.
    pub(super) fn is_of_the_unknown(&self) -> bool {
        let Failure::Answer { status, code, .. } = self else { return false };
        *status == 501 || matches!(code.as_str(), "InvalidStorageClass" | "InvalidArgument" | "InvalidRequest")
    }

    /// Whether the server may not know the call at all. Some want a digest with it that nobody else asks for.
    pub(super) fn is_unknown_call(&self) -> bool {
        let Failure::Answer { status, code, .. } = self else { return false };
        let is_told = matches!(code.as_str(), "MethodNotAllowed" | "MissingContentMD5" | "MissingRequestBodyError");
        *status == 405 || is_told || self.is_of_the_unknown()
    }

    pub(super) fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Failure::Answer { code, .. } if code == wanted)
    }

    pub(super) fn of(self, attempt: &'static str, key: impl Display) -> VaultError {
        VaultError::new(attempt, key, self.cause(), self)
    }

    /// Of one of many, in an answer that is none of failure.
    pub(super) fn of_one(call: Call, place: &Place, code: &str, message: &str) -> Failure {
        let cause = cause(200, code);
        let hint = permission(call, place, code, message, cause);
        let (code, message) = (code.to_owned(), message.to_owned());
        Failure::Answer { call: call.name, status: 200, code, message, hint, request: String::new(), cause }
    }

    pub(super) fn new<E>(call: Call, place: &Place, err: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let Some(response) = err.raw_response() else { return no_answer(call, err) };
        let status = response.status().as_u16();
        let meta = err.meta();
        let code = meta.code().unwrap_or_default();
        let request = err.request_id().map(|id| format!(" (request {id})")).unwrap_or_default();
        let request = match err.extended_request_id() {
            Some(id) if !request.is_empty() => format!("{request}, {id}"),
            _ => request,
        };
        let header = |name| response.headers().get(name).map(str::to_owned);
        // A success that could not be read was cut off, or comes from something else than an S3 server.
        let cause = match cause(status, code) {
            _ if response.status().is_success() && code.is_empty() => Cause::Network,
            // What stands before a server has its own 404, while the server starts. An upload that is thrown away for
            // that may have been weeks on its way, so only the server's own word counts.
            Cause::Gone if call.of_upload && code != "NoSuchUpload" => Cause::Other,
            cause => cause,
        };
        let message = match meta.message() {
            Some(message) => message.to_owned(),
            None if code.is_empty() => crate::fate::Chain(&err).to_string(),
            None => String::new(),
        };
        let hint = match cause {
            Cause::Setup => match header("x-amz-bucket-region").or_else(|| region_in(response.body().bytes())) {
                Some(region) => format!("; the bucket is in {region:?}: write `region = \"{region}\"` in [vault]"),
                None => String::new(),
            },
            Cause::Clock => skew(header("date").as_deref()),
            cause => permission(call, place, code, &message, cause),
        };
        Failure::Answer { call: call.name, status, code: code.to_owned(), message, hint, request, cause }
    }
}

/// What it would take, where it is not allowed.
fn permission(call: Call, place: &Place, code: &str, message: &str, cause: Cause) -> String {
    if cause != Cause::Permission || !matches!(code, "" | "AccessDenied") {
        return String::new();
    }
    // No right helps against that, but the one that this program never asks for.
    if message.contains("object lock") || message.contains("Object Lock") {
        return "; its retention has not ended".to_owned();
    }
    format!("; it takes the permission {} on {}", call.permission, place.arn(call.of_bucket))
}

const NO_CREDENTIALS: &str = ": no credentials were found; name `profile` or `credentials_file` in [vault], or set \
                              AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

fn no_answer<E>(call: Call, err: SdkError<E, HttpResponse>) -> Failure
where
    E: Error + Send + Sync + 'static,
{
    let mut cause = Cause::Network;
    let mut hint = "";
    let mut source: Option<&(dyn Error + 'static)> = Some(&err);
    while let Some(err) = source {
        match err.downcast_ref::<CredentialsError>() {
            Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
                (cause, hint) = (Cause::Credentials, NO_CREDENTIALS);
            }
            Some(_) => hint = ": whoever hands out the credentials did not",
            None => {}
        }
        if err.is::<NoRoots>() {
            (cause, hint) = (Cause::Setup, "");
            break;
        }
        if err.is::<PayloadError>() {
            (cause, hint) = (Cause::Integrity, ": what was to be sent is not what it was");
        }
        let text = err.to_string();
        if text.contains("certificate") {
            hint = ": its certificate is not to be trusted";
        } else if text.contains("dns error") {
            hint = ": its name could not be resolved";
        }
        source = err.source();
    }
    Failure::NoAnswer { call: call.name, hint, cause, source: Box::new(err) }
}

/// The region that a document of an error names: `<Region>eu-west-1</Region>`.
fn region_in(body: Option<&[u8]>) -> Option<String> {
    let text = std::str::from_utf8(body?).ok()?;
    let (_, rest) = text.split_once("<Region>")?;
    let (region, _) = rest.split_once("</Region>")?;
    let is_plain = !region.is_empty() && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_plain.then(|| region.to_owned())
}

/// How far the clocks are apart, by the server's own.
fn skew(date: Option<&str>) -> String {
    let Some(server) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return String::new() };
    let ahead = jiff::Timestamp::now().as_second() - server.timestamp().as_second();
    let (by, which) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
    format!("; the clock of this host is {by} s {which} the server's")
}

fn cause(status: u16, code: &str) -> Cause {
    match code {
        "SlowDown"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "Busy" => Cause::Throttle,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "NotSignedUp"
        | "AuthFailure"
        | "InvalidSecurity" => Cause::Credentials,
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => Cause::Clock,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch"
        | "IncompleteBody"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "EntityTooSmall"
        | "ContentSHA256Mismatch" => Cause::Integrity,
        "NoSuchUpload" | "NoSuchKey" | "NotFound" => Cause::Gone,
        "PreconditionFailed" => Cause::Exists,
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => Cause::Storage,
        "ConditionalRequestConflict" | "OperationAborted" => Cause::Conflict,
        "NoSuchBucket"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName"
        | "InvalidStorageClass"
        | "InvalidRegion"
        | "TemporaryRedirect" => Cause::Setup,
        "RequestTimeout" | "RequestTimeoutException" => Cause::Network,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "MethodNotAllowed" | "InvalidObjectState" => {
            Cause::Permission
        }
        _ => by_status(status),
    }
}

fn by_status(status: u16) -> Cause {
    match status {
        429 | 503 => Cause::Throttle,
        408 => Cause::Network,
        401 | 403 => Cause::Permission,
        404 => Cause::Gone,
        409 => Cause::Conflict,
        412 => Cause::Exists,
        507 => Cause::Storage,
        300..=399 => Cause::Setup,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_servers_use_have_their_class() {
        for (status, code, expected) in [
            (503, "SlowDown", Cause::Throttle),
            (503, "", Cause::Throttle),
            (429, "whatever", Cause::Throttle),
            (500, "InternalError", Cause::Other),
            (502, "", Cause::Other),
            (400, "RequestTimeout", Cause::Network),
            (400, "ExpiredToken", Cause::Credentials),
            (403, "InvalidClientTokenId", Cause::Credentials),
            (403, "SignatureDoesNotMatch", Cause::Credentials),
            (403, "RequestTimeTooSkewed", Cause::Clock),
            (403, "AccessDenied", Cause::Permission),
            (403, "", Cause::Permission),
            (400, "XAmzContentChecksumMismatch", Cause::Integrity),
            (400, "InvalidDigest", Cause::Integrity),
            (404, "NoSuchUpload", Cause::Gone),
            (404, "NoSuchBucket", Cause::Setup),
            (301, "PermanentRedirect", Cause::Setup),
            (400, "AuthorizationHeaderMalformed", Cause::Setup),
            (412, "PreconditionFailed", Cause::Exists),
            (409, "ConditionalRequestConflict", Cause::Conflict),
            (400, "InvalidArgument", Cause::Other),
            (403, "QuotaExceeded", Cause::Storage),
            (507, "", Cause::Storage),
        ] {
            assert_eq!(cause(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn the_right_region_is_read_from_the_error() {
        let body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(region_in(Some(body)).as_deref(), Some("eu-west-1"));
        for none in [None, Some(&b"<Region></Region>"[..]), Some(b"<Region>eu\"</Region>"), Some(b"<Region>eu")] {
            assert_eq!(region_in(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_skewed_clock_is_told_in_seconds() {
        assert_eq!(skew(None), "");
        assert_eq!(skew(Some("yesterday")), "");
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1_200);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then).unwrap();
        let told = skew(Some(&date));
        assert!(told.contains("120") && told.contains("ahead of"), "{told}");
    }
}
