//! The parts of one upload on their way: as many at once as the server takes, within the window.

use super::{UploadError, Uploader, cause_of, may_pass, parts::Span};
use crate::vault::{Cause, Key, Part, UploadId, VaultError, payload::Payload};
use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::PoisonError,
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::allowance::Turn;

/// Parts on their way.
pub(super) struct Sending<'a> {
    uploader: &'a Uploader,
    key: &'a Key,
    file: &'a PathBuf,
    upload: &'a UploadId,
    missing: VecDeque<Span>,
    under_way: JoinSet<Result<Part, UploadError>>,
    /// What is under way, so that what was cut can be sent again.
    spans: HashMap<Id, (Span, Turn)>,
    /// Failures without any success between them.
    failures: u32,
    /// Whether what is under way is about to end.
    is_cut: bool,
    /// Nothing is begun before.
    not_before: Option<Instant>,
    /// Ends it, once what is under way has ended.
    failed: Option<UploadError>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        uploader: &'a Uploader,
        key: &'a Key,
        file: &'a PathBuf,
        upload: &'a UploadId,
        missing: Vec<Span>,
    ) -> Sending<'a> {
        Sending {
            uploader,
            key,
            file,
            upload,
            missing: missing.into(),
            under_way: JoinSet::new(),
            spans: HashMap::new(),
            failures: 0,
            is_cut: false,
            not_before: None,
            failed: None,
        }
    }

    /// Sends what is missing, and tells every part that the vault took. A part that fails for a reason that may pass
    /// is sent again after a while; after too many failures in a row, or one of another kind, no further part is
    /// begun, but those under way are waited for: they are paid for, and need not be sent again.
    pub(super) async fn run(mut self, mut taken: impl FnMut(Part)) -> Result<(), UploadError> {
        loop {
            let more = self.failed.is_none() && !self.missing.is_empty();
            let room = self.under_way.len() < self.uploader.allowance().parts();
            if !more && self.under_way.is_empty() {
                return self.failed.map_or(Ok(()), Err);
            }
            let may_begin = may_begin(self.uploader, self.not_before);
            tokio::select! {
                biased;
                Some(ended) = self.under_way.join_next_with_id() => if let Some(part) = self.ended(ended) {
                    taken(part);
                },
                () = self.uploader.gate.overdue(), if !self.is_cut && !self.under_way.is_empty() => self.cut(),
                () = may_begin, if more && room => self.begin(),
            }
        }
    }

    /// The window has been closed for too long.
    fn cut(&mut self) {
        self.under_way.abort_all();
        self.is_cut = true;
        if self.uploader.allowance().cut() {
            tracing::warn!(key = %self.key, "The window closed before any part was through: next, one part at a time");
        }
    }

    fn begin(&mut self) {
        let Some(span) = self.missing.pop_front() else { return };
        self.is_cut = false;
        let turn = self.uploader.allowance().begin();
        let (vault, key, id) = (self.uploader.vault.clone(), self.key.clone(), self.upload.clone());
        let payload = self.uploader.payload(self.file, span);
        let task = self.under_way.spawn(async move {
            let part = taken(vault.put_part(&key, &id, span.number, payload.clone()).await, &payload)?;
            let right = part.number == span.number && part.size == span.len;
            if right && part.crc64.is_none_or(|crc| crc == span.crc64) {
                Ok(part)
            } else {
                Err(UploadError::Integrity { key })
            }
        });
        self.spans.insert(task.id(), (span, turn));
    }

    fn ended(&mut self, ended: Result<(Id, Result<Part, UploadError>), JoinError>) -> Option<Part> {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Some(ended)),
            // Cut when the window had been closed for too long.
            Err(join) if join.is_cancelled() => (join.id(), None),
            Err(join) => std::panic::resume_unwind(join.into_panic()),
        };
        let (span, turn) = self.spans.remove(&id).expect("what is under way is known");
        match ended {
            Some(Ok(part)) => {
                self.failures = 0;
                self.uploader.allowance().taken();
                Some(part)
            }
            Some(Err(err)) => {
                self.missing.push_front(span);
                self.failed(err, turn);
                None
            }
            None => {
                self.missing.push_front(span);
                None
            }
        }
    }

    fn failed(&mut self, err: UploadError, turn: Turn) {
        let cause = cause_of(&err);
        if cause == Some(Cause::Throttle) {
            self.uploader.allowance().told_to_slow_down(turn);
        }
        self.failures += 1;
        let may_pass = cause.is_some_and(|cause| may_pass(cause, self.failures))
            || matches!(cause, Some(Cause::Network | Cause::Integrity))
            || matches!(err, UploadError::Integrity { .. });
        let Some(wait) = self.uploader.options.retries.after(self.failures).filter(|_| may_pass) else {
            self.failed.get_or_insert(err);
            return;
        };
        let what = crate::fate::Chain(&err).to_string();
        tracing::info!(key = %self.key, ?wait, what, "A part will be sent again");
        self.not_before = Some(Instant::now() + wait);
    }
}

/// Waits until a part may be begun.
async fn may_begin(uploader: &Uploader, not_before: Option<Instant>) {
    if let Some(not_before) = not_before {
        sleep_until(not_before).await;
    }
    uploader.gate.opened().await;
}

/// What a vault answered, unless what was sent was at fault.
pub(super) fn taken<T>(answer: Result<T, VaultError>, payload: &Payload) -> Result<T, UploadError> {
    answer.map_err(|err| match payload.fault().take() {
        Some(fault) => UploadError::Payload(fault),
        None => err.into(),
    })
}

impl Uploader {
    pub(super) fn allowance(&self) -> std::sync::MutexGuard<'_, super::allowance::Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn payload(&self, file: &std::path::Path, span: Span) -> Payload {
        Payload::of_file(file.to_owned(), span.offset, span.len, span.crc64).paced(self.bandwidth.clone())
    }
}
