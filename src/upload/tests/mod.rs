mod closing;
mod doubles;

use super::*;
use crate::{
    fate::{Fate, Fateful},
    vault::{
        Crc64,
        checksum::{CHECK_SIZE, crc64},
        directory::DirectoryVault,
    },
};
use doubles::{Fault, Faulty, Memory, Open, Times};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

const PART: usize = CHECK_SIZE as usize;
/// Five parts, the last of them short.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..4 * PART + 1_000).map(|_| next()).collect()
});
static SUMS: LazyLock<BlockSums> = LazyLock::new(|| BlockSums::of(&BYTES));
const ALL: [&str; 5] = ["part 1", "part 2", "part 3", "part 4", "part 5"];

struct Bench {
    vault: Arc<Faulty>,
    ledger: Arc<Memory>,
    gate: Arc<dyn Gate>,
    options: Options,
    parcel: Parcel,
    stop: CancellationToken,
    told: AtomicU64,
    dir: tempfile::TempDir,
}

/// A piece in staging and an empty vault.
fn bench() -> Bench {
    let dir = match Path::new("/dev/shm") {
        shm if shm.is_dir() => tempfile::tempdir_in(shm).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    };
    let vault = DirectoryVault::open(&dir.path().join("vault")).unwrap();
    let mut bench = Bench {
        vault: Arc::new(Faulty::new(vault)),
        ledger: Arc::default(),
        gate: Arc::new(Open),
        options: Options {
            part_size: 1,
            concurrency: 1,
            retries: Retries { max: 1, ..Retries::default() },
            bandwidth: None,
        },
        parcel: parcel(dir.path(), &[]),
        stop: CancellationToken::new(),
        told: AtomicU64::new(0),
        dir,
    };
    bench.parcel = Parcel {
        spec: ObjectSpec { size: SUMS.len(), crc64: SUMS.whole(), ..bench.parcel.spec.clone() },
        sums: SUMS.clone(),
        ..bench.parcel
    };
    fs::write(&bench.parcel.file, &*BYTES).unwrap();
    bench
}

fn parcel(dir: &Path, bytes: &[u8]) -> Parcel {
    let file = dir.join("000001-a.tar.xz.gpg");
    fs::write(&file, bytes).unwrap();
    let spec = ObjectSpec {
        size: bytes.len() as u64,
        crc64: crc64(bytes),
        part_size: 0,
        storage_class: "DEEP_ARCHIVE".into(),
        metadata: Default::default(),
    };
    Parcel { key: "host/data/pass/000001-a.tar.xz.gpg".parse().unwrap(), file, spec, sums: BlockSums::of(bytes) }
}

impl Bench {
    async fn deliver(&self) -> Result<Receipt, UploadError> {
        self.told.store(0, Ordering::SeqCst);
        let uploader = Uploader::new(self.vault.clone(), self.ledger.clone(), self.gate.clone(), self.options.clone());
        let told = |bytes| {
            self.told.fetch_add(bytes, Ordering::SeqCst);
        };
        let delivered = uploader.deliver(&self.parcel, &self.stop, &told);
        // The clock is paused: this passes only when nothing else can.
        tokio::time::timeout(Duration::from_secs(1_000_000), delivered).await.expect("it does not hang")
    }

    async fn fate(&self) -> Fate {
        self.deliver().await.unwrap_err().fate()
    }

    /// That it ends as it should, and nothing is left behind.
    async fn assert_delivered(&self) {
        let receipt = self.deliver().await.unwrap();
        assert!(receipt.proves(&self.parcel.spec));
        assert_eq!(receipt.storage_class, "DEEP_ARCHIVE");
        self.assert_clean().await;
        assert_eq!(self.told.load(Ordering::SeqCst), self.parcel.spec.size);
        let held = self.vault.inner.get_range(&self.parcel.key, 0, u64::MAX).await.unwrap();
        assert!(held == fs::read(&self.parcel.file).unwrap());
    }

    async fn assert_clean(&self) {
        assert_eq!(self.ledger.records.lock().unwrap().len(), 0);
        assert_eq!(self.vault.inner.uploads("").await.unwrap(), []);
    }

    /// Turns a bit of a file around.
    fn rot(&self, path: &Path, offset: u64) {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    }
}

mod faults;
mod flow;
