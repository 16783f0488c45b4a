//! Servers that hear what is told.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A port at which nobody listens.
pub fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One for `mail.example.org`, by an authority that no system knows.
pub struct Certificates(TempDir);

impl Certificates {
    pub fn make() -> Certificates {
        let dir = TempDir::new().unwrap();
        let script = "
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj '/CN=An authority' \
                -addext basicConstraints=critical,CA:TRUE
            openssl req -new -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=mail.example.org
            printf 'subjectAltName=DNS:mail.example.org,DNS:localhost' >san
            openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out cert.pem -extfile san";
        let made = Command::new("bash").args(["-euc", script]).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Certificates(dir)
    }

    pub fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }
}

/// Exim.
pub struct Mta {
    pub port: u16,
    dir: TempDir,
    child: Child,
}

impl Mta {
    pub fn start(certificates: &Certificates) -> Mta {
        let (dir, port) = (TempDir::new().unwrap(), port());
        let host = dir.path().join("host");
        fs::create_dir(&host).unwrap();
        for file in ["cert.pem", "key.pem"] {
            fs::copy(certificates.0.path().join(file), host.join(file)).unwrap();
        }
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("bash");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/mta.sh"));
        command.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("mta")).arg(dir.path()).arg(port.to_string());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut mta = Mta { port, dir, child };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = mta.child.try_wait().unwrap().is_some();
            assert!(!has_ended && began.elapsed() < Duration::from_secs(300), "{}", mta.log());
            thread::sleep(Duration::from_millis(100));
        }
        mta
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub fn mails(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("host/mails/new")) else { return Vec::new() };
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// At least so many.
    pub fn wait_for(&self, count: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let mails = self.mails();
            if count <= mails.len() {
                return mails;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{} of {count} mails: {}", mails.len(), self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        // What it started ends with it, and its mounts with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that says this to every recipient.
pub struct Scripted {
    pub port: u16,
    /// That it took.
    pub mails: Arc<AtomicUsize>,
}

pub fn scripted(answer: &'static str) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Scripted { port: listener.local_addr().unwrap().port(), mails: Arc::default() };
    let mails = server.mails.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, mails) = (stream.unwrap(), mails.clone());
            thread::spawn(move || talk(&stream, answer, &mails));
        }
    });
    server
}

/// Until the other side is gone.
fn talk(stream: &TcpStream, answer: &str, mails: &AtomicUsize) -> Option<()> {
    let say = |text: &str| { stream }.write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 here")?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(line) = lines.next() {
        match line.get(..4) {
            Some("RCPT") => say(answer)?,
            Some("DATA") => {
                say("354 Go on")?;
                lines.find(|line| line == ".")?;
                mails.fetch_add(1, Ordering::SeqCst);
                say("250 OK")?;
            }
            Some("QUIT") => return None,
            _ => say("250 OK")?,
        }
    }
    None
}

/// A service for heartbeats behind TLS: serves one file.
pub struct Pings {
    pub port: u16,
    dir: TempDir,
    child: Child,
}

impl Pings {
    pub fn start(certificates: &Certificates) -> Pings {
        let (dir, port) = (TempDir::new().unwrap(), port());
        fs::write(dir.path().join("secret"), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK")
            .unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-HTTP", "-accept", &format!("127.0.0.1:{port}")]).current_dir(dir.path());
        command.arg("-cert").arg(certificates.0.path().join("cert.pem"));
        command.arg("-key").arg(certificates.0.path().join("key.pem"));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(50));
        }
        Pings { port, dir, child }
    }

    pub fn heard(&self) -> usize {
        fs::read_to_string(self.dir.path().join("log")).unwrap().matches("FILE:secret").count()
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
