//! Ways to the server that are no way: certificates that nobody trusts, servers that accept and never answer.

use crate::{
    direct::{Bench, noise, options},
    tools::{BUCKET, PART, at_length, wait_until},
    world::World,
};
use archiver::{
    fate::Chain,
    pipeline::AlwaysOpen,
    upload::{self, Retries},
    vault::s3::{Options, Patience, S3Vault},
};
use archiver_s3_double::{
    Act, Proxy, Rule,
    proxy::{Knobs, Stall},
};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// TLS in front of a plain server, each connection in two threads.
const TLS: &str = r#"
import socket, ssl, sys, threading
address, certificate, told = sys.argv[1].rsplit(":", 1), sys.argv[2], sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
listener = socket.create_server(("127.0.0.1", 0))
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for end in (a, b):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
def serve(raw):
    try:
        client = context.wrap_socket(raw, server_side=True)
    except OSError:
        return
    server = socket.create_connection((address[0], int(address[1])))
    for ends in ((client, server), (server, client)):
        threading.Thread(target=pump, args=ends, daemon=True).start()
open(told + ".new", "w").write(str(listener.getsockname()[1]))
import os
os.replace(told + ".new", told)
while True:
    raw, _ = listener.accept()
    threading.Thread(target=serve, args=(raw,), daemon=True).start()
"#;

/// A certificate of an authority of its own, for `localhost`.
const CERTIFICATE: &str = "
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=an authority of a test' \
    -addext basicConstraints=critical,CA:TRUE 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout host.key -out host.csr -subj /CN=localhost 2>/dev/null
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' > host.ext
openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile host.ext -out host.pem 2>/dev/null
cat host.key host.pem > both.pem
";

/// Ends with the test.
struct Tls(Child);

impl Tls {
    /// The port that it listens on is told in a file.
    fn start(dir: &Path, upstream: &str) -> (Tls, u16) {
        let told = dir.join("port");
        let mut command = Command::new("python3");
        command.args(["-c", TLS, upstream]).arg(dir.join("both.pem")).arg(&told).stdin(Stdio::null());
        let tls = Tls(command.spawn().unwrap());
        wait_until("TLS is served", || told.exists());
        (tls, fs::read_to_string(told).unwrap().parse().unwrap())
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_is_trusted_only_by_who_signed_it_and_for_its_name() {
    let mut world = World::new(1);
    crate::tools::sh(&world.path(""), CERTIFICATE);
    let (_tls, port) = Tls::start(&world.path(""), &world.double.address().to_string());
    let trusted = ("SSL_CERT_FILE".to_owned(), world.path("ca.pem").to_str().unwrap().to_owned());
    for (host, env) in [("localhost", Vec::new()), ("127.0.0.1", vec![trusted.clone()])] {
        world.endpoint = format!("https://{host}:{port}");
        world.env = env;
        let ran = world.run_patiently(2);
        assert_eq!(world.wrong_when_refused(&ran, &["its certificate is not to be trusted"]), Vec::<String>::new());
        assert!(world.double.log().is_empty(), "Nothing was told to a stranger");
    }
    world.endpoint = format!("https://localhost:{port}");
    world.env = vec![trusted];
    assert_eq!(world.wrong_when_healed(), Vec::<String>::new());
}

/// A minimal system has none: it is told what to install, and what is not encrypted needs none.
#[test]
fn without_root_certificates_it_is_told_what_is_missing() {
    let mut world = World::new(1);
    crate::tools::sh(&world.path(""), CERTIFICATE);
    let (_tls, port) = Tls::start(&world.path(""), &world.double.address().to_string());
    let roots = world.path("roots.pem");
    let nothing = world.path("nothing");
    world.env = [("SSL_CERT_FILE", &roots), ("SSL_CERT_DIR", &nothing)]
        .map(|(name, path)| (name.to_owned(), path.to_str().unwrap().to_owned()))
        .to_vec();
    let open = std::mem::replace(&mut world.endpoint, format!("https://localhost:{port}"));
    let ran = world.run_once();
    assert_eq!(
        world.wrong_when_refused(&ran, &["no root certificates", "install ca-certificates"]),
        Vec::<String>::new()
    );
    assert!(!ran.log.contains("anicked"), "{}", ran.log);
    // A daemon finds them when they are there, at once if it is told so.
    let daemon = world.start(&["run"]);
    wait_until("it is told", || daemon.log().contains("install ca-certificates"));
    fs::copy(world.path("ca.pem"), &roots).unwrap();
    world.ask(&["reload"]);
    wait_until("it is delivered", || world.double.objects(BUCKET).keys().any(|key| key.contains(".tar")));
    daemon.terminate();
    assert_eq!(world.wrong_when_healed(), Vec::<String>::new());
    fs::remove_file(roots).unwrap();
    world.endpoint = open;
    let ran = world.start(&["run", "--once", "--pass-now", "data"]).wait();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
}

/// A vault that waits for one second at most.
async fn impatient(bench: &Bench, endpoint: &str) -> S3Vault {
    let patience = Patience { connect: Duration::from_secs(1), silence: Duration::from_secs(1), slowest: 1_000_000 };
    S3Vault::open(Options { patience, ..bench.options(endpoint) }).await
}

/// Whatever it is that is never answered, somebody notices.
#[test]
fn a_server_that_accepts_and_never_answers_is_given_up_in_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bytes = noise(2 * PART + 1);
    for operation in ["HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "anything"] {
        let bench = Bench::new();
        let proxy = Proxy::start(bench.double.address());
        match operation {
            "anything" => proxy.set(Knobs { blackhole: true, ..Knobs::default() }),
            _ => bench.double.script(Rule::new(Act::Hang { read: true }).on(operation)),
        }
        let (parcel, stop) = (bench.parcel(&bytes), CancellationToken::new());
        let began = Instant::now();
        runtime.block_on(async {
            let vault = Arc::new(impatient(&bench, &proxy.endpoint()).await);
            let once = upload::Options { retries: Retries { max: 1, ..Retries::default() }, ..options(1) };
            let uploader = bench.uploader(vault, Arc::new(AlwaysOpen), once);
            let err = uploader.deliver(&parcel, &stop, &|_| ()).await.unwrap_err();
            let (told, took) = (Chain(&err).to_string(), began.elapsed());
            println!("figure: never answered: {operation} given up after {:.1} s", took.as_secs_f64());
            assert!(told.contains("answer") && told.contains("took too long"), "{operation}: {told}");
            // Complete may take ten times as long, and a HEAD follows it.
            let most = if operation == "CompleteMultipartUpload" { 20 } else { 10 };
            assert!(took < Duration::from_secs(most), "{operation}: {took:?}");
            bench.double.clear_script();
            proxy.set(Knobs::default());
            proxy.cut_all();
            // The client may not have noticed yet that its connection is dead.
            while uploader.deliver(&parcel, &stop, &|_| ()).await.is_err() {
                assert!(began.elapsed() < Duration::from_secs(40), "{operation}");
            }
        });
        bench.is_delivered(&bytes).unwrap();
    }
}

/// The line goes dead in the middle of a part, without a word.
#[test]
fn a_line_that_goes_dead_is_noticed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let after = Knobs { stall_after: Some(3 << 20), ..Knobs::default() };
    let from_the_start = |stall| Knobs { stall, ..Knobs::default() };
    for (what, knobs) in [
        ("upwards", from_the_start(Stall::Up)),
        ("downwards", from_the_start(Stall::Down)),
        ("in the middle of a part", after),
    ] {
        let (bench, bytes) = (Bench::new(), noise(2 * PART + 1));
        let proxy = Proxy::start(bench.double.address());
        proxy.next(knobs);
        let began = Instant::now();
        runtime.block_on(async {
            let vault = Arc::new(impatient(&bench, &proxy.endpoint()).await);
            let uploader = bench.uploader(vault, Arc::new(AlwaysOpen), options(1));
            let (parcel, stop) = (bench.parcel(&bytes), CancellationToken::new());
            while uploader.deliver(&parcel, &stop, &|_| ()).await.is_err() {
                assert!(began.elapsed() < Duration::from_secs(40), "{what}");
            }
        });
        bench.is_delivered(&bytes).unwrap();
        println!("figure: a dead line, {what}: delivered after {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// The binary waits a minute for an answer, and as long again before it gives up.
#[test]
fn a_run_gives_a_mute_server_up() {
    if !at_length() {
        return;
    }
    let mut world = World::new(1);
    let proxy = Proxy::start(world.double.address());
    world.endpoint = proxy.endpoint();
    proxy.set(Knobs { blackhole: true, ..Knobs::default() });
    let began = Instant::now();
    let ran = world.start(&["run", "--once", "--give-up-after", "5s"]).wait_for(Duration::from_secs(300));
    println!("figure: a mute server: given up after {:.0} s", began.elapsed().as_secs_f64());
    assert_eq!(world.wrong_when_refused(&ran, &["took too long", "does not answer"]), Vec::<String>::new());
    proxy.set(Knobs::default());
    assert_eq!(world.wrong_when_healed(), Vec::<String>::new());
}

/// Ten minutes without a way to the server, in the middle of an upload.
#[test]
fn ten_minutes_without_a_network_end_by_themselves() {
    if !at_length() {
        return;
    }
    let mut world = World::new(2);
    let proxy = Proxy::start(world.double.address());
    world.endpoint = proxy.endpoint();
    world.more = "[upload]\nbandwidth = \"4MB/s\"".to_owned();
    let running = world.start(&["run"]);
    wait_until("an upload is under way", || !world.double.uploads(crate::tools::BUCKET).is_empty());
    proxy.set(Knobs { blackhole: true, stall: Stall::Both, ..Knobs::default() });
    std::thread::sleep(Duration::from_secs(600));
    proxy.set(Knobs::default());
    proxy.cut_all();
    let (healed, before) = (Instant::now(), world.double.bytes_received());
    let mut resumed = None;
    while world.status()["sources"][0]["state"] != "ended" && healed.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(Duration::from_millis(200));
        if resumed.is_none() && world.double.bytes_received() > before {
            resumed = Some(healed.elapsed());
        }
    }
    let ended = healed.elapsed();
    let ran = running.terminate();
    let again = world.parts_again();
    let resumed = resumed.unwrap_or_else(|| panic!("it never went on: {}", ran.log)).as_secs();
    println!("figure: ten minutes of darkness: resumed after {resumed} s, ended after {} s", ended.as_secs());
    assert!(resumed < 300, "{}", ran.log);
    assert_eq!((world.wrong(), again), (Vec::new(), Vec::new()), "{}", ran.log);
}
