//! The HTTP side: what a rule, a key or the clock decides before and after the operation itself.

use crate::{
    admin, answer,
    body::{self, Answer, Counted},
    log::Recording,
    request::Asked,
    script::{Act, Closing, Flip, Plan},
    state::{Shared, lock},
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use s3s::{Body, HttpRequest, StdError, dto, service::S3Service};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

/// How old or new a signature may be.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// What the operation has to know of the plan, and what it wants to have answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    /// Answer as if it was done.
    pub pretend: bool,
    /// Store other bytes.
    pub flip: Option<Flip>,
    /// A status that the operation cannot set by itself.
    pub status: Arc<Mutex<Option<u16>>>,
}

/// One server's way of answering.
#[derive(Clone)]
pub(crate) struct Front {
    pub shared: Arc<Shared>,
    pub service: S3Service,
}

impl Front {
    /// Answers a request. An error closes the connection.
    pub async fn answer(self, request: Request<Incoming>) -> Result<Response<Answer>, StdError> {
        if request.uri().path().starts_with(admin::PATH) {
            return Ok(admin::answer(&self.shared, request).await);
        }
        let (parts, body) = request.into_parts();
        let asked = Asked::of(&parts);
        let recording = self.shared.log.begin(asked.entry(&parts.headers));
        let plan = lock(&self.shared.script).plan(&asked);
        recording.note(|entry| entry.rule.clone_from(&plan.rule));
        let answered = self.follow(&plan, &asked, Request::from_parts(parts, body), &recording).await;
        if asked.changes {
            self.shared.save()?;
        }
        tokio::time::sleep(plan.delay_answer).await;
        let (mut answered, text) = match plan.act {
            // Collecting would find out where it ends.
            Act::Truncate { .. } => (answered?, None),
            _ => answer::collected(answered?).await,
        };
        answer::finish(&mut answered, self.shared.clock.signing_now());
        recording.note(|entry| {
            entry.status = Some(answered.status().as_u16());
            entry.code = text.as_deref().and_then(answer::code_in);
        });
        Ok(answered)
    }

    async fn follow(
        &self,
        plan: &Plan,
        asked: &Asked,
        request: Request<Incoming>,
        recording: &Recording<'_>,
    ) -> Result<Response<Answer>, StdError> {
        tokio::time::sleep(plan.delay).await;
        match &plan.act {
            Act::Hang { read: false } => return std::future::pending().await,
            Act::Close { when: Closing::BeforeReading } => return Err("closed as told, before reading".into()),
            Act::Refuse { code, status, headers, early: true } => return Ok(answer::error(code, *status, headers)),
            _ => (),
        }
        let counter = recording.counter();
        let (parts, incoming) = request.into_parts();
        let expects = parts.headers.contains_key("expect");
        let (counted, rest) = Counted::new(incoming, counter.clone());
        let skips = matches!(
            plan.act,
            Act::Refuse { .. }
                | Act::Hang { .. }
                | Act::Close { when: Closing::AfterReading }
                | Act::ErrorIn200 { done: false, .. }
        );
        if skips {
            drop(counted);
            body::drain(&rest, &counter).await;
            return match &plan.act {
                Act::Hang { .. } => std::future::pending().await,
                Act::Refuse { code, status, headers, .. } => Ok(answer::error(code, *status, headers)),
                Act::ErrorIn200 { code, .. } => Ok(answer::error(code, Some(200), &Default::default())),
                _ => Err("closed as told, after reading".into()),
            };
        }
        let honest = match self.complaint(asked) {
            Some(complaint) => {
                drop(counted);
                complaint
            }
            None => self.operate(plan, Request::from_parts(parts, Body::http_body_unsync(counted))).await?,
        };
        if !expects || honest.status().is_success() {
            body::drain(&rest, &counter).await;
        }
        if plan.act == (Act::Close { when: Closing::AfterDoing }) {
            return Err("closed as told, after doing".into());
        }
        if !honest.status().is_success() {
            return Ok(honest);
        }
        answer::changed(&plan.act, honest).await
    }

    async fn operate(&self, plan: &Plan, mut request: HttpRequest) -> Result<Response<Answer>, StdError> {
        let mark = Mark {
            pretend: plan.act == Act::Pretend,
            flip: if let Act::Corrupt(flip) = plan.act { Some(flip) } else { None },
            status: Arc::default(),
        };
        request.extensions_mut().insert(mark.clone());
        let mut answered = self.service.call(request).await?.map(BodyExt::boxed_unsync);
        if answered.status().is_success()
            && let Some(status) = *lock(&mark.status)
        {
            *answered.status_mut() = StatusCode::from_u16(status)?;
        }
        Ok(answered)
    }

    /// What is wrong with the request apart from its signature and contents.
    fn complaint(&self, asked: &Asked) -> Option<Response<Answer>> {
        let persona = self.shared.persona();
        if let Some(access) = &asked.access_key
            && let Some((code, message)) = lock(&self.shared.keys).complaint(access, asked.token.as_deref())
        {
            return Some(answer::complaint(code, message, &format!("<AWSAccessKeyId>{access}</AWSAccessKeyId>")));
        }
        if let Some(date) = &asked.date
            && let Some(at) = amz_date(date)
            && let now = self.shared.clock.signing_now()
            && apart(at, now) > SKEW_MAX
        {
            let details = format!(
                "<RequestTime>{date}</RequestTime><ServerTime>{}</ServerTime>\
                 <MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>",
                iso(now)
            );
            let message = "The difference between the request time and the current time is too large.";
            return Some(answer::complaint("RequestTimeTooSkewed", message, &details));
        }
        if persona.denied.contains(asked.operation) {
            let message = format!("User is not authorized to perform: s3:{}", asked.operation);
            return Some(answer::complaint("AccessDenied", &message, ""));
        }
        if persona.no_trailers && asked.has_trailer {
            let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
            return Some(answer::complaint("XAmzContentSHA256Mismatch", message, ""));
        }
        None
    }
}

fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).or_else(|_| b.duration_since(a)).unwrap_or_default()
}

/// `20261121T153448Z`.
fn amz_date(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T')?;
    let (y, m, d) = (date.get(..4)?, date.get(4..6)?, date.get(6..8)?);
    let (h, min, s) = (time.get(..2)?, time.get(2..4)?, time.get(4..6)?);
    let iso = format!("{y}-{m}-{d}T{h}:{min}:{s}Z");
    let mut seconds = Vec::new();
    let parsed = dto::Timestamp::parse(dto::TimestampFormat::DateTime, &iso).ok()?;
    parsed.format(dto::TimestampFormat::EpochSeconds, &mut seconds).ok()?;
    let seconds: f64 = String::from_utf8(seconds).ok()?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0)))
}

fn iso(at: SystemTime) -> String {
    let mut text = Vec::new();
    let _ = dto::Timestamp::from(at).format(dto::TimestampFormat::DateTime, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_dates_are_read() {
        let at = amz_date("20261121T153448Z").unwrap();
        assert_eq!(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_795_275_288);
        assert_eq!(amz_date("yesterday"), None);
        assert_eq!(apart(at, at + SKEW_MAX), SKEW_MAX);
    }
}
