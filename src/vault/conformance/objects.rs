//! Promises about whole objects.

use super::{KEPT, Subject, assert_holds, cause, key, noise, payload, put, spec};
use crate::vault::{Cause, KEY_LEN_MAX, Key, ObjectSpec, Thaw, Tier, UploadId, checksum::crc64, payload::Payload};
use tokio::task::JoinSet;

pub async fn what_is_put_is_found(subject: &Subject) {
    let vault = (subject.open)();
    put(&*vault, "host/a.gpg", b"hello").await.expect(KEPT);
    assert_holds(&*vault, "host/a.gpg", b"hello").await;
    assert_holds(&*(subject.open)(), "host/a.gpg", b"hello").await;
    let listed = vault.list("", None, 10).await.expect(KEPT);
    assert_eq!(listed.iter().map(|one| (one.key.as_str(), one.size)).collect::<Vec<_>>(), [("host/a.gpg", 5)]);
    assert_eq!(vault.thaw(&key("host/a.gpg"), 1, Tier::Bulk).await.expect(KEPT), Thaw::Ready);
    assert_eq!(vault.uploads("").await.expect(KEPT), []);
}

pub async fn put_never_overwrites(subject: &Subject) {
    let vault = (subject.open)();
    put(&*vault, "a", b"first").await.expect(KEPT);
    for other in [&b"second"[..], b"first", b""] {
        assert_eq!(cause(put(&*vault, "a", other).await), Some(Cause::Exists));
    }
    assert_holds(&*vault, "a", b"first").await;
    let receipt = vault.head(&key("a")).await.expect(KEPT).expect("the object is there");
    assert_eq!(receipt.metadata, spec(b"first", 1).metadata, "what came second leaves no trace");
}

pub async fn of_many_that_put_one_wins(subject: &Subject) {
    let mut racers = JoinSet::new();
    for seed in 0..16 {
        let vault = (subject.open)();
        racers.spawn(async move {
            let bytes = noise(seed, 100_000 + seed as usize);
            let metadata = [("racer".to_owned(), seed.to_string())].into();
            let spec = ObjectSpec { metadata, ..spec(&bytes, bytes.len()) };
            (vault.put(&key("dir/raced"), &spec, payload(&bytes)).await, (bytes, spec.metadata))
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(|(result, _)| result.is_ok());
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|(result, _)| cause(result) == Some(Cause::Exists)));
    let (bytes, metadata) = &won[0].1;
    assert_holds(&*(subject.open)(), "dir/raced", bytes).await;
    let receipt = (subject.open)().head(&key("dir/raced")).await.expect(KEPT).expect("the object is there");
    assert_eq!(receipt.metadata, *metadata, "the winner's own");
}

pub async fn other_bytes_are_not_put(subject: &Subject) {
    let vault = (subject.open)();
    let result = vault.put(&key("a"), &spec(b"hello", 5), Payload::of_bytes(&b"hellp"[..], crc64(b"hello"))).await;
    assert_eq!(cause(result), Some(Cause::Integrity));
    assert!(vault.head(&key("a")).await.expect(KEPT).is_none());
}

pub async fn an_empty_object_is_one(subject: &Subject) {
    let vault = (subject.open)();
    put(&*vault, "empty", b"").await.expect(KEPT);
    assert_holds(&*vault, "empty", b"").await;
    assert_eq!(vault.list("", None, 10).await.expect(KEPT)[0].size, 0);
}

pub async fn long_keys_are_kept(subject: &Subject) {
    let vault = (subject.open)();
    // Components as long as a file name can be, and a whole key as long as one can be.
    let longest = ["x".repeat(255), "y".repeat(255), "z".repeat(255), "0".repeat(250), "w.gpg".into()].join("/");
    let deepest = "deep/".repeat(204) + "deep";
    assert_eq!((longest.len(), deepest.len()), (KEY_LEN_MAX, KEY_LEN_MAX));
    for name in [longest, deepest, "x".repeat(254)] {
        put(&*vault, &name, name.as_bytes()).await.expect(KEPT);
        assert_holds(&*vault, &name, name.as_bytes()).await;
    }
    assert_eq!(vault.list("", None, 10).await.expect(KEPT).len(), 3);
}

pub async fn nothing_is_told_as_nothing(subject: &Subject) {
    let vault = (subject.open)();
    put(&*vault, "dir/a", b"a").await.expect(KEPT);
    for name in ["b", "dir", "dir/b", "dir/a/b", "dir/a/b/c"] {
        let key = key(name);
        assert_eq!(vault.head(&key).await.expect(KEPT), None, "{name}");
        assert_eq!(cause(vault.get_range(&key, 0, 1).await), Some(Cause::Gone), "{name}");
        assert_eq!(cause(vault.thaw(&key, 1, Tier::Bulk).await), Some(Cause::Gone), "{name}");
        vault.delete(&key).await.expect(KEPT);
    }
    assert_eq!(vault.list("c", None, 10).await.expect(KEPT), []);
    let id = UploadId("../uploads".into());
    assert_eq!(cause(vault.parts(&key("b"), &id).await), Some(Cause::Gone));
    assert_eq!(cause(vault.complete(&key("b"), &id, &spec(b"", 1), &[]).await), Some(Cause::Gone));
    vault.abort(&key("b"), &id).await.expect(KEPT);
    assert_holds(&*vault, "dir/a", b"a").await;
}

pub async fn ranges_end_with_the_object(subject: &Subject) {
    let vault = (subject.open)();
    put(&*vault, "a", b"0123456789").await.expect(KEPT);
    let cases: [(u64, u64, &[u8]); 8] = [
        (0, 10, b"0123456789"),
        (0, 1, b"0"),
        (9, 1, b"9"),
        (9, 2, b"9"),
        (3, 4, b"3456"),
        (10, 1, b""),
        (11, 1, b""),
        (5, 0, b""),
    ];
    for (offset, len, expected) in cases {
        assert_eq!(vault.get_range(&key("a"), offset, len).await.expect(KEPT), expected, "{len} from {offset}");
    }
}

pub async fn delete_may_be_repeated(subject: &Subject) {
    let vault = (subject.open)();
    put(&*vault, "dir/a", b"a").await.expect(KEPT);
    put(&*vault, "dir/b", b"b").await.expect(KEPT);
    for _ in 0..2 {
        vault.delete(&key("dir/a")).await.expect(KEPT);
        assert_eq!(vault.head(&key("dir/a")).await.expect(KEPT), None);
    }
    assert_holds(&*vault, "dir/b", b"b").await;
    put(&*vault, "dir/a", b"again").await.expect(KEPT);
    assert_holds(&*vault, "dir/a", b"again").await;
}

pub async fn of_many_all_are_deleted_and_nothing_else(subject: &Subject) {
    let vault = (subject.open)();
    // More than S3 takes at once.
    let names: Vec<String> = (0..1_003).map(|n| format!("many/{n:04}.gpg")).collect();
    let mut putters = JoinSet::new();
    for share in names.chunks(names.len().div_ceil(8)) {
        let (vault, share) = (vault.clone(), share.to_vec());
        putters.spawn(async move {
            for name in share {
                put(&*vault, &name, b"x").await.expect(KEPT);
            }
        });
    }
    putters.join_all().await;
    for name in ["many.gpg", "many/0000.gpg0", "other/0000.gpg"] {
        put(&*vault, name, b"stays").await.expect(KEPT);
    }
    let mut keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    keys.insert(500, key("many/not-there"));
    for _ in 0..2 {
        let answers = vault.delete_many(&keys).await;
        assert_eq!(answers.len(), keys.len());
        assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
        let left = vault.list("", None, 10).await.expect(KEPT);
        let left: Vec<&str> = left.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(left, ["many.gpg", "many/0000.gpg0", "other/0000.gpg"]);
    }
    assert!(vault.delete_many(&[]).await.is_empty());
}

pub async fn lists_are_in_order_and_paged(subject: &Subject) {
    let vault = (subject.open)();
    // Names around the slash: `-` and `.` sort before it, digits after.
    let odd = ["p/a-b", "p/a.b", "p/a/b", "p/a0b", "p/ab", "p/a-/z", "p/B", "q"].map(str::to_owned);
    let mut names: Vec<String> = (0..2_492).map(|n| format!("p/{}/{:04}.gpg", n % 7, n)).chain(odd).collect();
    let mut putters = JoinSet::new();
    for share in names.chunks(names.len().div_ceil(8)) {
        let (vault, share) = (vault.clone(), share.to_vec());
        putters.spawn(async move {
            for name in share {
                put(&*vault, &name, name.as_bytes()).await.expect(KEPT);
            }
        });
    }
    putters.join_all().await;
    names.sort();
    for (prefix, limit) in [("", 1_000), ("p/", 1_000), ("p/3/0", 7), ("p/a", 1), ("p/a/", 1), ("q", 5), ("p/a-", 1)] {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let after = listed.last().map(|last| key(last));
            let page = vault.list(prefix, after.as_ref(), limit).await.expect(KEPT);
            assert!(page.len() <= limit);
            assert!(page.iter().all(|one| one.size == one.key.as_str().len() as u64));
            let Some(_) = page.last() else { break };
            listed.extend(page.into_iter().map(|one| one.key.as_str().to_owned()));
        }
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert!(listed == expected, "{prefix:?} by {limit}");
    }
    // What comes after need not exist, nor have the prefix.
    let after = |name: &str| Some(key(name));
    let first = vault.list("p/a", after("a").as_ref(), 1).await.expect(KEPT);
    assert_eq!(first[0].key.as_str(), "p/a-/z");
    assert_eq!(vault.list("p/a", after("p/a1").as_ref(), 1).await.expect(KEPT)[0].key.as_str(), "p/ab");
    assert_eq!(vault.list("p/a", after("q").as_ref(), 1).await.expect(KEPT), []);
}
