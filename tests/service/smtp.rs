//! A mail server that takes everything.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

pub struct Sink {
    pub port: u16,
    pub mails: Receiver<String>,
    /// Those that came before one of a unit that has failed.
    others: RefCell<Vec<String>>,
}

impl Sink {
    pub fn start() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, mails) = sync_channel(100);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(mail) = talk(&stream.unwrap()) {
                    send.send(mail).unwrap();
                }
            }
        });
        Sink { port, mails, others: RefCell::default() }
    }

    /// The next mail of a unit that has failed; the daemon mails, too.
    pub fn failure(&self) -> String {
        loop {
            let mail = self.mails.recv_timeout(Duration::from_secs(60)).expect("a mail");
            if is_failure(&mail) {
                return mail;
            }
            self.others.borrow_mut().push(mail);
        }
    }

    /// Whether the daemon has mailed by itself what says this.
    pub fn daemon_has_said(&self, what: &str) -> bool {
        self.others.borrow().iter().any(|mail| mail.contains(what))
    }

    /// How many of these came and were not asked for.
    pub fn other_failures(&self) -> usize {
        self.mails.try_iter().filter(|mail| is_failure(mail)).count()
    }
}

fn is_failure(mail: &str) -> bool {
    mail.contains("has failed and does not run")
}

fn talk(mut stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let (mut mail, mut in_data, mut got) = (String::new(), false, None);
    stream.write_all(b"220 sink\r\n").ok()?;
    while let Some(Ok(line)) = lines.next() {
        match (in_data, &*line) {
            (true, ".") => {
                in_data = false;
                got = Some(std::mem::take(&mut mail));
                stream.write_all(b"250 taken\r\n").ok()?;
            }
            (true, line) => mail.extend([line, "\n"]),
            (false, "DATA") => {
                in_data = true;
                stream.write_all(b"354 go on\r\n").ok()?;
            }
            (false, "QUIT") => break,
            (false, _) => stream.write_all(b"250 yes\r\n").ok()?,
        }
    }
    got
}
