//! The mails of all lives, as the mailer would send them if its server took each at once. What was told when goes from
//! life to life by its own file.

use archiver::{
    notice::Notice,
    report::{
        MailKind,
        digest::Digest,
        spool::{Memory, Spool},
    },
};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub const DIGEST: Duration = Duration::from_secs(24 * 3600);
const SENT: &str = "mails";

pub struct Letters(Mutex<Desk>);

struct Desk {
    digest: Digest,
    spool: Spool,
    sent: File,
}

/// Since some moment long before all lives.
fn elapsed(now: Timestamp) -> Duration {
    Duration::from_millis(now.as_millisecond() as u64)
}

impl Letters {
    pub fn open(root: &Path) -> Letters {
        let sent = OpenOptions::new().create(true).append(true).open(root.join(SENT)).unwrap();
        let (spool, memory) = Spool::open(root);
        let mut digest = Digest::new(DIGEST);
        // By a clock and a calendar that agree.
        digest.recall(
            memory.digest,
            Duration::from_secs(u32::MAX.into()),
            Timestamp::from_second(u32::MAX.into()).unwrap(),
        );
        Letters(Mutex::new(Desk { digest, spool, sent }))
    }

    pub fn notice(&self, notice: &Notice, now: Timestamp) {
        let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mails = desk.digest.due(elapsed(now));
        let heard = desk.digest.hear(notice, elapsed(now));
        mails.extend(heard.now);
        for mail in &mails {
            writeln!(desk.sent, "{} {}", now.as_millisecond(), String::from(mail.kind)).unwrap();
        }
        if heard.is_news || !mails.is_empty() {
            let digest = desk.digest.remember(elapsed(now), now);
            desk.spool.save(Memory { digest, ..Memory::default() });
        }
    }
}

/// All mails so far: when each of a kind went out.
pub fn sent(root: &Path) -> BTreeMap<String, Vec<i64>> {
    let mut sent = BTreeMap::<String, Vec<i64>>::new();
    for line in fs::read_to_string(root.join(SENT)).unwrap_or_default().lines() {
        let (at, kind) = line.split_once(' ').unwrap();
        assert!(MailKind::try_from(kind.to_owned()).is_ok(), "{line}");
        sent.entry(kind.to_owned()).or_default().push(at.parse().unwrap());
    }
    sent
}
