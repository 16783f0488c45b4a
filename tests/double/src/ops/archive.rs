//! RestoreObject: a thaw that takes time by the server's clock, and ends again after some days.

use super::{Answered, Operations, mark, ok};
use crate::state::{Object, Reading, Thawed, lock};
use s3s::{
    S3Request, S3Result,
    dto::{RestoreObjectInput, RestoreObjectOutput},
    s3_error,
};
use std::time::SystemTime;

const STARTED: u16 = 202;
const THAWED_ALREADY: u16 = 200;

impl Operations {
    pub(super) async fn restore_object_op(
        &self,
        request: S3Request<RestoreObjectInput>,
    ) -> Answered<RestoreObjectOutput> {
        let mark = mark(&request);
        let input = request.input;
        let wanted = input.restore_request.ok_or_else(|| s3_error!(MalformedXML))?;
        let tier = wanted.glacier_job_parameters.map_or("Standard".to_owned(), |job| job.tier.as_str().to_owned());
        let days = wanted.days.ok_or_else(|| s3_error!(MalformedXML))?;
        if days < 1 {
            return Err(s3_error!(InvalidArgument, "Days must be at least 1"));
        }
        let thaw = *lock(&self.0.thaw);
        let takes = match tier.as_str() {
            "Bulk" => thaw.bulk,
            _ => thaw.standard,
        };
        let now = self.0.clock.now();
        let asked = Thawed { ready: now + takes, days };
        let status = self.0.object(&input.bucket, &input.key, input.version_id.as_deref(), |object| {
            if object.about.class == "DEEP_ARCHIVE" && tier == "Expedited" {
                return Err(s3_error!(InvalidArgument, "Expedited retrievals are not available for this class"));
            }
            let (thawed, status) = thawed(object, asked, now)?;
            if !mark.pretend {
                object.thawed = Some(thawed);
            }
            Ok(status)
        })?;
        // The status cannot be set from here: the front does it.
        *lock(&mark.status) = Some(status);
        ok(RestoreObjectOutput::default())
    }
}

/// What becomes of an object when a thaw is asked for. One under way can be made faster, never slower; one that is done
/// can be prolonged.
fn thawed(object: &Object, asked: Thawed, now: SystemTime) -> S3Result<(Thawed, u16)> {
    match (object.reading(now), object.thawed) {
        (Reading::Always, _) => {
            Err(s3_error!(InvalidObjectState, "Restore is not allowed for the object's current storage class"))
        }
        (Reading::Frozen, _) => Ok((asked, STARTED)),
        (Reading::Thawing, Some(running)) if asked.ready < running.ready => Ok((asked, STARTED)),
        (Reading::Thawing, _) => Err(s3_error!(RestoreAlreadyInProgress, "Object restore is already in progress")),
        (Reading::Until(_), _) => Ok((Thawed { ready: now, days: asked.days }, THAWED_ALREADY)),
    }
}
