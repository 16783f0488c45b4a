//! Answers that no operation gave: error documents, and what rules make of an honest answer.

use crate::{body, body::Answer, script::Act};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use s3s::{S3ErrorCode, StdError};
use std::{collections::BTreeMap, str::FromStr};

/// The usual status of a code.
pub(crate) fn status_of(code: &str) -> u16 {
    match code {
        "TooManyRequests" | "TooManyRequestsException" => 429,
        "InvalidToken" => 400,
        _ => S3ErrorCode::from_str(code).ok().and_then(|code| code.status_code()).map_or(400, |status| status.as_u16()),
    }
}

/// An error document.
pub(crate) fn document(code: &str, message: &str, details: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{details}\
         <RequestId>{}</RequestId><HostId>double</HostId></Error>",
        request_id()
    )
}

fn request_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("DOUBLE{:010}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An answer with an error document.
pub(crate) fn error(code: &str, status: Option<u16>, headers: &BTreeMap<String, String>) -> Response<Answer> {
    let details = match headers.get("x-amz-bucket-region") {
        Some(region) => format!("<Endpoint>s3.{region}.amazonaws.com</Endpoint><Region>{region}</Region>"),
        None => String::new(),
    };
    let mut answer = complaint(code, "As the test's script says.", &details);
    *answer.status_mut() =
        StatusCode::from_u16(status.unwrap_or_else(|| status_of(code))).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// An answer with an error document and the usual status of its code.
pub(crate) fn complaint(code: &str, message: &str, details: &str) -> Response<Answer> {
    let text = document(code, message, details);
    let mut answer = Response::new(body::full(text));
    *answer.status_mut() = StatusCode::from_u16(status_of(code)).unwrap_or(StatusCode::BAD_REQUEST);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Puts the headers on that every answer has.
pub(crate) fn finish(answer: &mut Response<Answer>, date: std::time::SystemTime) {
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        headers.entry("x-amz-request-id").or_insert(id);
    }
    headers.entry("x-amz-id-2").or_insert(HeaderValue::from_static("double"));
    headers.entry(header::SERVER).or_insert(HeaderValue::from_static("AmazonS3"));
    if let Some(date) = http_date(date).and_then(|date| HeaderValue::from_str(&date).ok()) {
        headers.insert(header::DATE, date);
    }
}

/// A date as HTTP writes it.
pub(crate) fn http_date(at: std::time::SystemTime) -> Option<String> {
    let mut text = Vec::new();
    s3s::dto::Timestamp::from(at).format(s3s::dto::TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// The code in an error document.
pub(crate) fn code_in(text: &str) -> Option<String> {
    let from = text.find("<Code>")? + 6;
    Some(text[from..].split('<').next()?.to_owned())
}

/// Collects the body if it is a document of the protocol; the bytes of objects are left to flow.
pub(crate) async fn collected(answer: Response<Answer>) -> (Response<Answer>, Option<String>) {
    let is_xml = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/xml");
    let is_error = answer.status().is_client_error() || answer.status().is_server_error();
    if !is_xml && !is_error {
        return (answer, None);
    }
    let (parts, body) = answer.into_parts();
    match body.collect().await {
        Ok(collected) => {
            let text = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
            (Response::from_parts(parts, body::full(text.clone())), Some(text))
        }
        Err(_) => (Response::from_parts(parts, body::full("")), None),
    }
}

/// Makes of an honest answer what a rule wants.
pub(crate) async fn changed(act: &Act, answer: Response<Answer>) -> Result<Response<Answer>, StdError> {
    Ok(match act {
        Act::DoAndFail { code, status } => error(code, *status, &BTreeMap::new()),
        Act::ErrorIn200 { code, .. } => error(code, Some(200), &BTreeMap::new()),
        Act::Truncate { after } => truncated(answer, *after),
        Act::EmptyBody => {
            let mut headers = answer.headers().clone();
            headers.remove(header::TRANSFER_ENCODING);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            let mut empty = Response::new(body::full(""));
            *empty.headers_mut() = headers;
            empty
        }
        Act::WrongChecksum => rewritten(answer, "x-amz-checksum-", "<Checksum", Some(wrong_sum)).await,
        Act::WrongEtag => rewritten(answer, "etag", "<ETag>", Some(wrong_etag)).await,
        Act::DropChecksums => rewritten(answer, "x-amz-checksum-", "<Checksum", None).await,
        Act::CorruptAnswer { at } => answer.map(|body| body::flipped(body, *at)),
        _ => answer,
    })
}

/// Announces all and sends less. An answer without a body announces one, or there would be nothing to cut.
fn truncated(answer: Response<Answer>, after: u64) -> Response<Answer> {
    let mut answer = answer.map(|body| body::truncated(body, after));
    let announced = answer.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_none_or(|length: u64| length <= after) {
        answer.headers_mut().remove(header::TRANSFER_ENCODING);
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(after + 100));
    }
    answer
}

type Change = fn(&str) -> String;

/// Changes values in headers and in the elements of a document, or takes them out.
async fn rewritten(answer: Response<Answer>, name: &str, tag: &str, change: Option<Change>) -> Response<Answer> {
    let (mut answer, text) = collected(answer).await;
    rewrite_headers(answer.headers_mut(), name, change);
    if let Some(text) = text {
        let text = rewritten_elements(&text, tag, change);
        if answer.headers().contains_key(header::CONTENT_LENGTH) {
            answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        }
        *answer.body_mut() = body::full(text);
    }
    answer
}

fn rewrite_headers(headers: &mut HeaderMap, prefix: &str, change: Option<Change>) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
    for name in names {
        let Some(old) = headers.remove(&name) else { continue };
        let keeps = name == "x-amz-checksum-type" || name == "x-amz-checksum-algorithm";
        match change {
            Some(_) if keeps => {
                headers.insert(name, old);
            }
            Some(change) => {
                if let Ok(value) = HeaderValue::from_str(&change(old.to_str().unwrap_or_default())) {
                    headers.insert(name, value);
                }
            }
            None => (),
        }
    }
}

/// `tag` is how the elements begin: `<Checksum` means `<ChecksumCRC32>` and its sisters.
fn rewritten_elements(text: &str, tag: &str, change: Option<Change>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(tag) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((name, value, after)) = element(rest) else { break };
        match change {
            Some(_) if name == "ChecksumType" || name == "ChecksumAlgorithm" => {
                out.push_str(&rest[..rest.len() - after.len()])
            }
            Some(change) => out.push_str(&format!("<{name}>{}</{name}>", change(value))),
            None => (),
        }
        rest = after;
    }
    out + rest
}

/// `<name>value</name>` at the beginning of a text, and what follows.
fn element(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let end = rest.find(&format!("</{name}>"))?;
    Some((name, &rest[..end], &rest[end + name.len() + 3..]))
}

fn wrong_sum(sum: &str) -> String {
    let (value, tail) = sum.split_once('-').map_or((sum, String::new()), |(value, n)| (value, format!("-{n}")));
    let mut bytes = BASE64.decode(value).unwrap_or_default();
    if let Some(first) = bytes.first_mut() {
        *first = !*first;
    }
    BASE64.encode(bytes) + &tail
}

/// Every hexadecimal digit becomes another.
fn wrong_etag(etag: &str) -> String {
    let quoted = etag.replace("&quot;", "\"");
    quoted.chars().map(|c| c.to_digit(16).and_then(|digit| char::from_digit(15 - digit, 16)).unwrap_or(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_changed_or_taken_out_and_the_rest_stays() {
        let text = "<A><ETag>\"0f-2\"</ETag><ChecksumType>FULL_OBJECT</ChecksumType><ChecksumCRC32>AAAAAA==</ChecksumCRC32></A>";
        let wrong = rewritten_elements(text, "<Checksum", Some(wrong_sum));
        assert!(wrong.contains("<ChecksumCRC32>/wAAAA==</ChecksumCRC32>"), "{wrong}");
        assert!(wrong.contains("<ChecksumType>FULL_OBJECT</ChecksumType>"), "{wrong}");
        let none = rewritten_elements(text, "<Checksum", None);
        assert_eq!(none, "<A><ETag>\"0f-2\"</ETag></A>");
        assert!(rewritten_elements(text, "<ETag>", Some(wrong_etag)).contains("\"f0-d\""));
    }

    #[test]
    fn codes_have_their_usual_status() {
        let codes = ["SlowDown", "InternalError", "RequestTimeTooSkewed", "NoSuchUpload", "TooManyRequests"];
        assert_eq!(codes.map(status_of), [503, 500, 403, 404, 429]);
    }
}
