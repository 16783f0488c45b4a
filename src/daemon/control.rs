//! The control socket: whoever may open it asks a running daemon, one question on a line, one answer on a line, both
//! JSON.

use crate::{durable, pipeline::Part};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::{mpsc, oneshot},
};

const NAME: &str = "control";
/// Where the unit's RuntimeDirectory= is.
const RUNTIME: &str = "/run/archiver";
/// Owner and group.
const MODE: u32 = 0o660;
/// Longest question, bytes.
const QUESTION_MAX: u64 = 4096;
/// Questions that may wait for the daemon.
const WAITING_MAX: usize = 16;
/// How long a question may take to arrive, and an answer to be taken.
const TALK_WITHIN: Duration = Duration::from_secs(10);
/// How long whoever asks waits for the answer: a reload may look at disks that hang.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", content = "of", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    Status,
    Reload,
    Pause(Part),
    Resume(Part),
}

/// A question, and where the answer is waited for.
pub(super) struct Asked {
    pub question: Question,
    pub answer: oneshot::Sender<Value>,
}

/// Listens while it lives; the socket goes with it.
pub(super) struct Control {
    path: PathBuf,
    questions: mpsc::Receiver<Asked>,
}

impl Control {
    /// Listens in the runtime directory that systemd has made, else in the state directory. A socket at which nobody
    /// listens was left by a process that was killed.
    pub(super) fn listen(state: &Path) -> io::Result<Control> {
        let dir = env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let path = dir.unwrap_or_else(|| state.to_owned()).join(NAME);
        if UnixStream::connect(&path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        durable::remove(&path).map_err(io::Error::other)?;
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE))?;
        let (ask, questions) = mpsc::channel(WAITING_MAX);
        tokio::spawn(serve(listener, ask));
        Ok(Control { path, questions })
    }

    /// The next question.
    pub(super) async fn next(&mut self) -> Asked {
        match self.questions.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

/// The next question; none where nobody can be listened to.
pub(super) async fn next_question(control: &mut Option<Control>) -> Asked {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What stays is removed by the next start.
        let _ = durable::remove(&self.path);
    }
}

async fn serve(listener: UnixListener, ask: mpsc::Sender<Asked>) {
    while !ask.is_closed() {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(talk(stream, ask.clone()))),
            // Out of descriptors, as a rule; others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn talk(stream: tokio::net::UnixStream, ask: mpsc::Sender<Asked>) {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    let mut from = tokio::io::BufReader::new(from.take(QUESTION_MAX));
    if !matches!(tokio::time::timeout(TALK_WITHIN, from.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(question) => {
            let (answer, answered) = oneshot::channel();
            if ask.send(Asked { question, answer }).await.is_err() {
                return;
            }
            answered.await.unwrap_or_default()
        }
        Err(err) => serde_json::json!({ "error": format!("No such question: {err}") }),
    };
    // Who asked and went away needs no answer.
    let _ = tokio::time::timeout(TALK_WITHIN, to.write_all(format!("{answer}\n").as_bytes())).await;
}

/// Asks the daemon that works with this state; `None` when there is none that would listen to us.
pub fn ask(state: &Path, question: &Question) -> io::Result<Option<Value>> {
    // Which daemon it is comes first: there may be others with another configuration.
    let is_ours = |told: &Value| told["state"].as_str() == state.to_str();
    match ask_any(&Question::Status)?.filter(is_ours) {
        Some(told) if *question == Question::Status => Ok(Some(told)),
        Some(_) => ask_any(question),
        None => ask_at(state, question),
    }
}

/// Asks the daemon of this machine, for whoever cannot tell with which state it works.
pub fn ask_any(question: &Question) -> io::Result<Option<Value>> {
    ask_at(Path::new(RUNTIME), question)
}

fn ask_at(dir: &Path, question: &Question) -> io::Result<Option<Value>> {
    let path = dir.join(NAME);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(err) => return Err(io::Error::new(err.kind(), format!("Cannot ask the daemon at {path:?}: {err}"))),
    };
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(TALK_WITHIN))?;
    answer(&stream, question).map(Some)
}

fn answer(mut stream: &UnixStream, question: &Question) -> io::Result<Value> {
    writeln!(stream, "{}", serde_json::to_string(question).map_err(io::Error::other)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|_| io::Error::other("The daemon gave no answer"))
}
