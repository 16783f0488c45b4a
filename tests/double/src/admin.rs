//! The door for tests that run the server as a process of its own. Whoever can reach the server may use it.
//!
//! | | |
//! |---|---|
//! | `POST /_double/script` | adds rules: JSON, one rule, a list of them, or one per line |
//! | `DELETE /_double/script` | takes all rules away |
//! | `GET /_double/log` | all requests; `?operation=NAME` those of one operation |
//! | `GET /_double/counts` | how many requests of each operation, and bytes received |
//! | `GET /_double/objects?bucket=NAME` | the current objects |
//! | `GET /_double/uploads?bucket=NAME` | the uploads under way |
//! | `POST /_double/clock` | `{"advance_ms": 1000}`, `{"offset_ms": 0}`, `{"skew_ms": 0}` |
//! | `POST /_double/flag` | `{"name": "outage", "up": true}` |
//! | `POST /_double/persona` | what the server lacks; what is not named is lacking nothing |
//! | `POST /_double/keys` | `{"add": {"access": "A", "secret": "S", "token": null}}`, `{"revoke": "A"}`, `{"expire": "A"}` |
//! | `POST /_double/thaw` | `{"standard_ms": 1000, "bulk_ms": 2000}`, for thaws asked for from now on |

use crate::{
    answer,
    body::{self, Answer},
    options::{Key, Persona, Thaw},
    request::Query,
    script::Rule,
    state::{Shared, lock},
    view,
};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// What no bucket can be called.
pub(crate) const PATH: &str = "/_double/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    #[serde(default)]
    advance_ms: Option<u64>,
    #[serde(default)]
    offset_ms: Option<i64>,
    #[serde(default)]
    skew_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlagChange {
    name: String,
    up: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThawChange {
    standard_ms: u64,
    bulk_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    access: String,
    secret: String,
    #[serde(default)]
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeyChange {
    Add(NewKey),
    Revoke(String),
    Expire(String),
}

pub(crate) async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    let sent = match body.collect().await {
        Ok(sent) => String::from_utf8_lossy(&sent.to_bytes()).into_owned(),
        Err(error) => return answer::complaint("IncompleteBody", &error.to_string(), ""),
    };
    let what = parts.uri.path().trim_start_matches(PATH);
    let query = Query::of(parts.uri.query().unwrap_or_default());
    match act(shared, &parts.method, what, &query, &sent) {
        Ok(value) => {
            let mut answer = Response::new(body::full(value.to_string()));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(problem) => answer::complaint("InvalidRequest", &problem, ""),
    }
}

fn act(shared: &Shared, method: &Method, what: &str, query: &Query, sent: &str) -> Result<Value, String> {
    match (method.as_str(), what) {
        ("GET", "log") => {
            let wanted = query.get("operation");
            let entries = shared.log.entries();
            let entries: Vec<_> =
                entries.iter().filter(|entry| wanted.is_none_or(|wanted| entry.operation == wanted)).collect();
            Ok(json!(entries))
        }
        ("GET", "counts") => Ok(json!({ "requests": shared.log.counts(), "received": shared.log.received() })),
        ("GET", "objects") => Ok(objects(shared, query.get("bucket").unwrap_or_default())),
        ("GET", "uploads") => Ok(uploads(shared, query.get("bucket").unwrap_or_default())),
        ("POST", "script") => {
            let rules = rules(sent)?;
            let count = rules.len();
            let mut script = lock(&shared.script);
            rules.into_iter().for_each(|rule| script.add(rule));
            Ok(json!({ "added": count }))
        }
        ("DELETE", "script") => {
            lock(&shared.script).clear();
            Ok(json!({}))
        }
        ("POST", _) => change(shared, what, sent),
        _ => Err(format!("there is no {method} {PATH}{what}")),
    }
}

fn change(shared: &Shared, what: &str, sent: &str) -> Result<Value, String> {
    match what {
        "clock" => {
            let change: ClockChange = read(sent)?;
            if let Some(millis) = change.offset_ms {
                shared.clock.set_offset(millis);
            }
            if let Some(millis) = change.advance_ms {
                shared.clock.advance(Duration::from_millis(millis));
            }
            if let Some(millis) = change.skew_ms {
                shared.clock.set_skew(millis);
            }
        }
        "flag" => {
            let change: FlagChange = read(sent)?;
            lock(&shared.script).set_flag(&change.name, change.up);
        }
        "persona" => *lock(&shared.persona) = read::<Persona>(sent)?,
        "thaw" => {
            let change: ThawChange = read(sent)?;
            *lock(&shared.thaw) = Thaw {
                standard: Duration::from_millis(change.standard_ms),
                bulk: Duration::from_millis(change.bulk_ms),
            };
        }
        "keys" => {
            let mut keys = lock(&shared.keys);
            match read(sent)? {
                KeyChange::Add(new) => keys.add(Key { access: new.access, secret: new.secret, token: new.token }),
                KeyChange::Revoke(access) => keys.revoke(&access),
                KeyChange::Expire(access_or_token) => keys.expire(&access_or_token),
            }
        }
        _ => return Err(format!("there is no POST {PATH}{what}")),
    }
    Ok(json!({}))
}

fn read<T: for<'a> Deserialize<'a>>(sent: &str) -> Result<T, String> {
    serde_json::from_str(sent).map_err(|error| error.to_string())
}

/// Rules as JSON: one, a list, or one per line, where lines that are empty or begin with `#` do not count.
pub(crate) fn rules(text: &str) -> Result<Vec<Rule>, String> {
    if text.trim_start().starts_with('[') {
        return read(text);
    }
    if let Ok(rule) = read::<Rule>(text) {
        return Ok(vec![rule]);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| read(line).map_err(|error| format!("{line}: {error}"))).collect()
}

fn objects(shared: &Shared, bucket: &str) -> Value {
    let buckets = lock(&shared.buckets);
    let objects = buckets.get(bucket).map(view::objects).unwrap_or_default();
    let shown = objects.iter().map(|(key, object)| {
        let value = json!({
            "size": object.size,
            "class": object.class,
            "metadata": object.metadata,
            "tags": object.tags,
            "etag": object.etag,
            "crc64": object.crc64,
            "sums": named(&object.sums),
            "sum_type": object.sum_type,
            "parts": object.parts,
            "version": object.version,
        });
        (key.clone(), value)
    });
    Value::Object(shown.collect())
}

fn uploads(shared: &Shared, bucket: &str) -> Value {
    let buckets = lock(&shared.buckets);
    let uploads = buckets.get(bucket).map(view::uploads).unwrap_or_default();
    let shown = uploads.iter().map(|upload| {
        let parts: BTreeMap<i32, Value> = upload
            .parts
            .iter()
            .map(|(number, part)| {
                (*number, json!({ "size": part.size, "crc64": part.crc64, "sums": named(&part.sums) }))
            })
            .collect();
        json!({
            "id": upload.id,
            "key": upload.key,
            "class": upload.class,
            "metadata": upload.metadata,
            "parts": parts,
        })
    });
    Value::Array(shown.collect())
}

fn named(sums: &crate::sums::Sums) -> BTreeMap<&'static str, &str> {
    sums.iter().map(|(algorithm, sum)| (algorithm.name(), sum.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Act;

    #[test]
    fn rules_are_read_one_by_one_in_a_list_and_by_line() {
        let one = r#"{"operation": "UploadPart", "times": 2, "act": {"do": "refuse", "code": "SlowDown"}}"#;
        let by_line = format!("# an outage\n{one}\n\n{one}\n");
        let list = format!("[{one}, {one}]");
        assert_eq!([one, &by_line, &list].map(|text| rules(text).unwrap().len()), [1, 2, 2]);
        assert_eq!(rules(one).unwrap()[0].act, Act::refuse("SlowDown"));
        assert!(rules(r#"{"operatoin": "UploadPart"}"#).is_err(), "a slip of the pen must not match everything");
        assert!(rules(r#"{"act": {"do": "explode"}}"#).is_err());
    }
}
