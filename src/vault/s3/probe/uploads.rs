//! Uploads under way: that one is listed and thrown away, and whose the others are.

use super::super::failure::{Call, Failure};
use super::{Ended, Probe};
use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

/// Pages of a thousand that are read: more are not counted.
const PAGES_MAX: usize = 20;

#[derive(Debug)]
pub(super) struct UnderWay {
    /// In the bucket.
    name: String,
    id: String,
    /// Seconds since the epoch.
    began: Option<i64>,
}

impl Probe<'_, '_> {
    pub(super) async fn aborted_upload(&mut self) -> Result<(), Ended> {
        let (vault, key) = (self.vault, self.key("aborted")?);
        let begun = vault.create(&key, &super::spec(super::super::objects::STANDARD)).await;
        // Why it cannot begin was told of the first one.
        let Ok(upload) = begun else { return self.others().await };
        let listed = self.list().await;
        let before = self.told("uploads", Call::UPLOADS, listed)?;
        let aborted = vault.abort_upload(&key, &upload).await;
        if self.told("abort", Call::ABORT, aborted)?.is_none() {
            if let Some(uploads) = before {
                self.sort(&uploads);
            }
            return Ok(());
        }
        let Some(before) = before else {
            self.out.ok("abort", "an upload is thrown away");
            return Ok(());
        };
        let listed = self.list().await;
        let Some(after) = self.told("uploads", Call::UPLOADS, listed)? else { return Ok(()) };
        let is_in = |uploads: &[UnderWay]| uploads.iter().any(|one| one.id == upload.0);
        match (is_in(&before), is_in(&after)) {
            (true, false) => self.out.ok("abort", "an upload is listed, and thrown away"),
            (false, false) => self.out.warning(
                "abort",
                "an upload that has begun is not listed",
                "Unfinished uploads cannot be found on this server, only by their records here",
            ),
            (_, true) => self.out.warning(
                "abort",
                "an upload is still listed after it was thrown away",
                "Look again in a while; what stays is billed",
            ),
        }
        self.sort(&after);
        Ok(())
    }

    async fn others(&mut self) -> Result<(), Ended> {
        let listed = self.list().await;
        if let Some(uploads) = self.told("uploads", Call::UPLOADS, listed)? {
            self.sort(&uploads);
        }
        Ok(())
    }

    /// Every upload under way below the prefix.
    async fn list(&self) -> Result<Vec<UnderWay>, Failure> {
        let (vault, mut found) = (self.vault, Vec::new());
        let (mut key_marker, mut id_marker) = (None, None);
        for _ in 0..PAGES_MAX {
            let request = vault
                .client
                .list_multipart_uploads()
                .bucket(&vault.place.bucket)
                .prefix(vault.place.name(""))
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(id_marker.take());
            let answer = vault.answer(Call::UPLOADS, vault.patience.silence, request.send()).await?;
            found.extend(answer.uploads().iter().filter_map(|upload| {
                let (name, id) = (upload.key()?.to_owned(), upload.upload_id()?.to_owned());
                Some(UnderWay { name, id, began: upload.initiated().map(DateTime::secs) })
            }));
            key_marker = answer.next_key_marker().map(str::to_owned);
            id_marker = answer.next_upload_id_marker().map(str::to_owned);
            if answer.is_truncated() != Some(true) || key_marker.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Known here, ours but unknown, and those of others.
    fn sort(&mut self, uploads: &[UnderWay]) {
        let own = self.plan.host.as_ref().map(|host| format!("{host}/"));
        let key = |upload: &UnderWay| self.vault.place.key(&upload.name).map(String::from);
        let is_own = |upload: &&UnderWay| {
            own.as_ref().is_some_and(|own| key(upload).is_some_and(|key| key.starts_with(own.as_str())))
        };
        let is_known = |upload: &&UnderWay| {
            let record = key(upload).and_then(|key| self.plan.known.get(&key));
            record.is_some_and(|record| record.contains(&upload.id))
        };
        let (own, foreign): (Vec<&UnderWay>, Vec<&UnderWay>) = uploads.iter().partition(is_own);
        let (known, unknown): (Vec<&UnderWay>, Vec<&UnderWay>) = own.into_iter().partition(is_known);
        let others = match foreign.is_empty() {
            true => String::new(),
            false => format!("; {} of others, the oldest {}", foreign.len(), age(&foreign)),
        };
        if unknown.is_empty() {
            return self.out.ok("uploads", format!("{} of this host under way{others}", known.len()));
        }
        self.out.warning(
            "uploads",
            format!(
                "{} of this host under way that nothing is known of here, the oldest {}; {} are known{others}",
                unknown.len(),
                age(&unknown),
                known.len()
            ),
            "Their parts are billed until a rule of the bucket aborts them, or until their pieces are delivered",
        );
    }
}

fn age(uploads: &[&UnderWay]) -> String {
    let oldest = uploads.iter().filter_map(|upload| upload.began).min();
    match oldest.map(|began| (Timestamp::now().as_second() - began).max(0)) {
        Some(seconds) if 86_400 <= seconds => format!("{} days old", seconds / 86_400),
        Some(seconds) => format!("{} hours old", seconds / 3_600),
        None => "of unknown age".to_owned(),
    }
}
