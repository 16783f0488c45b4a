//! Restores in the catalog: recorded, found again, listed, cancelled, and given to a unit of their own.

use super::Failed;
use crate::{
    catalog::Catalog,
    cli::json_line,
    config::Settings,
    daemon, durable,
    fate::Chain,
    report::{Mail, MailKind, mail},
    restore::{Job, JobState},
};
use serde_json::json;
use std::{
    io::{Write, stdout},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

/// Directory below `restore.path` of a catalog that was made of the vault alone.
const FROM_VAULT: &str = "from-vault";

/// Of each step of a conversation with a mail server.
const MAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where jobs are kept: in the catalog of this host, or in the one that was made of the vault for a restore.
pub struct Jobs {
    catalog: PathBuf,
    /// `restore.path`.
    staging: PathBuf,
}

impl Jobs {
    pub fn of(settings: &Settings, from_vault: bool) -> Jobs {
        let staging = settings.restore.path.clone();
        let catalog = match from_vault {
            true => state_from_vault(settings).join("catalog.sqlite"),
            false => settings.catalog_file(),
        };
        Jobs { catalog, staging }
    }

    /// A restore goes on without its record; only nobody can look at it then, or resume it by its id.
    pub fn save(&self, job: &Job) {
        if let Err(failed) = self.record(job) {
            eprintln!("archiver: The restore is not recorded: {}", failed.what);
        }
    }

    pub fn record(&self, job: &Job) -> Result<(), Failed> {
        Ok(Catalog::open(&self.catalog)?.save_restore(&job.id, &job.record())?)
    }

    fn all(&self) -> Result<Vec<Job>, Failed> {
        if !self.catalog.exists() {
            return Ok(Vec::new());
        }
        let records = Catalog::open_read_only(&self.catalog)?.restores()?;
        let jobs = records.iter().map(|(id, record)| Job::of(id, record));
        jobs.collect::<Result<_, _>>().map_err(|err| Failed::other(&err))
    }

    /// One that is not done and asks for the same.
    pub fn open_like(&self, job: &Job) -> Option<Job> {
        let what = |job: &Job| {
            let (paths, patterns) = (job.paths.clone(), job.patterns.clone());
            (job.source.clone(), job.pass, paths, patterns, job.to.clone(), job.overwrite, job.detached)
        };
        let mut all = self.all().unwrap_or_default().into_iter();
        all.rfind(|other| other.state == JobState::Open && what(other) == what(job))
    }

    fn mark(&self, id: &str) -> PathBuf {
        self.staging.join(format!("{id}.cancelled"))
    }

    pub fn is_cancelled(&self, id: &str) -> bool {
        self.mark(id).exists()
    }

    /// What a job that has ended leaves to be done: its unit is not started at the next boot any more, and whoever went
    /// away hears of it.
    pub fn end(&self, settings: &Settings, job: &Job) {
        if job.detached {
            let ends = [systemctl(&["disable", &unit(&job.id)]), tell_by_mail(settings, job)];
            for failed in ends.into_iter().filter_map(Result::err) {
                eprintln!("archiver: {}", failed.what);
            }
        }
    }
}

pub fn state_from_vault(settings: &Settings) -> PathBuf {
    settings.restore.path.join(FROM_VAULT)
}

fn everywhere(settings: &Settings) -> Vec<Job> {
    let mut all = Vec::new();
    for from_vault in [false, true] {
        match Jobs::of(settings, from_vault).all() {
            Ok(jobs) => all.extend(jobs),
            // Those of the other can be had all the same.
            Err(failed) => eprintln!("archiver: Restores in one of the catalogs cannot be told: {}", failed.what),
        }
    }
    all
}

/// The job of this id; without one the only one that is open.
pub fn find(settings: &Settings, id: Option<&str>) -> Result<Job, Failed> {
    let all = everywhere(settings);
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        let mut open = all.into_iter().filter(|job| job.state == JobState::Open);
        return match (open.next(), open.next()) {
            (Some(job), None) => Ok(job),
            (None, _) => Err(Failed::usage("There is no restore to go on with; `archiver restore --list` lists all")),
            _ => Err(Failed::usage("Which restore? `archiver restore --list` lists them")),
        };
    };
    let found = all.into_iter().find(|job| job.id == id);
    found.ok_or_else(|| Failed::usage(format!("There is no restore {id:?}; `archiver restore --list` lists them")))
}

pub fn list(settings: &Settings, as_json: bool) -> Result<u8, Failed> {
    let mut out = stdout().lock();
    for job in everywhere(settings) {
        if as_json {
            let paths = job.paths.iter().map(crate::path::SourcePath::display);
            let paths: Vec<_> = paths.chain(job.patterns.iter().cloned()).collect();
            let line = json!({
                "job": job.id, "begun": job.begun.to_string(), "state": job.state.as_str(), "source": job.source.as_str(),
                "pass": job.pass.to_string(), "paths": paths, "to": job.to, "detached": job.detached, "phase": job.phase,
                "pieces": job.pieces, "pieces_done": job.pieces_done, "cost": job.cost,
            });
            json_line(&mut out, &line)?;
        } else {
            let (id, state, done, pieces) = (&job.id, job.state.as_str(), job.pieces_done, job.pieces);
            writeln!(
                out,
                "{id}  {state:<10}  {done} of {pieces} pieces  {} to {:?}: {}",
                job.source, job.to, job.phase
            )?;
        }
    }
    Ok(0)
}

/// Whoever works on it ends within some seconds. What is thawing thaws on, and is paid for.
pub fn cancel(settings: &Settings, id: &str) -> Result<u8, Failed> {
    let mut job = find(settings, Some(id))?;
    if job.state != JobState::Open {
        return Err(Failed::usage(format!("The restore {id} is {}", job.state.as_str())));
    }
    let jobs = Jobs::of(settings, job.from_vault);
    durable::create_dir(&jobs.staging)?;
    durable::write(&jobs.mark(&job.id), b"")?;
    job.state = JobState::Cancelled;
    "cancelled".clone_into(&mut job.phase);
    jobs.record(&job)?;
    if job.detached {
        systemctl(&["disable", "--now", &unit(&job.id)])?;
    }
    eprintln!(
        "What came back so far stays in {:?}; what is in {:?} of pieces under way can be removed",
        job.to, jobs.staging
    );
    Ok(0)
}

/// Whether a unit can do what this command could.
pub fn may_detach(config: &Path) -> Result<(), Failed> {
    if config != Path::new(crate::cli::CONFIG) {
        let what = format!("--detach: the unit reads {}, and not {}", crate::cli::CONFIG, config.display());
        return Err(Failed::usage(what));
    }
    Ok(())
}

/// Lets the unit of a job go on with another record of it.
pub fn restart(jobs: &Jobs, job: &Job) -> Result<(), Failed> {
    // Else it would write its own over this one.
    systemctl(&["stop", &unit(&job.id)])?;
    jobs.record(job)?;
    systemctl(&["start", "--no-block", &unit(&job.id)])
}

/// Whether this is the unit of a job.
pub fn is_unit() -> bool {
    std::env::var_os("ARCHIVER_RESTORE_UNIT").is_some()
}

/// That the directory of a job is still the one that it was: a mount point without its disk is another.
pub fn check_target(job: &Job) -> Result<(), Failed> {
    let found = std::fs::metadata(&job.to).ok().map(|meta| meta.ino());
    match job.to_inode {
        Some(inode) if found != Some(inode) => {
            let what = format!(
                "{:?} is not the directory that it was: is its disk mounted? To begin anew, `archiver restore --cancel {}`",
                job.to, job.id
            );
            Err(Failed::new(crate::cli::HELD, what))
        }
        _ => Ok(()),
    }
}

/// Gives a job to its unit, now and at each boot until it is done.
pub fn detach(job: &Job) -> Result<(), Failed> {
    systemctl(&["enable", &unit(&job.id)])?;
    systemctl(&["start", "--no-block", &unit(&job.id)])
}

fn tell_by_mail(settings: &Settings, job: &Job) -> Result<(), Failed> {
    let Some(mail) = &settings.mail else { return Ok(()) };
    let options = daemon::mail_options(mail).map_err(Failed::usage)?;
    let subject = format!("The restore to {:?} is {}", job.to, job.state.as_str());
    let body = format!(
        "{}.\n\nPass {} of {}. What is not as it was is named by: journalctl -u {}",
        job.phase,
        job.pass,
        job.source,
        unit(&job.id)
    );
    let letter = Mail::new(MailKind::RestoreEnded, &subject, &body);
    let now = SystemTime::now();
    let sent = mail::send_now(&options, &daemon::system_host(), &letter, now, MAIL_TIMEOUT);
    sent.map_err(|err| Failed::new(1, format!("The end of the restore is not mailed: {}", Chain(&err))))
}

fn unit(id: &str) -> String {
    format!("archiver-restore@{id}.service")
}

fn systemctl(args: &[&str]) -> Result<(), Failed> {
    let ran = Command::new("systemctl").arg("--quiet").args(args).output();
    let ran = ran.map_err(|err| Failed::new(1, format!("Cannot call systemctl: {}", Chain(&err))))?;
    match ran.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
            Err(Failed::new(1, format!("systemctl {}: {said}", args.join(" "))))
        }
    }
}
