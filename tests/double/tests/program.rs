//! The server as a program: what it prints, its script on disk, and the door for tests of other processes.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_s3-double"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        Program { address: address.to_owned(), child }
    }

    /// The status and the body of an answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn json(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = self.ask(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// Whether it was still there to be told.
    fn terminate(&mut self) -> bool {
        let gone = self.child.try_wait().is_ok_and(|ended| ended.is_some());
        !gone && Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success()
    }

    /// What a HEAD of a bucket is answered: 403 from an honest server, as nobody signed it.
    fn status(&self) -> u16 {
        self.ask("HEAD", "/photos", "").0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Killed outright it would leave its temporary directory behind.
        if self.terminate() {
            let _ = self.child.wait();
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn the_door_scripts_and_tells() {
    let program = Program::start(&["--bucket", "photos"]);
    assert_eq!(program.status(), 403);
    let rule =
        r#"{"name": "slow", "operation": "HeadBucket", "times": 1, "act": {"do": "refuse", "code": "SlowDown"}}"#;
    assert_eq!(program.json("POST", "/_double/script", rule)["added"], 1);
    assert_eq!((program.status(), program.status()), (503, 403));
    let log = program.json("GET", "/_double/log?operation=HeadBucket", "");
    assert_eq!((log[1]["rule"].as_str(), log[1]["status"].as_u64()), (Some("slow"), Some(503)));
    assert_eq!(program.json("GET", "/_double/counts", "")["requests"]["HeadBucket"], 3);

    let outage = r#"[{"while_flag": "outage", "act": {"do": "refuse", "code": "InternalError"}}]"#;
    program.json("POST", "/_double/script", outage);
    program.json("POST", "/_double/flag", r#"{"name": "outage", "up": true}"#);
    assert_eq!(program.status(), 500);
    program.json("DELETE", "/_double/script", "");
    assert_eq!(program.status(), 403);

    for (path, body) in [
        ("clock", r#"{"advance_ms": 1000, "skew_ms": -5}"#),
        ("persona", r#"{"no_checksums": true}"#),
        ("keys", r#"{"add": {"access": "A", "secret": "S"}}"#),
        ("keys", r#"{"expire": "A"}"#),
        ("thaw", r#"{"standard_ms": 1, "bulk_ms": 1}"#),
    ] {
        program.json("POST", &format!("/_double/{path}"), body);
        let (status, _) = program.ask("POST", &format!("/_double/{path}"), r#"{"a slip": 1}"#);
        assert_eq!(status, 400, "{path}");
    }
    assert_eq!(program.ask("GET", "/_double/nothing", "").0, 400);
    assert_eq!(program.json("GET", "/_double/objects?bucket=photos", ""), serde_json::json!({}));
    assert_eq!(program.json("GET", "/_double/uploads?bucket=photos", ""), serde_json::json!([]));
}

#[test]
fn the_script_on_disk_is_read_again_when_it_changes() {
    let script = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("script-{}", std::process::id()));
    fs::write(&script, "# calm\n").unwrap();
    let program = Program::start(&["--bucket", "photos", "--script", script.to_str().unwrap()]);
    assert_eq!(program.status(), 403);
    fs::write(&script, "# outage\n{\"act\": {\"do\": \"refuse\", \"code\": \"SlowDown\"}}\n").unwrap();
    until("the new rules never came", || program.status() == 503);
    // A mistake leaves the old rules as they are.
    fs::write(&script, "{\"act\": {\"do\": \"refuse\", \"code\": \"Inter").unwrap();
    std::thread::park_timeout(Duration::from_millis(300));
    assert_eq!(program.status(), 503);
    fs::write(&script, "").unwrap();
    until("the rules never went", || program.status() == 403);
    fs::remove_file(&script).unwrap();
}

#[test]
fn it_stops_on_sigterm_and_refuses_what_it_does_not_know() {
    let mut program = Program::start(&["--bucket", "photos"]);
    assert!(program.terminate());
    assert!(program.child.wait().unwrap().success());

    // Standard input is empty here from the beginning.
    let mut program = Program::start(&["--bucket", "photos", "--stdin"]);
    assert!(program.child.wait().unwrap().success());

    for wrong in [&["--bukket", "photos"][..], &["--persona", "{\"no_cheksums\": true}"], &["--listen"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_s3-double")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"), "{wrong:?}");
    }
}
