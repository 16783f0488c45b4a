use super::*;
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{
        atomic::AtomicU64,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    time::SystemTime,
};

/// Hears requests and answers as it is told, by their number.
struct Service {
    url: String,
    heard: Receiver<String>,
}

fn service(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ping/secret?a=b", listener.local_addr().unwrap());
    let (tell, heard) = sync_channel(100);
    thread::spawn(move || {
        let mut hung = Vec::new();
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            tell.send(head[0].clone()).unwrap();
            match answer(number) {
                Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                None => hung.push(stream),
            }
        }
    });
    Service { url, heard }
}

fn says(status: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"))
}

impl Service {
    fn hears(&self) -> String {
        self.heard.recv_timeout(Duration::from_secs(60)).expect("a request comes")
    }

    fn hears_nothing(&self) {
        assert_eq!(self.heard.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
    }
}

const PING: &str = "GET /ping/secret?a=b HTTP/1.1";

struct Bench {
    heartbeat: Heartbeat,
    now: Arc<AtomicU64>,
}

impl Bench {
    fn new(url: &str) -> Bench {
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        let elapsed = move || Duration::from_secs(shown.load(Ordering::SeqCst));
        let clock = Clock { elapsed: Box::new(elapsed), wall: Box::new(|| SystemTime::UNIX_EPOCH) };
        let bench = Bench { heartbeat: Heartbeat::new(clock), now };
        bench.heartbeat.set(Some(Options { url: url.to_owned(), every: Duration::from_secs(3600) }));
        bench
    }

    fn at(&self, seconds: u64) {
        self.now.store(seconds, Ordering::SeqCst);
        drop(self.heartbeat.shared.lock());
        self.heartbeat.shared.news.notify_all();
    }

    /// Waits until it knows when the next one is due.
    fn next(&self, seconds: u64) {
        while self.heartbeat.shared.lock().next != Duration::from_secs(seconds) {
            thread::yield_now();
        }
    }

    fn failed(&self, failures: u32) {
        while self.heartbeat.shared.lock().failures < failures {
            thread::yield_now();
        }
    }
}

#[test]
fn it_is_told_after_something_moved_and_never_in_silence() {
    let service = service(|_| says("200 OK"));
    let bench = Bench::new(&service.url);
    bench.at(59);
    bench.heartbeat.progress(Step::Upload, 1);
    service.hears_nothing();
    bench.at(60);
    assert_eq!(service.hears(), PING);
    bench.next(3660);
    bench.at(4000);
    service.hears_nothing();
    // A start is no movement; that nothing has to move is as good as one.
    bench.heartbeat.notice(&Notice::PassStarted { source: "a".into(), pass: "b".into(), resumed: true });
    bench.at(4001);
    service.hears_nothing();
    bench.heartbeat.rests();
    bench.at(4002);
    assert_eq!(service.hears(), PING);
    bench.next(7602);
    bench.heartbeat.rests();
    bench.at(7600);
    service.hears_nothing();
    bench.at(7602);
    assert_eq!(service.hears(), PING);
}

#[test]
fn a_pass_that_is_held_is_no_rest() {
    let service = service(|_| says("200 OK"));
    let bench = Bench::new(&service.url);
    let held = |source: &str| Notice::PassHeld { source: source.into(), why: "Not mounted".into() };
    bench.heartbeat.notice(&held("a"));
    bench.heartbeat.notice(&held("b"));
    bench.heartbeat.rests();
    bench.at(60);
    service.hears_nothing();
    bench.heartbeat.notice(&Notice::PassStarted { source: "a".into(), pass: "p".into(), resumed: false });
    bench.heartbeat.rests();
    bench.at(61);
    service.hears_nothing();
    // Another one goes on meanwhile.
    bench.heartbeat.progress(Step::Pack, 1);
    bench.at(62);
    service.hears();
    bench.next(3662);
    let gone = crate::notice::SettingChange { key: "source.b.name".into(), old: Some("b".into()), new: None };
    bench.heartbeat.notice(&Notice::SettingsTaken { changes: vec![gone], restart: vec![] });
    bench.heartbeat.rests();
    bench.at(3662);
    service.hears();
}

#[test]
fn what_is_not_heard_is_told_again_and_holds_nobody() {
    let service = service(|number| {
        if number < 2 {
            says("503 No")
        } else if number == 2 {
            None
        } else {
            says("204 OK")
        }
    });
    let bench = Bench::new(&service.url);
    bench.heartbeat.rests();
    bench.at(60);
    service.hears();
    bench.failed(1);
    bench.at(89);
    service.hears_nothing();
    bench.at(90);
    service.hears();
    bench.failed(2);
    bench.at(150);
    service.hears();
    // It hangs, and nobody waits for it.
    (0..100_000).for_each(|_| bench.heartbeat.progress(Step::Pack, 1));
    bench.heartbeat.notice(&Notice::Started { version: "1" });
    drop(bench);
}

#[test]
fn other_settings_hold_at_once() {
    let (one, two) = (service(|_| says("200 OK")), service(|_| says("200 OK")));
    let bench = Bench::new(&one.url);
    bench.heartbeat.rests();
    bench.at(60);
    one.hears();
    bench.next(3660);
    bench.heartbeat.rests();
    let every = Duration::from_secs(60);
    bench.heartbeat.set(Some(Options { url: two.url.clone(), every }));
    two.hears();
    bench.heartbeat.set(None);
    bench.heartbeat.rests();
    bench.at(9000);
    one.hears_nothing();
    two.hears_nothing();
}

#[test]
fn a_run_that_is_complete_tells_it_although_it_was_short() {
    let service = service(|_| says("200 OK"));
    let bench = Bench::new(&service.url);
    bench.heartbeat.complete();
    assert_eq!(service.heard.try_recv().as_deref(), Ok(PING));
}

#[test]
fn redirects_are_followed_a_little_and_never_out_of_https() {
    let target = service(|_| says("200 OK"));
    let to =
        |url: &str| format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let once = to(&target.url);
    let around = service(move |_| Some(once.clone()));
    request(&around.url).unwrap();
    assert_eq!(target.hears(), PING);
    let round = service(move |_| Some(to("/ping/secret/again")));
    let err = request(&round.url).unwrap_err();
    assert!(!err.contains("secret"), "{err}");
    assert!((2..=4).contains(&round.heard.try_iter().count()));
    // An URL that is not one of https is not even asked for.
    let err = agent("https://x").get(&target.url).call().unwrap_err();
    assert!(matches!(err, ureq::Error::RequireHttpsOnly(_)), "{err}");
}

#[test]
fn a_url_is_told_without_its_path() {
    for (url, told) in [
        ("https://hc-ping.com/c0ffee", "https://hc-ping.com/…"),
        ("http://a:b@h:8000?x=y", "http://h:8000/…"),
        ("https://h", "https://h/…"),
    ] {
        assert_eq!(shown(url), told);
    }
    let options = Options { url: "https://h/secret".into(), every: Duration::ZERO };
    assert!(!format!("{options:?}").contains("secret"));
}
