//! Opening through the stock gpg, whose agent holds secret keys, on a smartcard too, and asks for their passwords.

use super::EncryptError;
use std::{
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    thread,
};

const COPY_LEN: usize = 1 << 16;
/// Longest that is kept of what gpg says, bytes.
const SAID_MAX: u64 = 64 << 10;

/// As [`super::Opener::decrypt`]. gpg ends well only when it has found the whole unchanged.
pub fn decrypt(input: &mut (dyn Read + Send), output: &mut (dyn Write + Send)) -> Result<(), EncryptError> {
    let mut gpg = Command::new("gpg")
        .args(["--batch", "--no-tty", "--quiet", "--status-fd", "2", "--decrypt"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| EncryptError::Agent { why: format!("gpg cannot be started ({err}); apt-get install gnupg") })?;
    let (to, from, said) = (gpg.stdin.take(), gpg.stdout.take(), gpg.stderr.take());
    let (fed, said, written) = thread::scope(|scope| {
        let feeding = scope.spawn(move || feed(input, to));
        let listening = scope.spawn(move || {
            let mut text = Vec::new();
            let mut said = said?;
            let _ = said.by_ref().take(SAID_MAX).read_to_end(&mut text);
            let _ = io::copy(&mut said, &mut io::sink());
            Some(String::from_utf8_lossy(&text).trim().to_owned())
        });
        let written = drain(from, output);
        if written.is_err() {
            // Whoever feeds it ends then.
            let _ = gpg.kill();
        }
        (feeding.join(), listening.join(), written)
    });
    let ended = end(&mut gpg);
    written?;
    fed.map_err(|_| EncryptError::Damaged("Feeding gpg panicked".into()))??;
    let said = said.ok().flatten().unwrap_or_default();
    let has = |status: &str| lines_of(&said, STATUS).any(|line| line.split(' ').next() == Some(status));
    let plain = || said.lines().filter(|line| !line.starts_with(STATUS)).collect::<Vec<_>>().join("; ");
    match ended {
        // A message that is not encrypted at all is a message to gpg, but not to us: anybody could have put it there.
        Ok(true) if has("DECRYPTION_OKAY") && has("GOODMDC") => Ok(()),
        _ if (has("NO_SECKEY") || plain().ends_with("No secret key")) && !has("DECRYPTION_OKAY") => {
            let ids = lines_of(&said, "[GNUPG:] ENC_TO ").filter_map(|line| line.split(' ').next());
            let mut sealed_to: Vec<String> = ids.map(str::to_owned).collect();
            if sealed_to.is_empty() {
                sealed_to.push("a passphrase".to_owned());
            }
            Err(EncryptError::NoKey { sealed_to })
        }
        _ if has("PINENTRY_LAUNCHED") && !has("BEGIN_DECRYPTION") || plain().contains("gpg-agent") => {
            Err(EncryptError::Agent { why: plain() })
        }
        _ => Err(EncryptError::Damaged(plain().into())),
    }
}

/// Begins a line that gpg writes for programs.
const STATUS: &str = "[GNUPG:] ";

fn lines_of<'a>(said: &'a str, start: &str) -> impl Iterator<Item = &'a str> {
    said.lines().filter_map(move |line| line.strip_prefix(start))
}

fn end(gpg: &mut Child) -> io::Result<bool> {
    Ok(gpg.wait()?.success())
}

/// A gpg that wants no more has said why.
fn feed(input: &mut (dyn Read + Send), to: Option<impl Write>) -> Result<(), EncryptError> {
    let Some(mut to) = to else { return Ok(()) };
    let mut buffer = vec![0; COPY_LEN];
    loop {
        let len = match input.read(&mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(EncryptError::reading)?,
        };
        if len == 0 || to.write_all(&buffer[..len]).is_err() {
            return Ok(());
        }
    }
}

fn drain(from: Option<impl Read>, output: &mut (dyn Write + Send)) -> Result<(), EncryptError> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; COPY_LEN];
    loop {
        let len = match from.read(&mut buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(EncryptError::Read)?,
        };
        if len == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..len]).map_err(EncryptError::writing)?;
    }
}
