//! A mail server for tests: plain, on this host, and as unhelpful as it is told to be.

#![expect(clippy::disallowed_methods, reason = "a test hears a handful of events")]

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Take,
    /// This code to the recipient.
    Say(u16),
    /// Cuts the line.
    Cut,
    /// Nothing, ever.
    Hang,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Got {
    pub from: String,
    pub to: String,
    pub data: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Mail(Got),
    Login(String),
    /// A recipient was not taken.
    Denied,
}

pub struct Stub {
    pub port: u16,
    events: Receiver<Event>,
}

impl Stub {
    /// `answer` is asked with the number of the conversation, from 0, and the recipient.
    pub fn start(answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, events) = channel();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                thread::spawn(move || talk(stream.unwrap(), &|to| answer(number, to), &sender));
            }
        });
        Stub { port, events }
    }

    /// Waits for what happens next.
    pub fn event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(60)).expect("something happens")
    }

    /// Waits for the next mail.
    pub fn mail(&self) -> Got {
        loop {
            if let Event::Mail(got) = self.event() {
                return got;
            }
        }
    }

    /// Everything that happened and nobody waited for.
    pub fn rest(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }
}

/// One conversation; `None` when the other side is gone.
fn talk(stream: TcpStream, answer: &dyn Fn(&str) -> Answer, events: &Sender<Event>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let say = |text: &str| (&stream).write_all(format!("{text}\r\n").as_bytes()).ok();
    let (mut from, mut to) = (String::new(), String::new());
    say("220 stub")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        match line.get(..4).unwrap_or_default() {
            "EHLO" => say("250-stub\r\n250-8BITMIME\r\n250 AUTH PLAIN")?,
            "AUTH" => {
                let secret = BASE64.decode(line.rsplit(' ').next().unwrap_or_default()).unwrap();
                let _ = events.send(Event::Login(String::from_utf8(secret).unwrap()));
                say("535 No")?;
            }
            "MAIL" => {
                from = address();
                say("250 OK")?;
            }
            "RCPT" => {
                to = address();
                let what = answer(&to);
                if what != Answer::Take {
                    let _ = events.send(Event::Denied);
                }
                match what {
                    Answer::Take => say("250 OK")?,
                    Answer::Say(code) => say(&format!("{code} No"))?,
                    Answer::Cut => return None,
                    Answer::Hang => loop {
                        thread::park();
                    },
                }
            }
            "DATA" => {
                say("354 Go on")?;
                let mut data = String::new();
                loop {
                    let mut line = String::new();
                    lines.read_line(&mut line).ok()?;
                    if line == ".\r\n" {
                        break;
                    }
                    data.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                let _ = events.send(Event::Mail(Got { from: from.clone(), to: to.clone(), data }));
                say("250 OK")?;
            }
            "QUIT" => return say("221 Bye"),
            _ => say("502 What")?,
        }
    }
}
