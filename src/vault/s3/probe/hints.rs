//! What to do about what a server says.

use super::super::failure::Call;
use crate::vault::Cause;

pub(super) const CLOCK: &str = "Set the clock, and keep it right: timedatectl set-ntp true";
pub(super) const NETWORK: &str =
    "Look at the line, its name service and the firewall, at https_proxy, and at vault.endpoint_url";
pub(super) const POLICY: &str = "Grant it: `archiver aws-policy iam` prints the whole policy of a backup host";
pub(super) const LESSER: &str = "Nothing can be done on this side; what is kept there is a little less certain";

pub(super) fn after(cause: Cause) -> &'static str {
    match cause {
        Cause::Network => NETWORK,
        Cause::Credentials => {
            "Give vault.profile or vault.credentials_file keys that are valid, or the service its AWS_… variables; \
             keys with a session token end by themselves and must be made anew"
        }
        Cause::Clock => CLOCK,
        Cause::Permission => POLICY,
        Cause::Setup => "Correct the bucket in vault.url, vault.region or vault.storage_class, or make the bucket",
        Cause::Throttle => "Try again later",
        Cause::Integrity => "Something between here and there changes bytes: look at proxies and memory",
        Cause::Gone | Cause::Exists | Cause::Conflict | Cause::Storage | Cause::Other => {
            "Ask whoever runs the server, with what it said"
        }
    }
}

/// The one that is missing. A bucket that encrypts with KMS needs some that the call alone does not show, and names
/// them.
pub(super) fn permission(call: Call, said: &str) -> String {
    let at = said.find("kms:");
    let of_kms = at.and_then(|at| said[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != ':').next());
    of_kms.unwrap_or(call.permission).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_on_a_key_of_kms_is_named_itself() {
        for (said, expected) in [
            ("AccessDenied: no", "s3:PutObject"),
            ("User: x is not authorized to perform: kms:GenerateDataKey on resource: y", "kms:GenerateDataKey"),
            ("is not authorized to perform: kms:Decrypt", "kms:Decrypt"),
        ] {
            assert_eq!(permission(Call::PUT, said), expected);
        }
    }
}
