//! The proxy: each knob, told from the outside by what a client and a server at its two ends see.

use archiver_s3_double::proxy::{Cut, Knobs, Proxy, Stall};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};

const SHORT: Duration = Duration::from_millis(300);

/// How many bytes came on a connection, and how it ended if not well.
type Ended = (usize, Option<ErrorKind>);

/// Says everything back, on so many connections one after the other.
fn echo(connections: usize) -> (SocketAddr, JoinHandle<Vec<Ended>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let serve = |mut stream: TcpStream| {
            let (mut came, mut buffer) = (0, [0; 4096]);
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return (came, None),
                    Ok(read) => {
                        came += read;
                        let _ = stream.write_all(&buffer[..read]);
                    }
                    Err(error) => return (came, Some(error.kind())),
                }
            }
        };
        (0..connections).map(|_| serve(listener.accept().unwrap().0)).collect()
    });
    (address, thread)
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream
}

fn there_and_back(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

#[test]
fn a_good_network_passes_everything_and_counts_it() {
    let (server, ended) = echo(1);
    let proxy = Proxy::start(server);
    let mut stream = connect(&proxy);
    assert_eq!(there_and_back(&mut stream, &[7; 50_000]).unwrap(), [7; 50_000]);
    assert_eq!(proxy.passed().open, 1);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end is passed on too");
    assert_eq!(ended.join().unwrap(), [(50_000, None)]);
    let passed = proxy.passed();
    assert_eq!((passed.connections, passed.cut, passed.up, passed.down), (1, 0, 50_000, 50_000));
}

#[test]
fn a_cut_is_a_reset_at_both_ends_after_exactly_so_many_bytes() {
    let (server, ended) = echo(1);
    let proxy = Proxy::start(server);
    proxy.next(Knobs { cut: Some(Cut::After(10_000)), ..Knobs::default() });
    let mut stream = connect(&proxy);
    stream.set_read_timeout(None).unwrap();
    stream.write_all(&[1; 20_000]).unwrap();
    let mut all = Vec::new();
    assert_eq!(stream.read_to_end(&mut all).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(ended.join().unwrap(), [(10_000, Some(ErrorKind::ConnectionReset))]);
    assert_eq!((proxy.passed().cut, proxy.passed().up), (1, 10_000));
}

#[test]
fn chance_cuts_at_the_same_places_for_the_same_seed_and_others_for_another() {
    let places = |seed| {
        let (server, ended) = echo(4);
        let proxy = Proxy::start(server);
        proxy.set(Knobs { cut: Some(Cut::Within(9_000)), seed, ..Knobs::default() });
        for _ in 0..4 {
            let mut stream = connect(&proxy);
            stream.set_read_timeout(None).unwrap();
            let _ = stream.write_all(&[1; 9_000]);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        ended.join().unwrap().into_iter().map(|(came, _)| came).collect::<Vec<_>>()
    };
    let first = places(1);
    assert_eq!(first, places(1));
    assert_ne!(first, places(2));
    assert!(first.iter().any(|came| *came != first[0]), "every connection at the same place: {first:?}");
}

#[test]
fn a_stall_keeps_the_connection_and_goes_on_later() {
    let (server, _ended) = echo(1);
    let proxy = Proxy::start(server);
    let mut stream = connect(&proxy);
    there_and_back(&mut stream, b"one").unwrap();
    for stall in [Stall::Up, Stall::Down, Stall::Both] {
        proxy.change(|knobs| knobs.stall = stall);
        let waited = there_and_back(&mut stream, b"two").unwrap_err().kind();
        assert_eq!(waited, ErrorKind::WouldBlock, "{stall:?}");
        proxy.change(|knobs| knobs.stall = Stall::None);
        let mut late = [0; 3];
        stream.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"two", "{stall:?}");
    }
    assert_eq!(proxy.passed().cut, 0);
}

#[test]
fn a_stall_after_some_bytes_lets_those_pass() {
    let (server, _ended) = echo(1);
    let proxy = Proxy::start(server);
    proxy.set(Knobs { stall_after: Some(3), ..Knobs::default() });
    let mut stream = connect(&proxy);
    stream.write_all(b"abc").unwrap();
    assert!(there_and_back(&mut stream, b"def").is_err());
    assert_eq!(proxy.passed().up, 3);
}

#[test]
fn refused_connections_are_reset_and_swallowed_ones_stay_open() {
    let (server, _ended) = echo(1);
    let proxy = Proxy::start(server);
    proxy.set(Knobs { refuse: true, ..Knobs::default() });
    let error = there_and_back(&mut connect(&proxy), b"x").unwrap_err().kind();
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");

    proxy.set(Knobs { blackhole: true, ..Knobs::default() });
    let mut stream = connect(&proxy);
    assert_eq!(there_and_back(&mut stream, b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(None).unwrap();
    proxy.cut_all();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.passed().up, 0);
}

#[test]
fn latency_holds_up_and_a_rate_slows_down() {
    let (server, _ended) = echo(2);
    let proxy = Proxy::start(server);
    proxy.set(Knobs { latency: Duration::from_millis(60), ..Knobs::default() });
    let mut stream = connect(&proxy);
    let from = Instant::now();
    there_and_back(&mut stream, b"ping").unwrap();
    assert!(from.elapsed() >= Duration::from_millis(120), "{:?}", from.elapsed());
    // Latency does not slow a stream down: many chunks are under way at once.
    let from = Instant::now();
    there_and_back(&mut stream, &vec![1; 400_000]).unwrap();
    assert!(from.elapsed() < Duration::from_secs(2), "{:?}", from.elapsed());
    drop(stream);

    proxy.set(Knobs { rate: Some(100_000), ..Knobs::default() });
    let mut stream = connect(&proxy);
    stream.set_read_timeout(None).unwrap();
    let from = Instant::now();
    there_and_back(&mut stream, &[1; 50_000]).unwrap();
    let took = from.elapsed();
    assert!(took >= Duration::from_millis(480) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn loss_pauses_a_connection() {
    let (server, _ended) = echo(1);
    let proxy = Proxy::start(server);
    proxy.set(Knobs { loss_percent: 100.0, ..Knobs::default() });
    let mut stream = connect(&proxy);
    stream.set_read_timeout(None).unwrap();
    let from = Instant::now();
    there_and_back(&mut stream, b"ping").unwrap();
    let took = from.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "once each way: {took:?}");
}
