//! How the bucket is set. Looking takes permissions that nothing else needs, so each may be missing.

use super::super::failure::{Call, Failure};
use super::{Ended, Probe, lifecycle};
use crate::{finding::State, vault::Cause};
use aws_sdk_s3::types::ServerSideEncryptionConfiguration;

impl Probe<'_, '_> {
    pub(super) async fn settings(&mut self) -> Result<(), Ended> {
        self.versioning().await?;
        self.object_lock().await?;
        self.lifecycle().await?;
        self.encryption().await
    }

    async fn versioning(&mut self) -> Result<(), Ended> {
        let request = self.vault.client.get_bucket_versioning().bucket(&self.vault.place.bucket);
        let answer = self.vault.answer(Call::VERSIONING, self.vault.patience.silence, request.send()).await;
        let Some(versioning) = self.looked("versioning", Call::VERSIONING, answer, None)? else { return Ok(()) };
        let status = versioning.status().map(|status| status.as_str().to_owned());
        self.out.ok(
            "versioning",
            match status.as_deref() {
                Some("Enabled") => "on: what is deleted is kept as an older version, and billed".to_owned(),
                Some(status) => format!("{}: what is deleted is gone", status.to_lowercase()),
                None => "off: what is deleted is gone".to_owned(),
            },
        );
        Ok(())
    }

    async fn object_lock(&mut self) -> Result<(), Ended> {
        let request = self.vault.client.get_object_lock_configuration().bucket(&self.vault.place.bucket);
        let answer = self.vault.answer(Call::LOCK, self.vault.patience.silence, request.send()).await;
        let none = Some("ObjectLockConfigurationNotFoundError");
        let Some(answer) = self.looked("object-lock", Call::LOCK, answer, none)? else { return Ok(()) };
        let rule = answer.object_lock_configuration().and_then(|lock| lock.rule());
        let what = match rule.and_then(|rule| rule.default_retention()) {
            None => "on, without a retention: nothing is locked by itself".to_owned(),
            Some(kept) => {
                let mode = kept.mode().map_or("?", |mode| mode.as_str());
                let long = match (kept.days(), kept.years()) {
                    (Some(days), _) => format!("{days} days"),
                    (None, Some(years)) => format!("{years} years"),
                    (None, None) => "no time".to_owned(),
                };
                format!("{mode}: every object, the probes too, is locked for {long}")
            }
        };
        self.out.ok("object-lock", what);
        Ok(())
    }

    async fn lifecycle(&mut self) -> Result<(), Ended> {
        let request = self.vault.client.get_bucket_lifecycle_configuration().bucket(&self.vault.place.bucket);
        let answer = self.vault.answer(Call::LIFECYCLE, self.vault.patience.silence, request.send()).await;
        let rules = match answer {
            Err(failure) if failure.has_code("NoSuchLifecycleConfiguration") => Vec::new(),
            answer => match self.looked("lifecycle", Call::LIFECYCLE, answer, None)? {
                Some(answer) => answer.rules().iter().map(lifecycle::Rule::of).collect(),
                None => return Ok(()),
            },
        };
        let prefix = match self.vault.place.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let days = lifecycle::Days { least: self.plan.abort_days_least, better: self.plan.abort_days };
        for verdict in lifecycle::judge(&rules, &prefix, days) {
            self.out.tell("lifecycle", verdict.state, verdict.what, verdict.hint, None);
        }
        Ok(())
    }

    async fn encryption(&mut self) -> Result<(), Ended> {
        let request = self.vault.client.get_bucket_encryption().bucket(&self.vault.place.bucket);
        let answer = self.vault.answer(Call::ENCRYPTION, self.vault.patience.silence, request.send()).await;
        let none = Some("ServerSideEncryptionConfigurationNotFoundError");
        let Some(answer) = self.looked("encryption", Call::ENCRYPTION, answer, none)? else { return Ok(()) };
        let rules = answer
            .server_side_encryption_configuration()
            .map(ServerSideEncryptionConfiguration::rules)
            .unwrap_or_default();
        let methods = rules.iter().filter_map(|rule| rule.apply_server_side_encryption_by_default());
        match methods.map(|default| default.sse_algorithm().as_str()).find(|method| method.contains("kms")) {
            Some(method) => self.out.warning(
                "encryption",
                format!("the bucket encrypts with {method}: without that key of KMS nothing there can be read again"),
                "Pieces are encrypted before they leave; use SSE-S3 (AES256), or never let go of that key, and grant \
                 kms:GenerateDataKey and kms:Decrypt",
            ),
            None => self.out.ok("encryption", "the bucket needs no key of KMS"),
        }
        Ok(())
    }

    /// As [`told`](Probe::told), of what nobody has to allow. `none` is the code for there being nothing.
    fn looked<T>(
        &mut self,
        check: &'static str,
        call: Call,
        answer: Result<T, Failure>,
        none: Option<&str>,
    ) -> Result<Option<T>, Ended> {
        let failure = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(failure) => failure,
        };
        if none.is_some_and(|code| failure.has_code(code)) {
            self.out.ok(check, "off");
        } else if is_unheard_of(&failure) {
            self.out.ok(check, "not looked at: the server has no such setting");
        } else if failure.cause() == Cause::Permission {
            let what = format!("could not be looked at, needs {}", call.permission);
            let hint = "This is optional: grant it, or look yourself";
            self.out.tell(check, State::Warning, what, hint, Some(call.permission.to_owned()));
        } else {
            return self.told(check, call, Err(failure));
        }
        Ok(None)
    }
}

/// Whether the server does not have such a thing.
fn is_unheard_of(failure: &Failure) -> bool {
    let codes = ["NotImplemented", "XNotImplemented", "MethodNotAllowed", "NotSupported"];
    matches!(failure, Failure::Answer { status: 501 | 405, .. }) || codes.iter().any(|code| failure.has_code(code))
}
