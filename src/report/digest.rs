//! Which mail goes out when: the first of its kind at once, and then one per kind and digest, which sums up what
//! was held back meanwhile. Pure, and small whatever happens: a few lines per kind.

use super::letter::{Mail, MailKind, counted, human, works_again};
use crate::{fate::Trouble, notice::Notice};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Different subjects that a sum names; of the rest it says how many.
const SUBJECTS_MAX: usize = 10;

pub struct Digest {
    every: Duration,
    kinds: BTreeMap<MailKind, Kind>,
    /// Troubles that have not recovered, by the last that was heard.
    ongoing: BTreeMap<Trouble, bool>,
    /// Of those, what an earlier process has told: nobody else remembers them.
    recalled: BTreeSet<Trouble>,
}

/// What is known of one kind of mail.
struct Kind {
    /// When the last one went out.
    sent: Duration,
    held: u64,
    /// The first few different subjects that were held back, and how often.
    subjects: Vec<(String, u64)>,
    /// The last that was held back: what the next mail is about, if nothing else comes.
    last: Option<Mail>,
}

/// What a digest knows, for one that comes after it, in another process and by another clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recollection {
    kinds: Vec<Remembered>,
    /// Kinds of troubles that have not recovered.
    ongoing: Vec<MailKind>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    kind: MailKind,
    sent: Timestamp,
    held: u64,
    subjects: Vec<(String, u64)>,
    last: Option<Mail>,
}

/// What came of a notice.
pub struct Heard {
    /// There was something to be told, now or later.
    pub is_news: bool,
    pub now: Vec<Mail>,
}

impl Digest {
    pub fn new(every: Duration) -> Digest {
        Digest { every, kinds: BTreeMap::new(), ongoing: BTreeMap::new(), recalled: BTreeSet::new() }
    }

    /// What a notice has to be told of, and what of that goes out now.
    pub fn hear(&mut self, notice: &Notice, now: Duration) -> Heard {
        let recovered = works_again(notice).iter().filter(|trouble| self.recalled.remove(trouble));
        let recovered: Vec<Mail> =
            recovered.filter_map(|trouble| Mail::of(&Notice::Recovered { trouble: *trouble })).collect();
        let mails: Vec<Mail> = Mail::of(notice).into_iter().chain(recovered).collect();
        let is_news = !mails.is_empty();
        Heard { is_news, now: mails.into_iter().filter_map(|mail| self.offer(mail, now)).collect() }
    }

    /// One mail per kind in this time from now on.
    pub fn set_every(&mut self, every: Duration) {
        self.every = every;
    }

    /// `wall` is what a calendar says at `now`.
    pub fn remember(&self, now: Duration, wall: Timestamp) -> Recollection {
        let kinds = self.kinds.iter().map(|(kind, known)| {
            let age = SignedDuration::try_from(now.saturating_sub(known.sent)).unwrap_or(SignedDuration::MAX);
            let sent = wall.checked_sub(age).unwrap_or(Timestamp::MIN);
            Remembered {
                kind: *kind,
                sent,
                held: known.held,
                subjects: known.subjects.clone(),
                last: known.last.clone(),
            }
        });
        let ongoing = self.ongoing.iter().filter(|(_, ongoing)| **ongoing);
        Recollection { kinds: kinds.collect(), ongoing: ongoing.map(|(of, _)| MailKind::Trouble(*of)).collect() }
    }

    /// What another one knew. A calendar that was set back meanwhile takes it for new: a kind is silent no longer than
    /// one digest by that.
    pub fn recall(&mut self, known: Recollection, now: Duration, wall: Timestamp) {
        for Remembered { kind, sent, held, subjects, last } in known.kinds {
            let age = Duration::try_from(wall.duration_since(sent)).unwrap_or_default();
            self.kinds.insert(kind, Kind { sent: now.saturating_sub(age), held, subjects, last });
        }
        for kind in known.ongoing {
            if let MailKind::Trouble(trouble) = kind {
                self.ongoing.insert(trouble, true);
                self.recalled.insert(trouble);
            }
        }
    }

    /// Gives back the mail if it is to go out now, with the sum of what was held back; else keeps it in mind.
    /// `now` is the time since some fixed moment.
    pub fn offer(&mut self, mut mail: Mail, now: Duration) -> Option<Mail> {
        match mail.kind {
            MailKind::Trouble(trouble) | MailKind::Recovered(trouble) => {
                self.ongoing.insert(trouble, matches!(mail.kind, MailKind::Trouble(_)));
                self.recalled.remove(&trouble);
            }
            MailKind::PassEnded | MailKind::RestoreEnded | MailKind::Silence => {}
        }
        let Some(kind) = self.kinds.get_mut(&mail.kind) else {
            self.kinds.insert(mail.kind, Kind { sent: now, held: 0, subjects: Vec::new(), last: None });
            return Some(mail);
        };
        if now.saturating_sub(kind.sent) < self.every {
            kind.hold(mail);
            return None;
        }
        kind.release(&mut mail, now);
        Some(mail)
    }

    /// Mails about what was held back and is due without anything new.
    pub fn due(&mut self, now: Duration) -> Vec<Mail> {
        let mut due = Vec::new();
        for kind in self.kinds.values_mut() {
            if now.saturating_sub(kind.sent) >= self.every
                && let Some(mut mail) = kind.last.take()
            {
                kind.release(&mut mail, now);
                due.push(mail);
            }
        }
        for mail in &mut due {
            if let MailKind::Trouble(trouble) | MailKind::Recovered(trouble) = mail.kind {
                let ongoing = self.ongoing.get(&trouble).copied().unwrap_or(false);
                mail.append(if ongoing {
                    "By the last that was heard, this trouble goes on."
                } else {
                    "By now it is over."
                });
            }
        }
        due
    }

    /// When [`due`](Self::due) is to be asked next.
    pub fn next_due(&self) -> Option<Duration> {
        self.kinds.values().filter(|kind| kind.held > 0).map(|kind| kind.sent.saturating_add(self.every)).min()
    }
}

impl Kind {
    fn hold(&mut self, mail: Mail) {
        self.held += 1;
        if let Some((_, count)) = self.subjects.iter_mut().find(|(subject, _)| subject == mail.subject()) {
            *count += 1;
        } else if self.subjects.len() < SUBJECTS_MAX {
            self.subjects.push((mail.subject().to_owned(), 1));
        }
        self.last = Some(mail);
    }

    /// Adds the sum of what was held back, and begins anew.
    fn release(&mut self, mail: &mut Mail, now: Duration) {
        let since = human(now.saturating_sub(self.sent));
        if self.held > 0 {
            let mut sum = format!("Of this kind, {} were held back in the last {since}:", counted(self.held, "mail"));
            let named: u64 = self.subjects.iter().map(|(_, count)| count).sum();
            for (subject, count) in &self.subjects {
                sum.push_str(&format!("\n  {count} × {subject}"));
            }
            if self.held > named {
                sum.push_str(&format!("\n  and {} more", self.held - named));
            }
            mail.append(&sum);
        }
        *self = Kind { sent: now, held: 0, subjects: Vec::new(), last: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Step;

    const DAY: u64 = 86_400;
    const VAULT: MailKind = MailKind::Trouble(Trouble::Vault);
    const KEYS: MailKind = MailKind::Trouble(Trouble::Keys);
    const BACK: MailKind = MailKind::Recovered(Trouble::Vault);

    fn mail(kind: MailKind, subject: &str) -> Mail {
        Mail::new(kind, subject, "It burns")
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_mail_per_kind_and_digest() {
        let mut digest = Digest::new(at(DAY));
        // When, which kind, whether it goes out, and how many it says were held back.
        let table = [
            (10, VAULT, true, None),
            (11, VAULT, false, None),
            (12, KEYS, true, None),
            (13, BACK, true, None),
            (14, MailKind::PassEnded, true, None),
            (15, MailKind::PassEnded, false, None),
            (DAY + 9, VAULT, false, None),
            (DAY + 10, VAULT, true, Some(2)),
            (DAY + 11, VAULT, false, None),
            (DAY + 11, KEYS, false, None),
            (DAY + 12, KEYS, true, Some(1)),
            (3 * DAY, BACK, true, None),
            (3 * DAY, MailKind::PassEnded, true, Some(1)),
        ];
        for (now, kind, goes, held) in table {
            let out = digest.offer(mail(kind, "Fire"), at(now));
            assert_eq!(out.is_some(), goes, "{now} {kind:?}");
            let body = out.map(|mail| mail.body().to_owned()).unwrap_or_default();
            let said =
                body.split_once("Of this kind, ").map(|(_, sum)| sum.split(' ').next().unwrap().parse().unwrap());
            assert_eq!(said, held, "{now} {kind:?}");
        }
    }

    #[test]
    fn what_was_held_back_is_summed_up() {
        let mut digest = Digest::new(at(DAY));
        digest.offer(mail(VAULT, "Fire"), at(0)).unwrap();
        for subject in ["Flood", "Fire", "Flood"] {
            assert_eq!(digest.offer(mail(VAULT, subject), at(1)), None);
        }
        let out = digest.offer(mail(VAULT, "Frogs"), at(DAY)).unwrap();
        assert_eq!(out.subject(), "Frogs");
        assert_eq!(
            out.body(),
            "It burns\n\nOf this kind, 3 mails were held back in the last 24 hours:\n  2 × Flood\n  1 × Fire"
        );
    }

    #[test]
    fn what_was_held_back_goes_out_though_nothing_more_happens() {
        let mut digest = Digest::new(at(DAY));
        digest.offer(mail(VAULT, "Fire"), at(5)).unwrap();
        assert_eq!((digest.next_due(), digest.due(at(9 * DAY))), (None, vec![]));
        digest.offer(mail(BACK, "Out"), at(6)).unwrap();
        digest.offer(mail(BACK, "Out again"), at(7));
        digest.offer(mail(VAULT, "Fire again"), at(8));
        assert_eq!(digest.next_due(), Some(at(DAY + 5)));
        assert_eq!(digest.due(at(DAY + 4)), []);
        let due = digest.due(at(DAY + 5));
        assert_eq!(due.iter().map(Mail::subject).collect::<Vec<_>>(), ["Fire again"]);
        assert!(due[0].body().ends_with("this trouble goes on."));
        // It began a digest of its own.
        assert_eq!(digest.offer(mail(VAULT, "Fire"), at(DAY + 6)), None);
        digest.offer(mail(BACK, "Out at last"), at(DAY + 5));
        assert_eq!(digest.next_due(), Some(at(DAY + 6)));
        let due = digest.due(at(DAY + 6));
        assert_eq!(due.iter().map(Mail::subject).collect::<Vec<_>>(), ["Out at last"]);
        assert!(due[0].body().ends_with("By now it is over."));
    }

    #[test]
    fn what_was_told_is_known_to_the_next_process() {
        let mut digest = Digest::new(at(DAY));
        digest.offer(mail(VAULT, "Fire"), at(100)).unwrap();
        assert_eq!(digest.offer(mail(VAULT, "Flood"), at(200)), None);
        let wall = |seconds: u64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds as i64);
        let text = serde_json::to_string(&digest.remember(at(300), wall(1_000_000))).unwrap();
        let next = |later: u64| {
            let mut next = Digest::new(at(DAY));
            // Its own clock began anew.
            next.recall(serde_json::from_str(&text).unwrap(), at(10 * DAY), wall(1_000_000 + later));
            next
        };
        // The first went out 200 seconds before it was written down.
        assert_eq!(next(0).offer(mail(VAULT, "Fire"), at(11 * DAY - 201)), None);
        let out = next(DAY - 200).offer(mail(VAULT, "Fire"), at(10 * DAY)).unwrap();
        assert!(out.body().contains("Of this kind, 1 mail were held back") && out.body().contains("Flood"), "{out:?}");
        let due = next(2 * DAY).due(at(10 * DAY));
        assert!(due.len() == 1 && due[0].body().ends_with("this trouble goes on."), "{due:?}");
        assert_eq!(next(0).next_due(), Some(at(11 * DAY - 200)));
        // Clocks that were set back.
        let mut before = Digest::new(at(DAY));
        before.recall(serde_json::from_str(&text).unwrap(), at(10 * DAY), wall(5));
        assert_eq!(before.next_due(), Some(at(11 * DAY)));
    }

    #[test]
    fn what_is_over_after_a_restart_is_told() {
        let trouble = |trouble| Notice::Trouble { trouble, what: "x".into(), retry_in: None };
        let ended = |step| {
            let piece: crate::name::PieceName = "data.20261120T200000Z.000017-x".parse().unwrap();
            Notice::StepEnded { step, piece, input_len: 1, output_len: 1, took: Duration::ZERO }
        };
        let mut before = Digest::new(at(DAY));
        for of in [Trouble::Vault, Trouble::Settings, Trouble::State] {
            assert_eq!(before.hear(&trouble(of), at(1)).now.len(), 1);
        }
        let known = before.remember(at(1), Timestamp::UNIX_EPOCH);
        let mut next = Digest::new(at(DAY));
        next.recall(known, at(1), Timestamp::UNIX_EPOCH);
        let mut kinds =
            |notice: &Notice| -> Vec<MailKind> { next.hear(notice, at(2)).now.iter().map(|mail| mail.kind).collect() };
        assert_eq!(kinds(&Notice::Started { version: "1" }), [MailKind::Recovered(Trouble::Settings)]);
        // Known to this process from now on, which tells of its end.
        assert_eq!(kinds(&trouble(Trouble::State)), []);
        assert_eq!(kinds(&ended(Step::Pack)), []);
        assert_eq!(kinds(&ended(Step::Upload)), [MailKind::Recovered(Trouble::Vault)]);
        assert_eq!(kinds(&ended(Step::Upload)), []);
    }

    #[test]
    fn a_digest_of_no_time_holds_nothing_back() {
        let mut digest = Digest::new(at(0));
        assert!((0..3).all(|_| digest.offer(mail(VAULT, "Fire"), at(1)).is_some()));
    }

    #[test]
    fn a_flood_is_one_mail_and_little_memory() {
        let mut digest = Digest::new(at(DAY));
        let out = (0..100_000).filter(|i| digest.offer(mail(VAULT, &format!("Fire {i}")), at(i / 2000)).is_some());
        assert_eq!(out.count(), 1);
        assert!(digest.kinds.values().all(|kind| kind.subjects.len() <= SUBJECTS_MAX));
        let sum = digest.offer(mail(VAULT, "Fire"), at(2 * DAY)).unwrap();
        assert!(sum.body().contains("99999 mails") && sum.body().ends_with("and 99989 more"));
    }
}
