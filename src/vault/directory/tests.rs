#![expect(clippy::disallowed_methods, reason = "a test puts things where a crash or a stranger leaves them")]

use super::*;
use crate::vault::{
    Cause,
    checksum::crc64,
    conformance::{Subject, payload},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Tests write small files by the thousands, each flushed; a disk that forgets is as good and much faster.
fn scratch() -> tempfile::TempDir {
    match Path::new("/dev/shm") {
        shm if shm.is_dir() => tempfile::tempdir_in(shm).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    }
}

fn subject() -> Subject {
    let dir = scratch();
    let root = dir.path().join("vault");
    DirectoryVault::open(&root).unwrap();
    Subject {
        open: Box::new(move || Arc::new(DirectoryVault::open_existing(&root).unwrap())),
        part_size: 64 << 10,
        keeps_class: true,
        guard: Box::new(dir),
    }
}

mod conforms {
    crate::vault_conformance!(super::subject());
}

/// A vault, and the directory that it is in.
fn vault() -> (DirectoryVault, tempfile::TempDir) {
    let dir = scratch();
    (DirectoryVault::open(&dir.path().join("vault")).unwrap(), dir)
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn spec(bytes: &[u8]) -> ObjectSpec {
    let metadata = BTreeMap::from([("name".to_owned(), "value".to_owned())]);
    let storage_class = "DEEP_ARCHIVE".to_owned();
    ObjectSpec { size: bytes.len() as u64, crc64: crc64(bytes), part_size: 4, storage_class, metadata }
}

async fn put(vault: &DirectoryVault, name: &str, bytes: &[u8]) -> VaultResult<()> {
    vault.put(&key(name), &spec(bytes), payload(bytes)).await
}

/// An upload of two parts that lacks only completion.
async fn sent(vault: &DirectoryVault, name: &str) -> (UploadId, Vec<Part>) {
    let id = vault.begin(&key(name), &spec(b"12345")).await.unwrap();
    let mut parts = Vec::new();
    for (number, bytes) in [(1, &b"1234"[..]), (2, b"5")] {
        parts.push(vault.put_part(&key(name), &id, number, payload(bytes)).await.unwrap());
    }
    (id, parts)
}

fn cause<T>(result: VaultResult<T>) -> Option<Cause> {
    result.err().map(|err| err.cause)
}

/// Everything below a directory, with the modes.
fn tree(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push((entry.path(), entry.metadata().unwrap().permissions().mode() & 0o7777));
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found
}

/// What every operation says, by name.
async fn causes(vault: &DirectoryVault) -> Vec<Option<Cause>> {
    let (key, id) = (key("dir/a"), UploadId("0".repeat(32)));
    vec![
        cause(put(vault, "dir/b", b"b").await),
        cause(vault.begin(&key, &spec(b"b")).await),
        cause(vault.put_part(&key, &id, 1, payload(b"b")).await),
        cause(vault.parts(&key, &id).await),
        cause(vault.complete(&key, &id, &spec(b"b"), &[]).await),
        cause(vault.abort(&key, &id).await),
        cause(vault.uploads("").await),
        cause(vault.head(&key).await),
        cause(vault.get_range(&key, 0, 1).await),
        cause(vault.list("", None, 10).await),
        cause(vault.delete(&key).await),
        cause(vault.thaw(&key, 1, Tier::Bulk).await),
    ]
}

#[tokio::test]
async fn a_disk_that_is_away_is_not_reached_and_nothing_is_written_where_it_was() {
    let (vault, dir) = vault();
    put(&vault, "dir/a", b"a").await.unwrap();
    let (root, away) = (dir.path().join("vault"), dir.path().join("away"));
    fs::rename(&root, &away).unwrap();
    assert_eq!(causes(&vault).await, [Some(Cause::Network); 12]);
    assert_eq!(cause(DirectoryVault::open_existing(&root)), Some(Cause::Network));
    assert!(!root.exists());
    // The bare mount point.
    fs::create_dir(&root).unwrap();
    assert_eq!(causes(&vault).await, [Some(Cause::Network); 12]);
    assert_eq!(cause(DirectoryVault::open_existing(&root)), Some(Cause::Network));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    assert_eq!(vault.head(&key("dir/a")).await.unwrap().unwrap().size, 1);
}

#[tokio::test]
async fn a_vault_is_made_only_where_its_parent_is_and_only_once() {
    let dir = scratch();
    assert_eq!(cause(DirectoryVault::open(&dir.path().join("not/there"))), Some(Cause::Network));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let root = dir.path().join("vault");
    put(&DirectoryVault::open(&root).unwrap(), "a", b"a").await.unwrap();
    let again = DirectoryVault::open(&root).unwrap();
    assert_eq!(again.list("", None, 10).await.unwrap().len(), 1);
    fs::write(root.join(".archiver/vault.json"), r#"{"version":"2"}"#).unwrap();
    assert_eq!(cause(DirectoryVault::open(&root)), Some(Cause::Permission), "made by a newer version");
}

#[tokio::test]
async fn everything_is_ours_alone() {
    let (vault, dir) = vault();
    put(&vault, "dir/a", b"a").await.unwrap();
    sent(&vault, "dir/b").await;
    for (path, mode) in tree(dir.path()) {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{path:?}");
    }
}

#[tokio::test]
async fn a_crash_after_publishing_is_settled_by_completing_again() {
    // The object took the place of the data; or, where that needs a hard link, both are there.
    for linked in [false, true] {
        let (vault, dir) = vault();
        let (id, parts) = sent(&vault, "a").await;
        let upload = dir.path().join("vault/.archiver/uploads").join(&id.0);
        let (data, object) = (upload.join("data"), dir.path().join("vault/a"));
        if linked {
            fs::hard_link(data, object).unwrap();
        } else {
            fs::rename(data, object).unwrap();
        }
        vault.complete(&key("a"), &id, &spec(b"12345"), &parts).await.unwrap();
        assert!(vault.head(&key("a")).await.unwrap().unwrap().proves(&spec(b"12345")));
        assert!(!upload.exists());
    }
}

#[tokio::test]
async fn a_crash_before_publishing_leaves_no_object_and_the_upload_goes_on() {
    let (vault, dir) = vault();
    let (id, parts) = sent(&vault, "a").await;
    // The record came first, and was another's.
    put(&vault, "other", b"other").await.unwrap();
    let records = dir.path().join("vault/.archiver/objects");
    fs::copy(records.join("other"), records.join("a")).unwrap();
    assert_eq!(vault.head(&key("a")).await.unwrap(), None);
    assert_eq!(vault.list("", None, 10).await.unwrap().len(), 1);
    vault.complete(&key("a"), &id, &spec(b"12345"), &parts).await.unwrap();
    let receipt = vault.head(&key("a")).await.unwrap().unwrap();
    assert!(receipt.proves(&spec(b"12345")) && receipt.metadata == spec(b"").metadata);
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_swept_up() {
    let (vault, dir) = vault();
    let (id, _) = sent(&vault, "a").await;
    let uploads = dir.path().join("vault/.archiver/uploads");
    for name in [".new-1", ".gone-2"] {
        fs::create_dir_all(uploads.join(name).join("parts")).unwrap();
    }
    assert_eq!(vault.uploads("").await.unwrap().len(), 1);
    DirectoryVault::open_existing(&dir.path().join("vault")).unwrap();
    let left: Vec<_> = fs::read_dir(&uploads).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [id.0.as_str()]);
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_not_believed() {
    let (vault, dir) = vault();
    put(&vault, "a", b"12345").await.unwrap();
    let (object, record) = (dir.path().join("vault/a"), dir.path().join("vault/.archiver/objects/a"));
    let touch = |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(&object).unwrap().set_modified(time).unwrap();
    };
    let head = async || vault.head(&key("a")).await.unwrap().unwrap();
    let first = head().await;
    touch(1);
    assert_eq!(head().await, first, "copied to another disk");
    fs::write(&object, b"12346").unwrap();
    touch(2);
    let other = head().await;
    assert_eq!((other.crc64, other.storage_class.as_str(), other.metadata.len()), (Some(crc64(b"12346")), "", 0));
    fs::write(&object, b"123456").unwrap();
    assert_eq!(head().await.crc64, Some(crc64(b"123456")));
    for damage in [&b""[..], b"{}"] {
        fs::write(&record, damage).unwrap();
        assert_eq!(head().await.crc64, Some(crc64(b"123456")));
    }
    fs::remove_file(&record).unwrap();
    assert_eq!(head().await.crc64, Some(crc64(b"123456")));
}

#[tokio::test]
async fn bytes_that_rot_before_completion_are_refused_and_their_part_is_forgotten() {
    let (vault, dir) = vault();
    let (id, parts) = sent(&vault, "a").await;
    fs::write(dir.path().join("vault/.archiver/uploads").join(&id.0).join("data"), b"12745").unwrap();
    let result = vault.complete(&key("a"), &id, &spec(b"12345"), &parts).await;
    assert_eq!(cause(result), Some(Cause::Integrity));
    assert_eq!(vault.parts(&key("a"), &id).await.unwrap(), parts[1..]);
    assert_eq!(vault.head(&key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_part_of_another_size_or_number_is_refused() {
    let (vault, _dir) = vault();
    let id = vault.begin(&key("a"), &spec(b"12345")).await.unwrap();
    for (number, bytes) in [(0, &b"1234"[..]), (1, b"123"), (1, b"12345"), (2, b"1234"), (3, b""), (u32::MAX, b"5")] {
        let result = vault.put_part(&key("a"), &id, number, payload(bytes)).await;
        assert_eq!(cause(result), Some(Cause::Integrity), "{number}: {bytes:?}");
    }
    assert_eq!(cause(vault.parts(&key("b"), &id).await), Some(Cause::Gone), "an upload is of one key");
}

#[tokio::test]
async fn links_are_not_followed_and_foreign_things_not_listed() {
    let (vault, dir) = vault();
    let (root, outside) = (dir.path().join("vault"), dir.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), b"secret").unwrap();
    symlink(&outside, root.join("dir")).unwrap();
    symlink(outside.join("a"), root.join("link")).unwrap();
    for name in ["lost+found", ".hidden"] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("a"), b"foreign").unwrap();
    }
    for name in ["dir/a", "link"] {
        let key = key(name);
        assert_eq!(cause(put(&vault, name, b"mine").await), Some(Cause::Exists), "{name}");
        assert!(vault.head(&key).await.is_err(), "{name}");
        assert!(vault.get_range(&key, 0, 9).await.is_err(), "{name}");
        assert!(vault.delete(&key).await.is_err(), "{name}");
    }
    assert_eq!(fs::read(outside.join("a")).unwrap(), b"secret");
    assert_eq!(vault.list("", None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_key_cannot_be_the_directory_of_another() {
    let (vault, _dir) = vault();
    put(&vault, "a/b", b"1").await.unwrap();
    put(&vault, "c", b"2").await.unwrap();
    for name in ["a", "c/d", "c/d/e"] {
        assert_eq!(cause(put(&vault, name, b"3").await), Some(Cause::Exists), "{name}");
    }
    assert_eq!(vault.list("", None, 10).await.unwrap().len(), 2);
    assert_eq!(cause(put(&vault, &"x".repeat(256), b"4").await), Some(Cause::Permission));
}

#[tokio::test]
async fn nobody_waits_long_for_what_nobody_wants() {
    let (vault, _dir) = vault();
    put(&vault, "a", b"12345").await.unwrap();
    let given_up = GivenUp(Arc::new(AtomicBool::new(true)));
    let (file, _) = object::open(&vault.place, &key("a")).unwrap().unwrap();
    let read = object::read_through(&file, Path::new("a"), 0, 5, &given_up, |_| {});
    assert!(matches!(read, Err(Failure::GivenUp)));
    let waiter = Waiter::default();
    let flag = GivenUp(waiter.0.clone());
    assert!(flag.check().is_ok());
    drop(waiter);
    assert!(flag.check().is_err());
}

/// A real disk that is too small and then unmounted; only root can mount one.
#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = scratch();
    let run = |program: &str, args: &[&str]| {
        assert!(std::process::Command::new(program).args(args).arg(dir.path()).status().unwrap().success());
    };
    run("mount", &["-t", "tmpfs", "-o", "size=1m", "archiver-test"]);
    let root = dir.path().join("vault");
    let vault = DirectoryVault::open(&root).unwrap();
    let large = vec![7; 2 << 20];
    let results = [
        cause(put(&vault, "large", &large).await),
        cause(put(&vault, "small", b"small").await),
        vault.head(&key("large")).await.unwrap().map(|_| Cause::Other),
    ];
    let left = fs::read_dir(root.join(".archiver/uploads")).unwrap().count();
    run("umount", &[]);
    assert_eq!(causes(&vault).await, [Some(Cause::Network); 12]);
    assert_eq!((results, left), ([Some(Cause::Storage), None, None], 0));
}

#[tokio::test]
async fn the_lock_is_held_until_it_is_dropped_also_against_ourselves() {
    let (vault, dir) = vault();
    let file = || File::open(dir.path().join("vault/.archiver/lock")).unwrap();
    let held = vault.place.lock().unwrap();
    assert!(file().try_lock().is_err());
    drop(held);
    assert!(file().try_lock().is_ok());
}
