//! Who hands out keys: files, the environment, and services that hand out keys for a few minutes. In each way the real
//! binary is run to its end.

use crate::{
    tools::BUCKET,
    world::{Ran, World},
};
use archiver_s3_double::{Act, Key, Rule};
use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Keys are asked for anew so long before they expire, so those that last one second more are old after one.
const SHORT: i64 = 301;
/// Of keys that a service hands out, one after the other.
const KEYS: usize = 40;
const TOKEN: &str = "who-we-are";

/// A service that hands out keys: of an instance, of a container, and for a token of another identity.
struct Issuer {
    address: String,
    /// What was asked of it, without what it answered with 404.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Issuer {
    fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, issued) = (Arc::<Mutex<BTreeSet<String>>>::default(), AtomicUsize::new(0));
        let told = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &told, &issued);
            }
        });
        Issuer { address, asked }
    }
}

fn key(number: usize) -> Key {
    let mut key = Key::new(&format!("ASIA{number:04}"), "temporary");
    key.token = Some(format!("session-{number}"));
    key
}

/// Answers one request, and closes the connection.
fn serve(mut stream: TcpStream, asked: &Mutex<BTreeSet<String>>, issued: &AtomicUsize) {
    let request = request(&mut stream);
    let target = request.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let fresh = || {
        let key = key(issued.fetch_add(1, Ordering::Relaxed) % KEYS);
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(SHORT);
        (key.access, key.secret, key.token.unwrap(), expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    };
    let role = "/latest/meta-data/iam/security-credentials/";
    let body = match target.as_str() {
        "PUT /latest/api/token" => "metadata".to_owned(),
        "GET /latest/meta-data/placement/region" => "eu-central-1".to_owned(),
        path if path == format!("GET {role}") => "backup".to_owned(),
        "POST /" if request.contains(&format!("WebIdentityToken={TOKEN}")) => {
            let (access, secret, token, expires) = fresh();
            format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId>\
                 <Arn>arn:aws:sts::123456789012:assumed-role/backup/nas1</Arn></AssumedRoleUser><Credentials>\
                 <AccessKeyId>{access}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            )
        }
        path if path == format!("GET {role}backup") || path == "GET /container" => {
            let (access, secret, token, expires) = fresh();
            format!(
                "{{\"Code\": \"Success\", \"LastUpdated\": \"2026-01-01T00:00:00Z\", \"Type\": \"AWS-HMAC\", \
                 \"AccessKeyId\": \"{access}\", \"SecretAccessKey\": \"{secret}\", \"Token\": \"{token}\", \
                 \"Expiration\": \"{expires}\"}}"
            )
        }
        _ => String::new(),
    };
    let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
    if !body.is_empty() {
        asked.lock().unwrap().insert(target);
    }
    let head = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nconnection: close";
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
}

/// A request with its body, whose length its head names.
fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let len = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    let _ = stream.read_exact(&mut body);
    text.extend(body);
    String::from_utf8_lossy(&text).into_owned()
}

/// A world whose binary finds no keys but those that its environment leads to.
fn world(env: &[(&str, &str)]) -> World {
    let mut world = World::new(1);
    "region = \"eu-central-1\"".clone_into(&mut world.identity);
    let nowhere = ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"].map(|name| (name, "/dev/null"));
    for (name, value) in nowhere.iter().chain(&[("AWS_EC2_METADATA_DISABLED", "true")]).chain(env) {
        world.env.push(((*name).to_owned(), (*value).to_owned()));
    }
    for number in 0..KEYS {
        world.double.add_key(key(number));
    }
    // So that keys of a second are old before it ends.
    world.double.script(Rule::new(Act::Nothing).on("UploadPart").delay(Duration::from_secs(2)));
    world
}

/// It must deliver everything, and every request but refused ones must be signed by one of these.
#[track_caller]
fn delivers(world: &World, keys: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let ran: Ran = world.run_once();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_eq!(world.wrong(), Vec::<String>::new());
    let log = world.double.log();
    let used: BTreeSet<_> = log.into_iter().filter_map(|entry| entry.access_key).collect();
    assert!(!used.is_empty() && used.iter().all(|key| keys(key)), "{used:?}");
    used
}

#[test]
fn keys_of_the_environment_and_of_profiles_are_found() {
    let world = world(&[("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "plain")]);
    world.double.add_key(Key::new("AKIDENV", "plain"));
    delivers(&world, |key| key == "AKIDENV");

    let mut world = self::world(&[]);
    let file = world.path("profiles");
    fs::write(&file, "[other]\naws_access_key_id = A\naws_secret_access_key = B\n[backup]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = plain\n").unwrap();
    world.env.push(("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file.display().to_string()));
    world.identity += "\nprofile = \"backup\"";
    world.double.add_key(Key::new("AKIDPROFILE", "plain"));
    delivers(&world, |key| key == "AKIDPROFILE");
    // What the configuration names comes before what the environment happens to hold.
    let mut other = self::world(&[("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "plain")]);
    other.identity.clone_from(&world.identity);
    other.env.push(("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file.display().to_string()));
    for key in ["AKIDENV", "AKIDPROFILE"] {
        other.double.add_key(Key::new(key, "plain"));
    }
    delivers(&other, |key| key == "AKIDPROFILE");
}

/// Keys that are handed out for a short time are replaced in the middle of an upload, which goes on.
#[test]
fn keys_of_instances_containers_and_tokens_are_asked_for_again_before_they_expire() {
    let issuer = Issuer::start();
    let url = format!("http://{}", issuer.address);
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), TOKEN).unwrap();
    let container = format!("{url}/container");
    let ways = [
        ("an instance", vec![("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]),
        ("a container", vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)]),
        (
            "a web identity",
            vec![
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().unwrap()),
                ("AWS_ENDPOINT_URL_STS", &url),
            ],
        ),
    ];
    for (what, env) in ways {
        let world = world(&env);
        issuer.asked.lock().unwrap().clear();
        let used = delivers(&world, |key| key.starts_with("ASIA"));
        assert!(used.len() > 1, "{what}: {used:?}");
        let asked = issuer.asked.lock().unwrap();
        assert!(!asked.iter().any(|target| target.contains("region")), "The region is known: {asked:?}");
        assert_eq!((world.parts_again(), world.double.uploads(BUCKET).len()), (Vec::new(), 0), "{what}");
        println!("figure: keys of {what}: {} in one run, by {:?}", used.len(), *asked);
    }
}
