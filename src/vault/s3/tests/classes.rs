//! Storage classes, thawing, and servers that have less.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_below_the_prefix_in_its_class_with_its_checksum() {
    let server = server();
    let vault = server.vault().await;
    put(&vault, "nas1/small", b"small", "DEEP_ARCHIVE").await.unwrap();
    let bytes = vec![3; 2 * PART + 5];
    let spec = spec(&bytes, "DEEP_ARCHIVE");
    let id = vault.begin(&key("nas1/large"), &spec).await.unwrap();
    let mut parts = Vec::new();
    for (index, chunk) in bytes.chunks(PART).enumerate() {
        parts.push(vault.put_part(&key("nas1/large"), &id, index as u32 + 1, payload(chunk)).await.unwrap());
    }
    vault.complete(&key("nas1/large"), &id, &spec, &parts).await.unwrap();
    let objects = server.double.objects(BUCKET);
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["lab/nas/nas1/large", "lab/nas/nas1/small"]);
    assert!(objects.values().all(|object| object.class == "DEEP_ARCHIVE"));
    let receipt = vault.head(&key("nas1/large")).await.unwrap().unwrap();
    assert_eq!((receipt.crc64, receipt.storage_class.as_str()), (Some(spec.crc64), "DEEP_ARCHIVE"));
    assert_eq!(receipt.metadata["source"], "data");
    let log = server.double.log();
    let guarded = |name: &str| {
        log.iter().filter(|entry| entry.operation == name).all(|entry| entry.if_none_match.as_deref() == Some("*"))
    };
    assert!(guarded("PutObject") && guarded("CompleteMultipartUpload"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_is_thawed_and_freezes_again() {
    let server = Server::new(double::Options::default().thaw(Duration::from_secs(48 * 3_600)));
    let vault = server.vault().await;
    put(&vault, "frozen", b"deep", "DEEP_ARCHIVE").await.unwrap();
    put(&vault, "standard", b"now", "STANDARD").await.unwrap();
    assert_eq!(vault.thaw(&key("standard"), 1, Tier::Bulk).await.unwrap(), Thaw::Ready);
    let listed = async || vault.list("", None, 10).await.unwrap().iter().map(|one| one.thaw).collect::<Vec<_>>();
    assert_eq!(listed().await, [Thaw::Frozen, Thaw::Ready]);
    let refused = vault.get_range(&key("frozen"), 0, 4).await.unwrap_err();
    assert_eq!(refused.cause, Cause::Permission);
    for _ in 0..2 {
        assert_eq!(vault.thaw(&key("frozen"), 2, Tier::Bulk).await.unwrap(), Thaw::Ongoing);
    }
    assert_eq!(listed().await, [Thaw::Ongoing, Thaw::Ready]);
    server.double.clock().advance(Duration::from_secs(48 * 3_600 + 1));
    // The double's clock is ahead of ours now, as a server's may be; thawing is what matters here.
    assert_eq!(vault.thaw(&key("frozen"), 2, Tier::Bulk).await.unwrap(), Thaw::Ready);
    assert_eq!(vault.get_range(&key("frozen"), 0, 4).await.unwrap(), b"deep");
    server.double.clock().advance(Duration::from_secs(3 * 86_400));
    assert!(vault.get_range(&key("frozen"), 0, 4).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_class_keeps_everything_in_its_own() {
    let persona = Persona { rejects_storage_class: vec!["DEEP_ARCHIVE".into()], ..Persona::default() };
    let server = Server::new(double::Options::default().persona(persona));
    let vault = server.vault().await;
    put(&vault, "a", b"a", "DEEP_ARCHIVE").await.unwrap();
    put(&vault, "b", b"b", "DEEP_ARCHIVE").await.unwrap();
    assert_eq!(server.double.requests("PutObject"), 3, "found out once");
    assert_eq!(vault.head(&key("b")).await.unwrap().unwrap().storage_class, "STANDARD");
}

/// A lesser server keeps what it can of the promises.
#[tokio::test(flavor = "multi_thread")]
async fn servers_without_checksums_are_used_as_they_are() {
    for persona in [Persona::ceph16(), Persona::garage()] {
        let server = Server::new(double::Options::default().persona(persona.clone()));
        let vault = server.vault().await;
        put(&vault, "a", b"hello", "DEEP_ARCHIVE").await.unwrap();
        let receipt = vault.head(&key("a")).await.unwrap().unwrap();
        assert_eq!((receipt.size, receipt.crc64.is_none()), (5, persona.no_checksums));
        assert_eq!(server.double.object_bytes(BUCKET, "lab/nas/a").unwrap(), b"hello");
    }
}

/// What it does not know is found out once, and what can be done without it is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_conditions_is_used_without_them() {
    let persona =
        Persona { rejects_conditions: true, rejects_storage_class: vec!["DEEP_ARCHIVE".into()], ..Persona::default() };
    let server = Server::new(double::Options::default().persona(persona));
    let vault = server.vault().await;
    for name in ["a", "b"] {
        put(&vault, name, b"old", "STANDARD").await.unwrap();
    }
    assert_eq!(server.double.requests("PutObject"), 3, "found out once");
    assert_eq!(put(&vault, "a", b"new", "STANDARD").await.unwrap_err().cause, Cause::Exists);
    assert_eq!(server.double.object_bytes(BUCKET, "lab/nas/a").unwrap(), b"old");

    let vault = server.vault().await;
    put(&vault, "neither", b"small", "DEEP_ARCHIVE").await.unwrap();
    assert_eq!(server.double.object(BUCKET, "lab/nas/neither").unwrap().class, "STANDARD");

    let vault = server.vault().await;
    let spec = spec(b"large", "DEEP_ARCHIVE");
    for (name, expected) in [("large", None), ("a", Some(Cause::Exists))] {
        let upload = vault.begin(&key(name), &spec).await.unwrap();
        let part = vault.put_part(&key(name), &upload, 1, payload(b"large")).await.unwrap();
        let completed = vault.complete(&key(name), &upload, &spec, &[part]).await;
        assert_eq!(completed.err().map(|err| err.cause), expected, "{name}");
    }
    assert_eq!(server.double.object_bytes(BUCKET, "lab/nas/a").unwrap(), b"old");
}

/// Many pages of a listing come whole, although every third of them is refused.
#[tokio::test(flavor = "multi_thread")]
async fn long_listings_come_to_their_end_in_a_storm() {
    let server = server();
    let vault = server.vault().await;
    let upload = vault.begin(&key("a"), &spec(b"", "STANDARD")).await.unwrap();
    for number in 1..=2_500 {
        vault.put_part(&key("a"), &upload, number, payload(b"x")).await.unwrap();
    }
    server.double.script(Rule::new(Act::refuse("SlowDown")).on("ListParts").skip(1).times(2));
    assert_eq!(vault.parts(&key("a"), &upload).await.unwrap().len(), 2_500);
    assert_eq!(server.double.requests("ListParts"), 5);
    server.double.script(Rule::new(Act::refuse("SlowDown")).on("ListParts"));
    assert_eq!(vault.parts(&key("a"), &upload).await.unwrap_err().cause, Cause::Throttle, "the first is not repeated");
    assert_eq!(server.double.requests("ListParts"), 6);
}
