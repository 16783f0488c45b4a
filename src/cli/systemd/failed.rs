//! Mails that a unit has failed: also when the daemon could not read its configuration, and so could not mail.

use crate::{
    cli::Failed,
    config::{MailPart, parts},
    daemon, durable,
    fate::{Chain, Trouble},
    report::{Mail, MailKind, mail},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// When which failure was mailed, in the state directory.
const MAILED: &str = "failures.json";
const LINES: &str = "50";
const TIMEOUT: Duration = Duration::from_secs(30);

pub fn run(args: &crate::cli::Args, state: &Path) -> Result<u8, Failed> {
    let failure = Failure::from_env();
    println!("{}", failure.subject());
    let mail = match parts(&args.config).mail {
        MailPart::Good(mail) => mail,
        MailPart::Absent => {
            println!("No mail: the configuration has no section [mail]");
            return Ok(0);
        }
        MailPart::Wrong => match parts(&state.join(daemon::LAST_GOOD)).mail {
            MailPart::Good(mail) => {
                println!("[mail] cannot be read: mailing as the daemon would have");
                mail
            }
            MailPart::Absent | MailPart::Wrong => {
                let what = "No mail: [mail] cannot be read, and was not known before (`archiver check` says why)";
                return Err(Failed::usage(what));
            }
        },
    };
    let now = SystemTime::now();
    let mut mailed = Mailed::read(state, now, mail.digest.duration());
    if mailed.knows(&failure) {
        println!("No mail: one about the same went out less than {} ago", mail.digest);
        return Ok(0);
    }
    let options = daemon::mail_options(&mail).map_err(Failed::usage)?;
    let letter = Mail::new(MailKind::Trouble(Trouble::Internal), &failure.subject(), &failure.body());
    mail::send_now(&options, &daemon::system_host(), &letter, now, TIMEOUT)
        .map_err(|err| Failed::new(1, Chain(&err)))?;
    mailed.add(&failure);
    Ok(0)
}

/// As systemd tells it to a unit of OnFailure=.
struct Failure {
    unit: String,
    result: String,
    code: String,
    status: String,
}

impl Failure {
    fn from_env() -> Failure {
        let get = |name: &str| env::var(format!("MONITOR_{name}")).unwrap_or_default();
        let unit = Some(get("UNIT")).filter(|unit| !unit.is_empty()).unwrap_or_else(|| "archiver.service".to_owned());
        Failure { unit, result: get("SERVICE_RESULT"), code: get("EXIT_CODE"), status: get("EXIT_STATUS") }
    }

    fn subject(&self) -> String {
        format!("{} has failed and does not run: {}", self.unit, self.how())
    }

    fn how(&self) -> String {
        let what = match (&*self.code, &*self.status) {
            ("exited", "2") => "exit status 2, the configuration".to_owned(),
            ("exited", "5") => "exit status 5, keys".to_owned(),
            ("exited", "6") => "exit status 6, the staging disk".to_owned(),
            ("exited", "7") => "exit status 7, the state needs an operator".to_owned(),
            ("exited", status) => format!("exit status {status}"),
            ("killed" | "dumped", signal) => format!("ended by signal {signal}"),
            _ => "of unknown cause".to_owned(),
        };
        if matches!(&*self.result, "" | "exit-code" | "signal") { what } else { format!("{what} ({})", self.result) }
    }

    fn body(&self) -> String {
        let Failure { unit, .. } = self;
        let advice = match (&*self.code, &*self.status) {
            ("exited", "2") => "Mend what `archiver check` tells, then",
            ("exited", "5") => "Look at the keys with `archiver doctor`, then",
            _ => "Look at what it said, and whether `archiver doctor` finds something; then",
        };
        format!(
            "{unit} has failed: {}.\n\nSystemd does not start it again by itself, so nothing is archived. What was done \
             is kept.\n\n{advice} `systemctl start {unit}`.\n\nWhat it said last:\n\n{}",
            self.how(),
            journal(unit)
        )
    }
}

fn journal(unit: &str) -> String {
    let args = ["--unit", unit, "--lines", LINES, "--no-pager", "--quiet", "--output", "short-iso"];
    match Command::new("journalctl").args(args).output() {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).into_owned(),
        Ok(out) => format!("The journal cannot be read: {}", String::from_utf8_lossy(&out.stderr)),
        Err(err) => format!("The journal cannot be read: {err}"),
    }
}

/// Which failures were told less than a digest ago, by second. A record that cannot be read or written costs a mail too
/// many.
struct Mailed<'a> {
    state: &'a Path,
    now: u64,
    recent: BTreeMap<String, u64>,
}

impl Mailed<'_> {
    fn read(state: &Path, now: SystemTime, digest: Duration) -> Mailed<'_> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let known = fs::read(state.join(MAILED)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut recent: BTreeMap<String, u64> = known.unwrap_or_default();
        // What lies ahead is of a clock that was set back.
        recent.retain(|_, at| *at <= now && now - *at < digest.as_secs());
        Mailed { state, now, recent }
    }

    fn knows(&self, failure: &Failure) -> bool {
        self.recent.contains_key(&failure.subject())
    }

    fn add(&mut self, failure: &Failure) {
        self.recent.insert(failure.subject(), self.now);
        if let Err(err) =
            durable::write(&self.state.join(MAILED), serde_json::json!(self.recent).to_string().as_bytes())
        {
            eprintln!("archiver: {}", Chain(&err));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, status: &str, result: &str) -> Failure {
        Failure { unit: "archiver.service".into(), result: result.into(), code: code.into(), status: status.into() }
    }

    #[test]
    fn the_same_is_mailed_once_in_a_digest() {
        let dir = tempfile::tempdir().unwrap();
        let at =
            |seconds| Mailed::read(dir.path(), UNIX_EPOCH + Duration::from_secs(seconds), Duration::from_secs(100));
        let (config, keys) = (failure("exited", "2", "exit-code"), failure("exited", "5", "exit-code"));
        assert!(!at(1000).knows(&config));
        at(1000).add(&config);
        assert!(at(1099).knows(&config) && !at(1099).knows(&keys));
        at(1050).add(&keys);
        assert!(!at(1100).knows(&config) && at(1100).knows(&keys));
        assert!(!at(900).knows(&config), "The clock was set back");
        fs::write(dir.path().join(MAILED), "no JSON").unwrap();
        assert!(!at(1050).knows(&keys));
    }

    #[test]
    fn it_says_what_happened() {
        let told = |code, status, result| failure(code, status, result).how();
        assert_eq!(told("exited", "2", "exit-code"), "exit status 2, the configuration");
        assert_eq!(told("killed", "KILL", "signal"), "ended by signal KILL");
        assert_eq!(told("exited", "1", "start-limit-hit"), "exit status 1 (start-limit-hit)");
        assert_eq!(told("", "", ""), "of unknown cause");
    }
}
