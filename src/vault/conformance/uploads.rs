//! Promises about uploads in parts.

use super::{KEPT, Subject, assert_holds, cause, key, noise, payload, put, spec};
use crate::vault::{Cause, Key, ObjectSpec, Part, UploadId, Vault, VaultResult, checksum::crc64, payload::Payload};
use std::sync::Arc;
use tokio::task::JoinSet;

/// An upload of three parts, the last of them short.
struct Three {
    key: Key,
    bytes: Vec<u8>,
    spec: ObjectSpec,
    id: UploadId,
}

impl Three {
    async fn begin(vault: &dyn Vault, subject: &Subject, name: &str, seed: u64) -> Three {
        let bytes = noise(seed, 2 * subject.part_size + 1_234);
        let spec = spec(&bytes, subject.part_size);
        let id = vault.begin(&key(name), &spec).await.expect(KEPT);
        Three { key: key(name), bytes, spec, id }
    }

    async fn send(&self, vault: &dyn Vault, number: u32) -> Part {
        let chunk = self.bytes.chunks(self.spec.part_size as usize).nth(number as usize - 1).expect("1 to 3");
        let part = vault.put_part(&self.key, &self.id, number, payload(chunk)).await.expect(KEPT);
        assert_eq!((part.number, part.size), (number, chunk.len() as u64));
        part
    }

    async fn send_all(&self, vault: &dyn Vault) -> Vec<Part> {
        let mut parts = Vec::new();
        for number in 1..=3 {
            parts.push(self.send(vault, number).await);
        }
        parts
    }

    async fn complete(&self, vault: &dyn Vault, parts: &[Part]) -> VaultResult<()> {
        vault.complete(&self.key, &self.id, &self.spec, parts).await
    }
}

pub async fn metadata_and_class_are_kept(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "large", 1).await;
    let parts = upload.send_all(&*vault).await;
    upload.complete(&*vault, &parts).await.expect(KEPT);
    put(&*vault, "small", b"small").await.expect(KEPT);
    for name in ["large", "small"] {
        let receipt = (subject.open)().head(&key(name)).await.expect(KEPT).expect("the object is there");
        assert_eq!(receipt.metadata, upload.spec.metadata, "{name}");
        assert_eq!(receipt.storage_class == upload.spec.storage_class, subject.keeps_class, "{name}");
    }
}

pub async fn parts_come_in_any_order_and_again(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "a", 1).await;
    let (last, first) = (upload.send(&*vault, 3).await, upload.send(&*vault, 1).await);
    let wrong = noise(9, subject.part_size);
    vault.put_part(&upload.key, &upload.id, 2, payload(&wrong)).await.expect(KEPT);
    let again = upload.send(&*vault, 2).await;
    let parts = [first, again, last];
    assert_eq!(vault.parts(&upload.key, &upload.id).await.expect(KEPT), parts);
    upload.complete(&*vault, &parts).await.expect(KEPT);
    assert_holds(&*vault, "a", &upload.bytes).await;
}

pub async fn a_part_with_a_wrong_checksum_is_refused(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "a", 1).await;
    let bytes = upload.bytes[..subject.part_size].to_vec();
    let result = vault.put_part(&upload.key, &upload.id, 1, Payload::of_bytes(bytes, crc64(b"other"))).await;
    assert_eq!(cause(result), Some(Cause::Integrity));
    assert_eq!(vault.parts(&upload.key, &upload.id).await.expect(KEPT), []);
}

pub async fn an_upload_goes_on_after_a_restart(subject: &Subject) {
    let upload = Three::begin(&*(subject.open)(), subject, "a", 1).await;
    for number in 1..=3 {
        upload.send(&*(subject.open)(), number).await;
        let parts = (subject.open)().parts(&upload.key, &upload.id).await.expect(KEPT);
        assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), Vec::from_iter(1..=number));
    }
    let parts = (subject.open)().parts(&upload.key, &upload.id).await.expect(KEPT);
    upload.complete(&*(subject.open)(), &parts).await.expect(KEPT);
    assert_holds(&*(subject.open)(), "a", &upload.bytes).await;
}

pub async fn only_the_right_parts_make_the_object(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "a", 1).await;
    let old = noise(9, subject.part_size);
    let old = vault.put_part(&upload.key, &upload.id, 2, payload(&old)).await.expect(KEPT);
    let parts = upload.send_all(&*vault).await;
    let extra = Part { number: 4, ..parts[2].clone() };
    let [one, two, three] = &parts[..] else { panic!("three parts were sent") };
    let sets: [Vec<&Part>; 7] = [
        vec![],
        vec![one, three],
        vec![two, three],
        vec![one, two],
        vec![one, two, three, &extra],
        vec![one, &old, three],
        vec![one, one, three],
    ];
    for set in sets {
        let set: Vec<Part> = set.into_iter().cloned().collect();
        assert!(upload.complete(&*vault, &set).await.is_err(), "{set:?}");
    }
    // The right parts of an object that is another than it should be.
    let other = ObjectSpec { crc64: crc64(b"other"), ..upload.spec.clone() };
    let result = vault.complete(&upload.key, &upload.id, &other, &parts).await;
    assert_eq!(cause(result), Some(Cause::Integrity));
    assert_eq!(vault.head(&upload.key).await.expect(KEPT), None);
    upload.complete(&*vault, &parts).await.expect(KEPT);
    assert_holds(&*vault, "a", &upload.bytes).await;
}

pub async fn parts_of_another_object_are_refused(subject: &Subject) {
    let vault = (subject.open)();
    let bytes = noise(1, 2 * subject.part_size + 1_234);
    // Begun and completed as the same object, whose checksum its parts do not make.
    let spec = ObjectSpec { crc64: crc64(b"other"), ..spec(&bytes, subject.part_size) };
    let id = vault.begin(&key("a"), &spec).await.expect(KEPT);
    let upload = Three { key: key("a"), bytes, spec, id };
    let parts = upload.send_all(&*vault).await;
    assert_eq!(cause(upload.complete(&*vault, &parts).await), Some(Cause::Integrity));
    assert_eq!(vault.head(&upload.key).await.expect(KEPT), None);
}

pub async fn complete_never_overwrites(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "a", 1).await;
    let parts = upload.send_all(&*vault).await;
    put(&*vault, "a", b"first").await.expect(KEPT);
    assert_eq!(cause(upload.complete(&*vault, &parts).await), Some(Cause::Exists));
    assert_holds(&*vault, "a", b"first").await;
}

pub async fn of_many_that_complete_one_wins(subject: &Subject) {
    let mut racers = JoinSet::new();
    let start = Arc::new(tokio::sync::Barrier::new(4));
    for seed in 0..4 {
        let (vault, start) = ((subject.open)(), start.clone());
        let upload = Three::begin(&*vault, subject, "dir/raced", seed).await;
        let parts = upload.send_all(&*vault).await;
        racers.spawn(async move {
            start.wait().await;
            (upload.complete(&*vault, &parts).await, upload.bytes)
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(|(result, _)| result.is_ok());
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|(result, _)| cause(result) == Some(Cause::Exists)));
    assert_holds(&*(subject.open)(), "dir/raced", &won[0].1).await;
}

pub async fn complete_twice_is_settled_by_head(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "a", 1).await;
    let parts = upload.send_all(&*vault).await;
    upload.complete(&*vault, &parts).await.expect(KEPT);
    // Vaults differ in what they answer; none may lose or change the object.
    let _ = upload.complete(&*vault, &parts).await;
    assert_holds(&*vault, "a", &upload.bytes).await;
}

pub async fn abort_may_be_repeated(subject: &Subject) {
    let vault = (subject.open)();
    let upload = Three::begin(&*vault, subject, "a", 1).await;
    let parts = upload.send_all(&*vault).await;
    for _ in 0..2 {
        vault.abort(&upload.key, &upload.id).await.expect(KEPT);
        assert_eq!(cause(vault.parts(&upload.key, &upload.id).await), Some(Cause::Gone));
    }
    let part = payload(&upload.bytes[..subject.part_size]);
    assert_eq!(cause(vault.put_part(&upload.key, &upload.id, 1, part).await), Some(Cause::Gone));
    assert_eq!(cause(upload.complete(&*vault, &parts).await), Some(Cause::Gone));
    assert_eq!(vault.head(&upload.key).await.expect(KEPT), None);
}

pub async fn uploads_are_listed_until_they_end(subject: &Subject) {
    let vault = (subject.open)();
    let a = Three::begin(&*vault, subject, "p/a", 1).await;
    let b = Three::begin(&*vault, subject, "p/b", 2).await;
    let _other = Three::begin(&*vault, subject, "q/c", 3).await;
    let listed = async || -> Vec<String> {
        let uploads = (subject.open)().uploads("p/").await.expect(KEPT);
        let mut keys: Vec<_> = uploads.into_iter().map(|(key, _)| key.as_str().to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(listed().await, ["p/a", "p/b"]);
    assert!(vault.uploads("").await.expect(KEPT).contains(&(a.key.clone(), a.id.clone())));
    let parts = a.send_all(&*vault).await;
    a.complete(&*vault, &parts).await.expect(KEPT);
    assert_eq!(listed().await, ["p/b"]);
    assert_eq!(vault.list("p/", None, 10).await.expect(KEPT).len(), 1, "an upload under way is no object");
    vault.abort(&b.key, &b.id).await.expect(KEPT);
    assert_eq!(listed().await, [""; 0]);
}
