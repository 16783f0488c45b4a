//! What every vault promises, as functions that panic where a promise is broken. Not part of the program: tests of
//! each implementation run all of them, by [`vault_conformance!`](crate::vault_conformance).

mod objects;
mod uploads;

use super::{Cause, Key, ObjectSpec, Vault, VaultResult, checksum::crc64, payload::Payload};
pub use objects::*;
use std::{any::Any, collections::BTreeMap, pin::Pin, sync::Arc};
pub use uploads::*;

/// An empty vault under test.
pub struct Subject {
    /// A new instance, as after a restart.
    pub open: Box<dyn Fn() -> Arc<dyn Vault> + Send + Sync>,
    /// The smallest that the vault takes, bytes.
    pub part_size: usize,
    /// Whether the storage class is kept; where it is not, a receipt must not claim it.
    pub keeps_class: bool,
    /// Lives as long as the vault is used.
    pub guard: Box<dyn Any + Send + Sync>,
}

/// Each promise by its name, for whoever runs them otherwise than as tests.
pub type Promise = (&'static str, for<'a> fn(&'a Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>);

/// One test for every promise. The argument makes a [`Subject`] inside of an async function.
#[macro_export]
macro_rules! vault_conformance {
    ($subject:expr) => {
        $crate::vault_conformance! { @list tests $subject }
    };
    (@list $form:ident $($argument:expr)?) => {
        $crate::vault_conformance! { @$form $($argument)?;
            what_is_put_is_found, put_never_overwrites, of_many_that_put_one_wins, other_bytes_are_not_put,
            an_empty_object_is_one, metadata_and_class_are_kept, long_keys_are_kept, nothing_is_told_as_nothing,
            ranges_end_with_the_object, delete_may_be_repeated, of_many_all_are_deleted_and_nothing_else, lists_are_in_order_and_paged,
            parts_come_in_any_order_and_again, a_part_with_a_wrong_checksum_is_refused,
            an_upload_goes_on_after_a_restart, only_the_right_parts_make_the_object,
            parts_of_another_object_are_refused, complete_never_overwrites,
            of_many_that_complete_one_wins, complete_twice_is_settled_by_head, abort_may_be_repeated,
            uploads_are_listed_until_they_end,
        }
    };
    (@tests $subject:expr; $($promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::vault::conformance::$promise(&$subject).await;
            }
        )*
    };
    (@promises; $($promise:ident,)*) => {
        vec![$((stringify!($promise), |subject| Box::pin($promise(subject)))),*]
    };
}

pub fn promises() -> Vec<Promise> {
    crate::vault_conformance! { @list promises }
}

const KEPT: &str = "what a vault promises to do";

/// Bytes that differ by `seed` and have no period that a part could hide.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len];
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    bytes
}

fn key(text: &str) -> Key {
    text.parse().expect("a key of the suite")
}

fn spec(bytes: &[u8], part_size: usize) -> ObjectSpec {
    ObjectSpec {
        size: bytes.len() as u64,
        crc64: crc64(bytes),
        part_size: part_size as u64,
        storage_class: "STANDARD".into(),
        metadata: BTreeMap::from([("archiver-version".into(), "1".into())]),
    }
}

pub(super) fn payload(bytes: &[u8]) -> Payload {
    Payload::of_bytes(bytes.to_vec(), crc64(bytes))
}

fn cause<T>(result: VaultResult<T>) -> Option<Cause> {
    result.err().map(|err| err.cause)
}

async fn put(vault: &dyn Vault, name: &str, bytes: &[u8]) -> VaultResult<()> {
    vault.put(&key(name), &spec(bytes, bytes.len().max(1)), payload(bytes)).await
}

/// That the vault holds exactly these bytes.
async fn assert_holds(vault: &dyn Vault, name: &str, bytes: &[u8]) {
    let receipt = vault.head(&key(name)).await.expect(KEPT).expect("the object is there");
    assert!(receipt.proves(&spec(bytes, 1)), "{receipt:?}");
    assert_eq!((receipt.key, receipt.size), (key(name), bytes.len() as u64));
    let held = vault.get_range(&key(name), 0, bytes.len() as u64 + 1).await.expect(KEPT);
    assert!(held == bytes, "{name} holds other bytes");
}
