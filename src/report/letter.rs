//! What a mail says: what happened, what archiver does about it, and what the operator can do.

use crate::{
    fate::Trouble,
    notice::{Notice, PassReport, Step},
    units::ByteSize,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest subject after the prefix, and longest paragraph, in characters; error chains can be any length.
const SUBJECT_MAX: usize = 120;
pub(super) const TEXT_MAX: usize = 4000;
/// Most lines that one happening may fill: a configuration can be wrong in every one of its own.
const LINES_MAX: usize = 100;

/// What is told together: at most one mail per kind goes out in the time of one digest. Stands as a text in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MailKind {
    Trouble(Trouble),
    Recovered(Trouble),
    PassEnded,
    RestoreEnded,
    Silence,
}

impl From<MailKind> for String {
    fn from(kind: MailKind) -> String {
        match kind {
            MailKind::Trouble(trouble) => format!("trouble {}", trouble.as_str()),
            MailKind::Recovered(trouble) => format!("recovered {}", trouble.as_str()),
            MailKind::PassEnded => "pass-ended".to_owned(),
            MailKind::RestoreEnded => "restore-ended".to_owned(),
            MailKind::Silence => "silence".to_owned(),
        }
    }
}

impl TryFrom<String> for MailKind {
    type Error = &'static str;

    fn try_from(text: String) -> Result<MailKind, &'static str> {
        let ofs = Trouble::ALL.into_iter().flat_map(|of| [MailKind::Trouble(of), MailKind::Recovered(of)]);
        let mut all = ofs.chain([MailKind::PassEnded, MailKind::RestoreEnded, MailKind::Silence]);
        all.find(|kind| String::from(*kind) == text).ok_or("No such kind of mail")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    pub kind: MailKind,
    /// One line, without the prefix that names program and host.
    subject: String,
    /// Paragraphs.
    body: String,
}

impl Mail {
    /// Control characters are escaped and long texts cut, so that nothing in them can forge a header or a line.
    pub fn new(kind: MailKind, subject: &str, body: &str) -> Mail {
        let mut lines = body.lines();
        let mut body: Vec<String> = lines.by_ref().take(LINES_MAX).map(|line| clean(line, TEXT_MAX)).collect();
        match lines.count() {
            0 => {}
            left => body.push(format!("… and {}", counted(left as u64, "more line"))),
        }
        Mail { kind, subject: clean(subject, SUBJECT_MAX), body: body.join("\n") }
    }

    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub fn body(&self) -> &str {
        &self.body
    }

    /// Adds a paragraph of trusted text.
    pub fn append(&mut self, paragraph: &str) {
        self.body.push_str("\n\n");
        self.body.push_str(paragraph);
    }

    /// For `doctor --mail`.
    pub fn test() -> Mail {
        let body = "This is a test: mails of archiver arrive here.\n\nNothing is wrong and nothing is to be done.";
        Mail::new(MailKind::PassEnded, "This is a test", body)
    }

    /// `None` for what nobody needs a mail about.
    pub fn of(notice: &Notice) -> Option<Mail> {
        match notice {
            Notice::Trouble { trouble, what, retry_in } => Some(of_trouble(*trouble, what, *retry_in)),
            Notice::Recovered { trouble } => {
                let subject = format!("{}: It works again", trouble.as_str());
                let body = "What was told about this before is over, and the work goes on.\n\nNothing is to be done.";
                Some(Mail::new(MailKind::Recovered(*trouble), &subject, body))
            }
            Notice::PassHeld { source, why } => {
                let subject = format!("{source}: The pass is held: {why}");
                let body = format!(
                    "The pass over the source {source} is held: {why}\n\nNothing of it is archived as empty or \
                     removed. The pass goes on by itself when the source is there again.\n\nMake sure that it is \
                     mounted and can be read. {SEE}"
                );
                Some(Mail::new(MailKind::Trouble(Trouble::Source), &subject, &body))
            }
            Notice::CatalogBehind { why } => Some(of_behind(why)),
            Notice::CatalogCaughtUp { pieces } => {
                let body = format!(
                    "The catalog knows all that happened again; {pieces} pieces were missing in it. Nothing is packed \
                     or sent twice.\n\nNothing is to be done."
                );
                Some(Mail::new(MailKind::Recovered(Trouble::State), "state: The catalog has caught up", &body))
            }
            Notice::PieceRotten { piece, why } => {
                let subject = format!("staging: A piece is rotten: {piece}");
                let body = format!(
                    "The piece {piece} in staging is lost or not what was written: {why}\n\nIt is made again from \
                     what is left of it, or from the source. Nothing rotten is delivered.\n\nIf this happens \
                     more than once, the staging disk or the memory of this machine is failing: look at \
                     `dmesg` and `smartctl`. {SEE}"
                );
                Some(Mail::new(MailKind::Trouble(Trouble::Staging), &subject, &body))
            }
            Notice::PassEnded { source, pass, pieces, entries, archived, lost, clean, report } => {
                let sums = sums(*pieces, *entries, *archived, report);
                Some(of_pass(source, pass, &sums, if *clean { None } else { Some(losses(*lost, report)) }, *lost))
            }
            Notice::Silent { quiet } => Some(of_silence(&human(*quiet))),
            Notice::SettingsRefused { why } => Some(of_trouble(Trouble::Settings, why, None)),
            Notice::SettingsTaken { .. }
            | Notice::SettingsDiffer { .. }
            | Notice::SettingsAgree
            | Notice::Started { .. }
            | Notice::Paused { .. }
            | Notice::Stopping { .. }
            | Notice::PassStarted { .. }
            | Notice::NothingDue { .. }
            | Notice::EntryException { .. }
            | Notice::StepStarted { .. }
            | Notice::StepEnded { .. }
            | Notice::WaitingForSpace { .. }
            | Notice::WaitingForWindow { .. }
            | Notice::StandsStill { .. }
            | Notice::GoesOn { .. }
            | Notice::LeftBehind { .. } => None,
        }
    }
}

/// Troubles that are over when this happens, although whoever met them has ended before they were.
pub(super) fn works_again(notice: &Notice) -> &'static [Trouble] {
    match notice {
        // A configuration that is wrong does not start.
        Notice::Started { .. } => &[Trouble::Settings],
        Notice::StepEnded { step: Step::Pack, .. } => &[Trouble::Source, Trouble::Staging, Trouble::State],
        Notice::StepEnded { step: Step::Compress, .. } => &[Trouble::Staging, Trouble::State],
        Notice::StepEnded { step: Step::Encrypt, .. } => &[Trouble::Staging, Trouble::State, Trouble::Keys],
        Notice::StepEnded { step: Step::Upload, .. } => &[Trouble::Vault, Trouble::State],
        Notice::PassEnded { .. } => &Trouble::ALL,
        _ => &[],
    }
}

const SEE: &str = "`archiver status` says how things stand, `journalctl -u archiver` what happened.";

const SHEET: &str = "`archiver recovery-sheet` prints how to get it back without this machine: keep that elsewhere.";

/// The report of a pass; with what was lost, where it is not clean.
fn of_pass(source: &str, pass: &str, sums: &str, losses: Option<String>, lost: u64) -> Mail {
    let (how, what) = match losses {
        None => ("The pass is complete and clean".to_owned(), String::new()),
        Some(losses) => (
            format!("The pass ended with lost or damaged entries: {lost}"),
            format!(
                "{lost} entries were lost or damaged, or the numbers do not add up. Each one is told by `archiver \
                 exceptions {source}` with its reason.\n\n{losses}Make them readable; the next pass tries them again. "
            ),
        ),
    };
    let body = format!("The pass {pass} over the source {source} is in the vault.\n\n{sums}\n{what}{SHEET} {SEE}");
    Mail::new(MailKind::PassEnded, &format!("{source}: {how}"), &body)
}

fn of_silence(quiet: &str) -> Mail {
    let body = format!(
        "For {quiet} nothing was read, made or sent, although work waits.\n\nIt goes on by itself as soon as it can, and \
         nothing is lost; but what keeps it may need you.\n\nLook at what was told last, and whether `archiver doctor` \
         finds something. {SEE}"
    );
    Mail::new(MailKind::Silence, &format!("Nothing has moved for {quiet}"), &body)
}

/// The law of accounting, and what it takes; a line each.
fn sums(pieces: u64, entries: u64, archived: u64, report: &PassReport) -> String {
    let PassReport { changed, excluded, skipped, tar_bytes, sealed_bytes, took, a_month, .. } = report;
    let clean = archived.saturating_sub(*changed);
    let ratio = *sealed_bytes as f64 / (*tar_bytes).max(1) as f64;
    let (tar, sealed, took) = (ByteSize(*tar_bytes), ByteSize(*sealed_bytes), human(*took));
    let money = a_month.map(|dollars| format!("Keeping it costs about ${dollars:.2} a month.\n")).unwrap_or_default();
    format!(
        "Seen: {entries} entries = {clean} archived clean + {changed} archived, but changed or damaged + {excluded} \
         left out by rules + {skipped} skipped with a reason.\nSize: {pieces} pieces, {tar} as tar, {sealed} in the \
         vault ({ratio:.2}).\nTime: {took}.\n{money}"
    )
}

/// The first of them.
fn losses(lost: u64, report: &PassReport) -> String {
    if report.losses.is_empty() {
        return String::new();
    }
    let left = lost.saturating_sub(report.losses.len() as u64);
    let more = if left > 0 { format!("and {left} more\n") } else { String::new() };
    format!("{}\n{more}\n", report.losses.join("\n"))
}

fn of_behind(why: &str) -> Mail {
    let body = format!(
        "{why}\n\nBefore anything else is packed or sent, it catches up from the records and manifests beside it, \
         from staging and from what the vault holds. If those disagree, the run ends and says so; until a mail tells \
         that, nothing is lost.\n\nIf nobody brought an older catalog back, the disk of the state directory or the \
         memory of this machine may be failing: look at `dmesg` and `smartctl`. {SEE}"
    );
    Mail::new(MailKind::Trouble(Trouble::State), &format!("state: The catalog is behind: {why}"), &body)
}

fn of_trouble(trouble: Trouble, what: &str, retry_in: Option<Duration>) -> Mail {
    let retry = match retry_in {
        Some(delay) => format!("It is tried again in {}, and on and on.", human(delay)),
        None => "It is not tried again before somebody has looked at it.".to_owned(),
    };
    let (kept, advice) = match trouble {
        Trouble::Source => {
            ("What is archived already is safe.", "Make sure that the source is mounted and can be read.")
        }
        Trouble::Staging => (
            "What is complete on the staging disk stays there.",
            "Make room on the staging disk, or look at its health with `dmesg` and `smartctl`.",
        ),
        Trouble::Settings => (
            "The configuration before this one holds, and the work goes on by it.",
            "Mend the file, look at it with `archiver check`, and reload again.",
        ),
        Trouble::Keys => (
            "Nothing leaves this machine before it can be encrypted to everyone it is meant for.",
            "Look at the certificates or the passphrase with `archiver check`.",
        ),
        Trouble::Vault => (
            "Pieces wait in staging and nothing is lost; when staging is full, reading the source pauses.",
            "Look at network, credentials and rights with `archiver doctor`.",
        ),
        Trouble::State => (
            "Nothing is started over.",
            "Look at the disk of the catalog; a verified copy of the last day lies beside it.",
        ),
        Trouble::Internal => {
            ("The other work goes on where it can.", "This is a defect of the program: please report it.")
        }
    };
    let subject = format!("{}: {what}", trouble.as_str());
    Mail::new(MailKind::Trouble(trouble), &subject, &format!("{what}\n\n{retry} {kept}\n\n{advice} {SEE}"))
}

/// A span of time in its largest whole unit.
pub(super) fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    counted(count, unit)
}

/// `1 mail`, `2 mails`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// One line of printable text. Names of entries are escaped already, so backslashes stay as they are.
pub(super) fn clean(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for (count, c) in text.trim_end().chars().enumerate() {
        if count == chars_max {
            line.push('…');
            break;
        }
        let reorders = matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(what: &str) -> Mail {
        let notice =
            Notice::Trouble { trouble: Trouble::Vault, what: what.into(), retry_in: Some(Duration::from_secs(90)) };
        Mail::of(&notice).unwrap()
    }

    fn ended(clean: bool) -> Notice {
        let (source, pass) = ("data".to_owned(), "20261120T200000Z".to_owned());
        let report = PassReport {
            changed: 1,
            skipped: 2,
            tar_bytes: 4 << 20,
            sealed_bytes: 1 << 20,
            took: Duration::from_secs(7200),
            a_month: Some(0.126),
            losses: vec!["a/b: denied".to_owned()],
            ..PassReport::default()
        };
        Notice::PassEnded { source, pass, pieces: 3, entries: 10, archived: 8, lost: 2, clean, report }
    }

    #[test]
    fn a_trouble_says_what_happens_and_what_to_do() {
        let mail = trouble("Cannot reach s3.example.org");
        assert_eq!(mail.subject(), "vault: Cannot reach s3.example.org");
        for said in
            ["Cannot reach", "again in 90 seconds", "archiver doctor", "archiver status", "journalctl -u archiver"]
        {
            assert!(mail.body().contains(said), "{said}");
        }
    }

    #[test]
    fn mails_are_drawn_from_what_needs_somebody() {
        let piece: crate::name::PieceName = "data.20261120T200000Z.000017-x".parse().unwrap();
        let table: [(Notice, Option<(MailKind, &str)>); 7] = [
            (ended(true), Some((MailKind::PassEnded, "data: The pass is complete and clean"))),
            (ended(false), Some((MailKind::PassEnded, "data: The pass ended with lost or damaged entries: 2"))),
            (
                Notice::PassHeld { source: "data".into(), why: "Not mounted".into() },
                Some((MailKind::Trouble(Trouble::Source), "data: The pass is held: Not mounted")),
            ),
            (
                Notice::PieceRotten { piece: piece.clone(), why: "Bit flip".into() },
                Some((MailKind::Trouble(Trouble::Staging), &format!("staging: A piece is rotten: {piece}"))),
            ),
            (
                Notice::Recovered { trouble: Trouble::Keys },
                Some((MailKind::Recovered(Trouble::Keys), "keys: It works again")),
            ),
            (Notice::Started { version: "1" }, None),
            (Notice::WaitingForWindow { opens: "20:00".into() }, None),
        ];
        for (notice, expected) in table {
            let mail = Mail::of(&notice);
            assert_eq!(mail.as_ref().map(|mail| (mail.kind, mail.subject())), expected);
        }
    }

    #[test]
    fn the_report_of_a_pass_adds_up_and_names_what_was_lost() {
        let mail = Mail::of(&ended(false)).unwrap();
        for said in [
            "10 entries = 7 archived clean + 1 archived, but changed or damaged + 0 left out by rules + 2 skipped",
            "3 pieces, 4 MiB as tar, 1 MiB in the vault (0.25)",
            "Time: 2 hours",
            "$0.13 a month",
            "a/b: denied\nand 1 more",
            "archiver recovery-sheet",
        ] {
            assert!(mail.body().contains(said), "{said}: {}", mail.body());
        }
        let mail = Mail::of(&ended(true)).unwrap();
        assert!(!mail.body().contains("denied") && mail.body().contains("10 entries ="), "{}", mail.body());
    }

    #[test]
    fn no_text_can_forge_a_header_or_move_a_cursor() {
        let mail = trouble("x\r\nBcc: evil@example.org\r\n\r\n\x1b[2J\u{202e}y");
        assert_eq!(mail.subject(), r"vault: x\r\nBcc: evil@example.org\r\n\r\n\u{1b}[2J\u{202e}y");
        assert!(!mail.body().contains(['\r', '\x1b', '\u{202e}']));
    }

    #[test]
    fn no_mail_is_endless() {
        let mail = trouble(&"ü".repeat(1_000_000));
        assert_eq!(mail.subject().chars().count(), SUBJECT_MAX + 1);
        assert!(mail.body().chars().count() < TEXT_MAX + 1000);
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        for (seconds, told) in
            [(0, "0 seconds"), (1, "1 second"), (300, "5 minutes"), (7200, "2 hours"), (172_800, "2 days")]
        {
            assert_eq!(human(Duration::from_secs(seconds)), told);
        }
    }
}
