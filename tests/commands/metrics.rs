//! Promises about metrics.

use super::{
    common::World,
    daemon::{Daemon, closed, has_ended},
    fill, signal, wait_until,
};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
};

/// A port of which nobody else knows.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the daemon answers to a path; nothing when nobody listens, or no longer.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The value of a line of metrics.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[test]
fn what_status_knows_is_had_as_metrics_and_a_reload_moves_them() {
    let mut world = World::new();
    fill(&world);
    let (first, second, file) = (port(), port(), world.root.path().join("archiver.prom"));
    let metrics = |port: u16| format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\ntextfile = {file:?}\n");
    world.setup.more = metrics(first) + &closed();
    let daemon = Daemon::start(&world);
    daemon.hear("Waiting for the upload window");
    wait_until("a piece waits for the window", || {
        let text = get(first, "/metrics").unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text; version=1.0.0"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
        let sealed = value(&text, "archiver_pieces{source=\"data\",state=\"sealed\"}");
        sealed >= Some(1) && value(&text, "archiver_waits_for_window") == Some(1)
    });
    let text = get(first, "/metrics").unwrap();
    let used = value(&text, "archiver_staging_bytes").unwrap();
    assert!(0 < used && used <= value(&text, "archiver_staging_cap_bytes").unwrap(), "{text}");
    assert!(get(first, "/").unwrap().starts_with("HTTP/1.1 404"));
    let told = fs::read_to_string(&file).unwrap();
    assert!(told.ends_with("# EOF\n"), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "A collector is another user");

    world.setup.more = metrics(second);
    daemon.reload(&world);
    wait_until("the pass has ended", || has_ended(&world, 0));
    let text = get(second, "/metrics").unwrap();
    assert_eq!(value(&text, "archiver_entries{source=\"data\",what=\"lost\"}"), Some(0), "{text}");
    assert!(value(&text, "archiver_pass_ended_timestamp_seconds{source=\"data\"}").is_some(), "{text}");
    assert_eq!(get(first, "/metrics"), None, "The port before is free again");
    world.setup.more.clear();
    daemon.reload(&world);
    wait_until("nobody listens", || get(second, "/metrics").is_none());
    signal(&daemon.child, "-HUP");
    daemon.stop();
}

#[test]
fn only_this_machine_may_ask_for_them() {
    let mut world = World::new();
    for address in ["0.0.0.0:9617", "[::]:9617", "192.0.2.1:9617", "9617", "localhost:9617"] {
        world.setup.more = format!("[metrics]\nlisten = \"{address}\"");
        let ran = world.archiver(&["check"]).expect(2);
        assert!(ran.stderr.contains("metrics.listen: must be an address of this machine alone"), "{}", ran.stderr);
    }
    for address in ["127.0.0.1:9617", "[::1]:9617"] {
        world.setup.more = format!("[metrics]\nlisten = \"{address}\"");
        world.archiver(&["check"]).expect(0);
    }
}
