//! Time, and the line to the vault: both go only when the daemon waits or sends.

use crate::life::{DEFECT, Plan, Told};
use archiver::{
    staging::Stop,
    upload::Gate,
    vault::{
        Cause, Key, Listed, ObjectSpec, Part, Receipt, Thaw, Tier, UploadId, Vault, VaultError, VaultResult,
        directory::DirectoryVault,
        payload::{Pace, Payload},
    },
    window::Window,
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Bytes per second of the line: a pass takes days.
const RATE: u64 = 1_000;
/// Bytes that pass at once: half a minute of the line.
const STEP: u64 = 30_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The clock, in milliseconds since 1970; also in a file, from which whoever survives learns of it.
pub struct Hours {
    now: AtomicI64,
    file: File,
    crash_at: i64,
    /// What may still happen once it is time to crash.
    left: AtomicU64,
    /// Instead of a crash, whoever does something then panics.
    panics: bool,
    has_panicked: AtomicBool,
    stop_at: i64,
    stop: Stop,
    cancel: CancellationToken,
    reloads: Mutex<VecDeque<(i64, Told)>>,
    on_reload: OnceLock<OnReload>,
}

/// Tells a life other settings.
type OnReload = Box<dyn Fn(&Told) + Send + Sync>;

impl Hours {
    pub fn new(plan: &Plan, stop: Stop, cancel: CancellationToken) -> Hours {
        let file = File::create(plan.root.join("now")).unwrap();
        file.write_all_at(&plan.now.to_le_bytes(), 0).unwrap();
        let (crash_at, left) = (plan.crash_at, AtomicU64::new(plan.crash_after));
        Hours {
            now: AtomicI64::new(plan.now),
            file,
            crash_at,
            left,
            panics: plan.panics,
            has_panicked: AtomicBool::new(false),
            stop_at: plan.stop_at,
            stop,
            cancel,
            reloads: Mutex::new(plan.reloads.iter().filter(|(at, _)| plan.now <= *at).cloned().collect()),
            on_reload: OnceLock::new(),
        }
    }

    pub fn on_reload(&self, tell: OnReload) {
        assert!(self.on_reload.set(tell).is_ok());
    }

    fn reload(&self, now: i64) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, settings)) = reloads.pop_front_if(|(at, _)| *at <= now) {
            // Told before whoever comes next asks.
            self.on_reload.get().iter().for_each(|tell| tell(&settings));
        }
    }

    pub fn millis(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.millis()).unwrap()
    }

    pub fn pass(&self, time: Duration) {
        let time = time.as_millis() as i64;
        let now = self.now.fetch_add(time, Ordering::SeqCst) + time;
        self.file.write_all_at(&now.to_le_bytes(), 0).unwrap();
        self.happens();
    }

    /// Something happens: if it is time, the process ends with it, or is told to stop.
    pub fn happens(&self) {
        let now = self.millis();
        let is_left = || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if self.crash_at <= now && !is_left() {
            if !self.panics {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
            }
            assert!(self.has_panicked.swap(true, Ordering::SeqCst), "{DEFECT}");
        }
        self.reload(now);
        if self.stop_at <= now {
            self.stop.tell();
            self.cancel.cancel();
        }
    }
}

/// The window, on this clock.
pub struct OpenHours {
    window: Mutex<Window>,
    zone: TimeZone,
    hours: Arc<Hours>,
}

impl OpenHours {
    pub fn new(window: Window, zone: TimeZone, hours: Arc<Hours>) -> OpenHours {
        OpenHours { window: Mutex::new(window), zone, hours }
    }

    pub fn set(&self, window: Window) {
        *self.window.lock().unwrap() = window;
    }

    fn is_open(&self, at: Timestamp) -> bool {
        self.window.lock().unwrap().is_open_at(at, &self.zone)
    }
}

#[async_trait]
impl Gate for OpenHours {
    async fn opened(&self) {
        while !self.is_open(self.hours.now()) {
            self.hours.pass(MINUTE);
            tokio::task::yield_now().await;
        }
    }

    async fn overdue(&self) {
        let grace = SignedDuration::from_mins(5);
        while self.is_open(self.hours.now()) || self.is_open(self.hours.now() - grace) {
            tokio::task::yield_now().await;
        }
    }
}

/// A directory behind a slow line that is down at times.
pub struct Line {
    vault: DirectoryVault,
    hours: Arc<Hours>,
    outages: Vec<(i64, i64)>,
    /// What arrived whole, a line each.
    sent: File,
}

/// Bytes take their time.
struct Slow(Arc<Hours>);

#[async_trait]
impl Pace for Slow {
    async fn pass(&self, bytes: u64) {
        self.0.pass(Duration::from_millis(bytes * 1000 / RATE));
        tokio::task::yield_now().await;
    }

    fn step(&self) -> u64 {
        STEP
    }
}

impl Line {
    pub fn new(vault: DirectoryVault, plan: &Plan, hours: Arc<Hours>) -> Line {
        let sent = OpenOptions::new().create(true).append(true).open(plan.root.join("sent")).unwrap();
        Line { vault, hours, outages: plan.outages.clone(), sent }
    }

    fn is_down(&self) -> bool {
        let now = self.hours.millis();
        self.outages.iter().any(|(from, to)| *from <= now && now < *to)
    }

    /// The answer, unless the line goes down before it comes.
    async fn over<T>(
        &self,
        attempt: &'static str,
        key: &str,
        answer: impl Future<Output = VaultResult<T>>,
    ) -> VaultResult<T> {
        self.hours.happens();
        let down = async {
            while !self.is_down() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = down => Err(VaultError::new(attempt, key, Cause::Network, "The line is down")),
            answer = answer => {
                self.hours.happens();
                answer
            }
        }
    }

    fn slow(&self, payload: Payload) -> Payload {
        payload.paced(Arc::new(Slow(self.hours.clone())))
    }
}

#[async_trait]
impl Vault for Line {
    async fn put(&self, key: &Key, spec: &ObjectSpec, payload: Payload) -> VaultResult<()> {
        let arrives = async {
            self.vault.put(key, spec, self.slow(payload)).await?;
            writeln!(&self.sent, "{key}").unwrap();
            Ok(())
        };
        self.over("put", key.as_str(), arrives).await
    }

    async fn begin(&self, key: &Key, spec: &ObjectSpec) -> VaultResult<UploadId> {
        self.over("begin", key.as_str(), self.vault.begin(key, spec)).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, number: u32, payload: Payload) -> VaultResult<Part> {
        let arrives = async {
            let part = self.vault.put_part(key, upload, number, self.slow(payload)).await?;
            writeln!(&self.sent, "{key} {} {number}", upload.0).unwrap();
            Ok(part)
        };
        self.over("send part of", key.as_str(), arrives).await
    }

    async fn parts(&self, key: &Key, upload: &UploadId) -> VaultResult<Vec<Part>> {
        self.over("list parts of", key.as_str(), self.vault.parts(key, upload)).await
    }

    async fn complete(&self, key: &Key, upload: &UploadId, spec: &ObjectSpec, parts: &[Part]) -> VaultResult<()> {
        self.over("complete", key.as_str(), self.vault.complete(key, upload, spec, parts)).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> VaultResult<()> {
        self.over("abort", key.as_str(), self.vault.abort(key, upload)).await
    }

    async fn uploads(&self, prefix: &str) -> VaultResult<Vec<(Key, UploadId)>> {
        self.over("list uploads of", prefix, self.vault.uploads(prefix)).await
    }

    async fn head(&self, key: &Key) -> VaultResult<Option<Receipt>> {
        self.over("examine", key.as_str(), self.vault.head(key)).await
    }

    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> VaultResult<Vec<u8>> {
        self.over("read", key.as_str(), self.vault.get_range(key, offset, len)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> VaultResult<Vec<Listed>> {
        self.over("list", prefix, self.vault.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &Key) -> VaultResult<()> {
        self.over("delete", key.as_str(), self.vault.delete(key)).await
    }

    async fn thaw(&self, key: &Key, days: u32, tier: Tier) -> VaultResult<Thaw> {
        self.over("thaw", key.as_str(), self.vault.thaw(key, days, tier)).await
    }
}
