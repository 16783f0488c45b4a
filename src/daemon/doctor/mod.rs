//! Tries for real everything that a run will need, and tells what it finds. Nothing of a running daemon is disturbed.

mod local;
mod vault;

use super::options;
use crate::{
    config::Settings,
    encrypt,
    fate::{Chain, Trouble},
    finding::{Finding, Findings},
    pipeline,
    report::{heartbeat, letter::Mail, mail},
    staging,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A disk that takes longer to answer hangs.
const DISK: Duration = Duration::from_secs(90);
/// Each step of a conversation with the mail server.
const MAIL: Duration = Duration::from_secs(20);

/// What is told, and to whom.
type Tell<'a> = &'a mut (dyn FnMut(Finding) + Send);

/// Tells every finding as it is found. `sends_mail`: whether to send one. Every call has an end, whatever hangs.
pub fn doctor(settings: &Settings, sends_mail: bool, tell: Tell<'_>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|err| format!("Cannot start the workers: {err}"))?;
    runtime.block_on(everything(Arc::new(settings.clone()), sends_mail, tell));
    // What hangs stays behind.
    runtime.shutdown_timeout(super::FAREWELL);
    Ok(())
}

async fn everything(settings: Arc<Settings>, sends_mail: bool, tell: Tell<'_>) {
    let nonce = pipeline::random_id();
    let of = |trouble: Trouble| (trouble, settings.clone());
    disk("state", of(Trouble::State), local::state, tell).await;
    disk("keys", of(Trouble::Keys), keys, tell).await;
    disk("sources", of(Trouble::Source), local::sources, tell).await;
    let own = nonce.clone();
    let staging = move |settings: &Settings, out: &mut Findings<'_>| {
        staging::probe(&settings.staging.path, settings.staging.cap.0, &own, out);
    };
    disk("staging", of(Trouble::Staging), staging, tell).await;
    vault::probe(&settings, nonce, &mut Findings::new(Trouble::Vault, tell)).await;
    let send = move |settings: &Settings, out: &mut Findings<'_>| mail_to(settings, sends_mail, out);
    disk("mail", of(Trouble::Internal), send, tell).await;
    disk("heartbeat", of(Trouble::Internal), heartbeat, tell).await;
}

/// Work that blocks, on a thread that is left behind if it hangs.
async fn disk(
    check: &'static str,
    (trouble, settings): (Trouble, Arc<Settings>),
    work: impl FnOnce(&Settings, &mut Findings<'_>) + Send + 'static,
    tell: Tell<'_>,
) {
    let work = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        let mut keep = |finding| found.push(finding);
        work(&settings, &mut Findings::new(trouble, &mut keep));
        found
    });
    match timeout(DISK, work).await {
        Ok(Ok(found)) => found.into_iter().for_each(tell),
        Ok(Err(err)) => Findings::new(Trouble::Internal, tell).problem(check, format!("the check failed: {err}"), ""),
        Err(_) => {
            let what = format!("no answer for {} s", DISK.as_secs());
            Findings::new(trouble, tell).problem(check, what, "Look at `dmesg` for a disk or a server that hangs");
        }
    }
}

fn keys(settings: &Settings, out: &mut Findings<'_>) {
    match options::encrypt(settings) {
        Some(keys) => local::keys(&encrypt::Options { prove: true, ..keys }, std::time::SystemTime::now(), out),
        None => out.warning(
            "keys",
            "nothing is encrypted",
            "Whoever can read the vault can read everything; set encrypt.method, unless that is meant",
        ),
    }
}

/// A heartbeat of ours would say that a daemon lives, so only its server is asked.
fn heartbeat(settings: &Settings, out: &mut Findings<'_>) {
    let Some(settings) = &settings.heartbeat else { return };
    let (url, every) = (&settings.url, settings.every);
    match heartbeat::reach(url.secret()) {
        Ok(()) => {
            let what = format!("the server of {url} answers; a daemon is heard there every {every}");
            out.ok("heartbeat", what);
        }
        Err(why) => out.problem(
            "heartbeat",
            format!("the server of {url} gives no answer: {why}"),
            "Look at heartbeat.url, at the network, and at the certificates of this machine",
        ),
    }
}

fn mail_to(settings: &Settings, sends: bool, out: &mut Findings<'_>) {
    let options = match options::mail(settings) {
        Ok(Some(options)) => options,
        Ok(None) => {
            return out.warning("mail", "none is configured: nobody hears of trouble", "Write a section [mail]");
        }
        Err(what) => return out.problem("mail", what, "Correct the section [mail]"),
    };
    let to = options.to.join(", ");
    if !sends {
        return out.ok("mail", format!("goes to {to}; not tried, `archiver doctor --mail` sends one"));
    }
    let host = options::host(settings);
    match mail::send_now(&options, &host, &Mail::test(), std::time::SystemTime::now(), MAIL) {
        Ok(()) => out.ok("mail", format!("one was taken by the server for {to}: look whether it arrives")),
        Err(err) => {
            out.problem("mail", Chain(&err).to_string(), "Correct the section [mail], or ask the server's owner");
        }
    }
}
