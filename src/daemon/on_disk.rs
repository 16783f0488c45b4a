//! Whether the configuration file still says what holds. It is looked at now and then, by its times and size, and read
//! only when it is another one: a watch by the kernel would not see what others write on a network filesystem, has to
//! follow links and renames by itself, and may be refused.

use super::options;
use crate::{config::Settings, fate::Chain};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the file says, or why it cannot be taken.
pub(super) type Found = Result<Settings, String>;

/// Looks while it lives.
pub(super) struct OnDisk {
    found: mpsc::Receiver<Found>,
    again: Arc<Notify>,
}

/// Another one when the file is another, or none.
type Stamp = Result<[i64; 7], io::ErrorKind>;

impl OnDisk {
    pub(super) fn watch(file: PathBuf) -> OnDisk {
        let ((tell, found), again) = (mpsc::channel(1), Arc::new(Notify::new()));
        tokio::spawn(look_now_and_then(file, tell, again.clone()));
        OnDisk { found, again }
    }

    /// What it says, whenever that may be something else.
    pub(super) async fn next(&mut self) -> Found {
        match self.found.recv().await {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }

    /// Tells it once more, whether it is another or not: what holds is.
    pub(super) fn again(&self) {
        self.again.notify_one();
    }
}

/// Nothing waits for it, and at most one thread hangs with the disk.
async fn look_now_and_then(file: PathBuf, tell: mpsc::Sender<Found>, again: Arc<Notify>) {
    let (mut before, mut told) = (None, None);
    while !tell.is_closed() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = again.notified() => told = None,
        }
        let (path, last, known) = (file.clone(), before, told);
        let Ok((now, found)) = tokio::task::spawn_blocking(move || look(&path, last.as_ref(), known.as_ref())).await
        else {
            continue;
        };
        if let Some(found) = found {
            // What is wrong with it may be elsewhere, as in a file that it names.
            told = found.is_ok().then_some(now);
            if tell.send(found).await.is_err() {
                return;
            }
        }
        before = Some(now);
    }
}

/// Reads it when it is none that is `known`, and the same as at the look `before`: somebody may be writing it.
fn look(file: &Path, before: Option<&Stamp>, known: Option<&Stamp>) -> (Stamp, Option<Found>) {
    let now = stamp(file);
    let is_news = before == Some(&now) && known != Some(&now);
    let found = is_news.then(|| options::load(file).map_err(|err| Chain(&err).to_string()));
    (now, found)
}

fn stamp(file: &Path) -> Stamp {
    let meta = fs::metadata(file).map_err(|err| err.kind())?;
    let [dev, ino, size] = [meta.dev(), meta.ino(), meta.size()].map(u64::cast_signed);
    Ok([dev, ino, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
}
