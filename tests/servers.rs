//! Promises on S3 servers that others wrote: the vault's own, and those of the whole job.
#![expect(clippy::disallowed_methods, reason = "tests wait for others, from outside")]

mod common;

use archiver::vault::{
    Vault,
    conformance::{Subject, promises},
    s3::{Identity, Options, Patience, S3Vault},
};
use common::{
    World,
    server::Server,
    snapshot::{differences_of_pieces, snapshot, told},
};
use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// What every server takes as a part that is not the last.
const PART_SIZE: usize = 5 << 20;

/// Runs every promise in a bucket of its own. Those that the server cannot keep must fail, so that the list stays true;
/// what it keeps by chance is not asked for.
fn keeps_all_but(server: &Server, cannot: &[&str], by_chance: &[&str]) {
    let runtime = Runtime::new().unwrap();
    let keys = tempfile::NamedTempFile::new().unwrap();
    server.write_keys(keys.path());
    let mut wrong = Vec::new();
    for (at, (name, promise)) in promises().into_iter().enumerate() {
        let bucket = format!("promise-{at}");
        runtime.block_on(server.make_bucket(&bucket));
        let options = Options {
            bucket,
            prefix: String::new(),
            region: None,
            endpoint_url: Some(server.endpoint.clone()),
            path_style: true,
            identity: Identity::File { path: keys.path().to_owned(), profile: None },
            patience: Patience::default(),
        };
        let vault: Arc<dyn Vault> = Arc::new(runtime.block_on(S3Vault::open(options)));
        let open = Box::new(move || vault.clone());
        let subject = Arc::new(Subject { open, part_size: PART_SIZE, keeps_class: true, guard: Box::new(()) });
        let kept = runtime.block_on(runtime.spawn(async move { promise(&subject).await })).is_ok();
        println!("{name}: {}", if kept { "kept" } else { "not kept" });
        if kept == cannot.contains(&name) && !by_chance.contains(&name) {
            wrong.push(name);
        }
    }
    assert_eq!(wrong, [""; 0], "otherwise than it is told of this server");
}

/// Ceph 16 knows neither checksums of objects nor conditions on completion, and says of an upload that is not there that
/// it is being completed; listing its parts tells the truth.
#[test]
fn ceph_keeps_what_does_not_take_checksums_or_conditions_on_complete() {
    let server = Server::ceph();
    keeps_all_but(
        &server,
        &[
            "only_the_right_parts_make_the_object",
            "parts_of_another_object_are_refused",
            "complete_never_overwrites",
            "of_many_that_complete_one_wins",
            "nothing_is_told_as_nothing",
            "abort_may_be_repeated",
        ],
        &[],
    );
}

/// LocalStack looks whether the key is free and then completes, and others do so between the two.
#[test]
fn a_second_server_keeps_everything_but_races() {
    keeps_all_but(&Server::second(), &[], &["of_many_that_complete_one_wins"]);
}

/// The whole job on Ceph, whose gateway dies again and again: everything comes back by stock tools, nothing is left
/// half sent, and what must be readable at once is in a class that is.
#[test]
fn a_tree_goes_to_ceph_whose_gateway_dies_and_comes_back() {
    let server = Server::ceph();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(server.make_bucket("backup"));
    let mut world = World::nasty();
    for seed in 1..=4 {
        fs::write(world.source.join(format!("large{seed}")), noise(seed, 9 << 20)).unwrap();
    }
    let keys = world.root.path().join("credentials");
    server.write_keys(&keys);
    world.setup.url = Some("s3://backup/lab/nas".into());
    world.setup.vault = format!(
        "endpoint_url = {:?}\npath_style = true\ncredentials_file = {keys:?}\npart_size = \"8MiB\"",
        server.endpoint
    );
    (world.setup.max_size, world.setup.cap) = ("16MiB".into(), "128MiB".into());
    world.setup.more = "[upload]\nbandwidth = \"16MiB/s\"".into();
    let source = snapshot(&world.source);

    let mut run = world.spawn(&["run", "--once", "--give-up-after", "60s"]);
    let began = Instant::now();
    let mut kills = 0;
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(150), "it ends");
        thread::sleep(Duration::from_millis(1_500));
        if kills < 3 {
            server.order("kill-rgw");
            thread::sleep(Duration::from_millis(500));
            server.order("start-rgw");
            kills += 1;
        }
    };
    println!("{kills} kills of the gateway, {:.1} s", began.elapsed().as_secs_f64());
    assert!(status.success() && kills > 0, "{status}");

    let classes = runtime.block_on(server.fetch("backup", "lab/nas", &world.vault));
    assert_eq!(runtime.block_on(server.uploads("backup")), 0);
    for (key, class) in &classes {
        assert_eq!(class, if key.contains(".tar") { "DEEP_ARCHIVE" } else { "STANDARD" }, "{key}");
    }
    let keys = world.keys();
    let found = differences_of_pieces(&world, &keys, &source, &world.dir("restored"));
    println!("{} entries, {} pieces, {} differences", source.len(), keys.len(), found.len());
    assert!(found.is_empty(), "{}", told(&found));
}

/// Somebody who has nothing but the sheet, against servers that check signatures, and freeze what is in an archive class, in
/// their own way.
#[test]
fn the_commands_of_a_recovery_sheet_bring_everything_back_from_both() {
    for server in [Server::ceph(), Server::second()] {
        Runtime::new().unwrap().block_on(server.make_bucket("backup"));
        let mut world = World::nasty();
        let keys = world.root.path().join("credentials");
        server.write_keys(&keys);
        world.setup.url = Some("s3://backup/lab/nas".into());
        world.setup.vault =
            format!("endpoint_url = {:?}\npath_style = true\ncredentials_file = {keys:?}", server.endpoint);
        world.run_once().expect(0);
        let sheet = world.archiver(&["recovery-sheet"]).expect(0).text();
        let commands: String =
            sheet.lines().filter_map(|line| Some(format!("{}\n", line.strip_prefix("    ")?))).collect();
        let file = world.root.path().join("commands");
        fs::write(&file, format!("every=1\n{commands}")).unwrap();
        let dir = world.dir("machine");
        let run = "cd \"$1\"; AWS_ACCESS_KEY_ID=$2 AWS_SECRET_ACCESS_KEY=$3 PASSPHRASE_FILE=$4 bash \"$5\"";
        let args = [dir.as_os_str(), server.access.as_ref(), server.secret.as_ref(), world.passphrase.as_ref()];
        world.bash(run, &[&args[..], &[file.as_ref()]].concat()).expect(0);
        let (was, is) = (snapshot(&world.source), snapshot(&dir.join("back")));
        let paths = was.iter().filter(|(_, seen)| seen.kind != "s").map(|(path, _)| path.clone()).collect();
        let piece = |key: &String| {
            let members = world.archiver(&["ls", "data", key, "--json"]).expect(0).json_lines();
            members.iter().map(|member| (common::path_of(member), key.clone())).collect::<Vec<_>>()
        };
        let piece = world.keys().iter().flat_map(piece).collect();
        let found = common::snapshot::differences(&was, &is, &paths, &piece);
        assert!(found.is_empty(), "{}", told(&found));
    }
}

/// Bytes that do not shrink.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}
