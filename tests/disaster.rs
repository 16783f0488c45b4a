//! The disaster drill: nothing is left but the bucket and what opens it, on a machine that has nothing of ours. The
//! commands are those that people are given, word for word: of the README, and of `archiver recovery-sheet`.

mod common;

use archiver_s3_double::{ACCESS_KEY, Act, Double, Key, Options, Rule, SECRET_KEY, Thaw};
use common::{
    Ran, World, path_of,
    snapshot::{differences, snapshot, told},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const BUCKET: &str = "my-bucket";
/// All that there is on the machine, besides the shell.
const TOOLS: &str = "bash curl gpg gpg-agent xz zstd tar jq find grep cut tail sort cat cp mv rm mkdir mktemp touch base64 \
                     sha256sum sleep";

/// A source of everything, also of files larger than a piece, in an S3 vault whose pieces are frozen.
struct Lost {
    world: World,
    double: Double,
}

impl Lost {
    fn archive(change: impl FnOnce(&mut World)) -> Lost {
        let mut world = World::nasty_and_large();
        let double = Double::spawn(Options::default().buckets(&[BUCKET]));
        let keys = world.root.path().join("credentials");
        let text = format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
        fs::write(&keys, text).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
        world.setup.url = Some(format!("s3://{BUCKET}/prefix"));
        world.setup.vault = format!(
            "region = \"eu-west-1\"\nendpoint_url = {:?}\npath_style = true\ncredentials_file = {keys:?}\n",
            double.endpoint()
        );
        change(&mut world);
        world.run_once().expect(0);
        double.set_thaw(Thaw { standard: Duration::from_secs(2), bulk: Duration::from_secs(2) });
        Lost { world, double }
    }

    /// What is in the bucket lies in a directory as well, for whoever compares.
    fn look(&self) {
        for (key, object) in self.double.objects(BUCKET) {
            let file = self.world.vault.join(key.strip_prefix("prefix/").unwrap());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, object.bytes()).unwrap();
        }
    }
}

/// A machine with the keys, and with [`TOOLS`].
struct Machine {
    dir: PathBuf,
    home: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
}

impl Machine {
    fn new(world: &World) -> Machine {
        let (dir, bin) = (world.dir("machine"), world.dir("bin"));
        let links = "cd \"$1\"; for tool in $2; do ln -s \"$(type -P $tool || echo /usr/bin/$tool)\" $tool; done";
        world.bash(links, &[bin.as_os_str(), TOOLS.as_ref()]).expect(0);
        // Sockets of agents live in it, whose paths must be short.
        let home = tempfile::Builder::new().prefix("d").tempdir_in("/tmp").unwrap();
        fs::create_dir(home.path().join(".gnupg")).unwrap();
        fs::set_permissions(home.path().join(".gnupg"), fs::Permissions::from_mode(0o700)).unwrap();
        let env = vec![
            ("PATH", bin.to_str().unwrap().to_owned()),
            ("HOME", home.path().to_str().unwrap().to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("every", "1".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ];
        let machine = Machine { dir, home, env };
        assert_eq!(machine.run("! type archiver && ! type aws && ! type sed").code, 0, "nothing else is there");
        machine
    }

    fn with(mut self, name: &'static str, value: &str) -> Machine {
        self.env.push((name, value.to_owned()));
        self
    }

    fn with_passphrase(self, world: &World) -> Machine {
        self.with("PASSPHRASE_FILE", world.passphrase.to_str().unwrap())
    }

    /// Imports a secret key as somebody would.
    fn with_secret_key(self, world: &World, user: &str) -> Machine {
        let file = world.root.path().join("secret.asc");
        let script = "gpg --batch --armor --export-secret-keys \"$1@example.org\" >\"$2\"";
        world.bash(script, &[user.as_ref(), file.as_os_str()]).expect(0);
        let machine = self.with("SECRET", file.to_str().unwrap());
        machine.run("gpg -q --batch --import \"$SECRET\"").expect(0);
        machine
    }

    fn run(&self, script: &str) -> Ran {
        let file = self.home.path().join("commands");
        fs::write(&file, script).unwrap();
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["-k", "5", "240"]).arg(self.dir.with_file_name("bin").join("bash")).arg(file);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        Ran::of(command.current_dir(&self.dir).stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let gnupg = self.home.path().join(".gnupg");
        let _ = Command::new("gpgconf").args(["--kill", "gpg-agent"]).env("GNUPGHOME", gnupg).output();
    }
}

/// What came back is the source, sockets aside; names of one file hold within one piece.
fn is_back(world: &World, dir: &Path) {
    let source = snapshot(&world.source);
    let keys = world.keys();
    let manifests = keys.iter().map(|key| (key, world.manifest(key)));
    let mut piece = BTreeMap::new();
    for (key, manifest) in manifests {
        piece.extend(manifest.members.iter().map(|member| (path_of(member), key.clone())));
    }
    let paths: BTreeSet<_> = source.iter().filter(|(_, seen)| seen.kind != "s").map(|(path, _)| path.clone()).collect();
    let found = differences(&source, &snapshot(&dir.join("back")), &paths, &piece);
    println!("{} entries in {} pieces, {} differences", paths.len(), keys.len(), found.len());
    assert!(found.is_empty(), "{}", told(&found));
    let segments =
        keys.iter().flat_map(|key| world.manifest(key).members).filter(|member| member["segment"].is_object());
    assert!(keys.len() > 5 && segments.count() > 2, "many pieces, and files larger than one");
}

/// The fenced block of the README, with the names of this vault in the lines that say where it is.
fn lines_of_the_readme(lost: &Lost, is_passphrase: bool) -> String {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("### A machine with no archiver on it\n").unwrap();
    let (_, rest) = rest.split_once("```bash\n").unwrap();
    let (block, _) = rest.split_once("```\n").unwrap();
    let own = "endpoint=https://s3.eu-west-1.amazonaws.com ";
    assert!(
        block.contains(own)
            && block.contains("\nbucket=my-bucket below=prefix/ ")
            && block.contains("\nsource=nas1/data ")
    );
    let block = block.replace(own, &format!("endpoint={} ", lost.double.endpoint()));
    if is_passphrase {
        block
    } else {
        block.replace("\n# unlock=() ", "\nunlock=() ").replace("\nunlock=(--", "\n# unlock=(--")
    }
}

#[test]
fn the_lines_of_the_readme_bring_everything_back_with_a_passphrase() {
    let lost = Lost::archive(|_| ());
    lost.look();
    let machine = Machine::new(&lost.world).with_passphrase(&lost.world);
    let script = lines_of_the_readme(&lost, true);
    machine.run(&script).expect(0);
    is_back(&lost.world, &machine.dir);
    // What is frozen was asked for, each once.
    assert_eq!(lost.double.requests("RestoreObject"), lost.world.keys().len() as u64);
}

#[test]
fn the_lines_of_the_readme_bring_everything_back_with_a_secret_key_and_say_what_is_missing() {
    let lost = Lost::archive(|world| {
        let (first, second) = (world.certificate("first").0, world.certificate("second").0);
        world.setup.encrypt = format!("recipients = [{first:?}, {second:?}]");
        "zstd".clone_into(&mut world.setup.method);
    });
    lost.look();
    let script = lines_of_the_readme(&lost, false);
    let machine = Machine::new(&lost.world).with_secret_key(&lost.world, "second");
    // Whoever may not thaw, or has no key of the bucket, is told so, and waits for nothing.
    lost.double.deny("RestoreObject");
    let ran = machine.run(&script);
    assert!(ran.code != 0 && ran.stderr.contains("AccessDenied"), "{}", ran.stderr);
    lost.double.allow("RestoreObject");
    machine.run(&script).expect(0);
    is_back(&lost.world, &machine.dir);
    lost.double.revoke_key(ACCESS_KEY);
    let ran = machine.run(&script);
    assert!(ran.code != 0 && ran.stderr.contains("InvalidAccessKeyId"), "{}", ran.stderr);
}

#[test]
fn a_listing_of_many_pages_is_whole_and_one_that_breaks_off_is_an_error() {
    let double = Double::spawn(Options::default().buckets(&[BUCKET]));
    let world = World::new();
    let token = "a-token/with+what=is in them";
    double.add_key(Key::with_token("AKITEMPORARY00000001", "its-secret", token));
    let machine = Machine::new(&world)
        .with("AWS_ACCESS_KEY_ID", "AKITEMPORARY00000001")
        .with("AWS_SECRET_ACCESS_KEY", "its-secret")
        .with("AWS_SESSION_TOKEN", token);
    let endpoint = double.endpoint();
    let names = format!("set -eu -o pipefail\nendpoint={endpoint} region=eu-west-1 bucket={BUCKET}\n");
    let script = |what: &str| format!("{names}{}\n{what}", include_str!("../src/cli/recovery_sheet/s3.sh"));
    // A page has a thousand.
    let put = "for i in {1..2003}; do echo \"url = $endpoint/$bucket/many/dir-$((i % 7))/$i\"; echo 'upload-file = empty'; done >all; \
               >empty; s3 -K all; s3 -T empty $endpoint/$bucket/manymore";
    machine.run(&script(put)).expect(0);
    let listed = machine.run(&script("list many/")).expect(0).text();
    let mut expected: Vec<String> = (1..=2003).map(|i| format!("many/dir-{}/{i}", i % 7)).collect();
    expected.sort();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    assert_eq!(machine.run(&script("list none/")).expect(0).text(), "");
    double.script(Rule::new(Act::refuse("InternalError")).on("ListObjectsV2").nth(2));
    let ran = machine.run(&script("list many/ | tail -n 1; echo whole")).expect(1);
    assert!(ran.stderr.contains("InternalError") && !ran.text().contains("whole"), "{}", ran.stderr);
}

#[test]
fn the_readme_has_the_commands_of_the_sheet() {
    let readme = include_str!("../README.md");
    let sheet = [include_str!("../src/cli/recovery_sheet/s3.sh"), include_str!("../src/cli/recovery_sheet/restore.sh")];
    assert!(readme.contains(&format!("{}\n{}```", sheet[0], sheet[1])));
}

/// The commands that a sheet tells: its indented lines, by paragraph.
fn commands(sheet: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut is_within = false;
    for line in sheet.lines() {
        if let Some(command) = line.strip_prefix("    ") {
            if !is_within {
                paragraphs.push(String::new());
            }
            paragraphs.last_mut().unwrap().push_str(&format!("{command}\n"));
        }
        is_within = line.starts_with("    ");
    }
    paragraphs
}

/// Runs what a sheet tells: everything comes back, and a file is found.
fn sheet_works(world: &World, machine: &Machine) {
    let sheet = world.archiver(&["recovery-sheet"]).expect(0).text();
    let secret = fs::read_to_string(&world.passphrase).unwrap();
    assert!(!sheet.contains(secret.trim()) && !sheet.contains(SECRET_KEY), "{sheet}");
    let commands = commands(&sheet);
    let (finding, all) = commands.split_last().unwrap();
    machine.run(&all.concat()).expect(0);
    is_back(world, &machine.dir);
    let found = machine.run(&format!("wanted=special/fifo\n{}{finding}", all[..3].concat())).expect(0).text();
    let lines: Vec<&str> = found.lines().collect();
    // In the listing, and in the manifest of one piece.
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("special/fifo")), "{found}");
    let key = lines[1].split(": ").next().unwrap().replace(".manifest.jsonl.zst", ".tar.xz");
    assert!(world.keys().iter().any(|piece| key.ends_with(piece.as_str())), "{found}");
}

#[test]
fn the_commands_of_a_sheet_bring_everything_back_from_a_bucket() {
    let lost = Lost::archive(|world| world.setup.vault.push_str("names = \"opaque\"\n"));
    lost.look();
    let machine = Machine::new(&lost.world).with_passphrase(&lost.world);
    sheet_works(&lost.world, &machine);
}

#[test]
fn the_commands_of_a_sheet_bring_everything_back_from_a_directory() {
    let mut world = World::nasty_and_large();
    let (certificate, fingerprint) = world.certificate("first");
    world.setup.encrypt = format!("recipients = [{certificate:?}]");
    world.run_once().expect(0);
    let machine = Machine::new(&world).with_secret_key(&world, "first");
    sheet_works(&world, &machine);
    let sheet = world.archiver(&["recovery-sheet"]).expect(0).text();
    let shown: String = sheet.lines().find(|line| line.contains("first@example.org")).unwrap().replace(' ', "");
    assert!(shown.starts_with(&fingerprint), "{shown}");
    let json = world.archiver(&["recovery-sheet", "--json"]).expect(0).json_lines().remove(0);
    assert_eq!(json["keys"]["certificates"][0]["fingerprint"], fingerprint);
    let source = &json["sources"][0];
    assert_eq!((&source["pieces"], &source["prefix"]), (&world.keys().len().into(), &"nas1/data".into()));
    assert!(world.keys()[0].starts_with(&format!("nas1/data/{}/", source["pass"].as_str().unwrap())));
}

/// Draws the QR codes of a page as bitmaps and lets another program read them.
const READ_CODES: &str = r#"
import re, subprocess, sys
page = open(sys.argv[1]).read()
for svg in re.findall(r"<svg.*?</svg>", page, re.S):
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    rows = [[0] * width for _ in range(height)]
    for x, y, w, h in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)", svg):
        for row in range(int(y), int(y) + int(h)):
            for column in range(int(x), int(x) + int(w)):
                rows[row][column] = 1
    with open(sys.argv[2] + ".pbm", "w") as out:
        out.write(f"P1\n{width} {height}\n" + "\n".join(" ".join(map(str, row)) for row in rows) + "\n")
    said = subprocess.run(["zbarimg", "-q", "--raw", sys.argv[2] + ".pbm"], capture_output=True, check=True).stdout
    sys.stdout.buffer.write(said.rstrip(b"\n") + b"\0")
"#;

#[test]
fn the_page_for_printing_is_complete_and_its_codes_say_what_is_on_it() {
    let lost = Lost::archive(|world| {
        let (first, second) = (world.certificate("first").0, world.certificate("second").0);
        world.setup.encrypt = format!("recipients = [{first:?}, {second:?}]");
    });
    let world = &lost.world;
    let file = world.root.path().join("sheet.html");
    world.archiver(&["recovery-sheet", "--html", "--to", file.to_str().unwrap()]).expect(0);
    let page = fs::read_to_string(&file).unwrap();
    // Nothing is fetched from anywhere, and it is well formed.
    for foreign in [" src=", " href=", "@import", "url(", "<script"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let well_formed = "python3 -c 'import sys, xml.dom.minidom as dom; dom.parse(sys.argv[1])' \"$1\"";
    let xml = world.root.path().join("sheet.xml");
    fs::write(&xml, page.replace("<!DOCTYPE html>", "").replace("<meta charset=\"utf-8\">", "")).unwrap();
    world.bash(well_formed, &[&xml]).expect(0);
    let script = world.root.path().join("codes.py");
    fs::write(&script, READ_CODES).unwrap();
    let ran = world.bash("python3 \"$1\" \"$2\" \"$3\"", &[&script, &file, &world.root.path().join("code")]).expect(0);
    let text = ran.text();
    let codes: Vec<&str> = text.split_terminator('\0').collect();
    let json = world.archiver(&["recovery-sheet", "--json"]).expect(0).json_lines().remove(0);
    let scripts: Vec<&str> =
        json["commands"].as_array().unwrap().iter().map(|one| one["script"].as_str().unwrap()).collect();
    assert_eq!(codes[1..], scripts);
    let prints =
        json["keys"]["certificates"].as_array().unwrap().iter().map(|key| key["fingerprint"].as_str().unwrap());
    let told: BTreeSet<&str> = codes[0].lines().collect();
    assert!(told.contains(format!("s3://{BUCKET}/prefix").as_str()) && told.contains(lost.double.endpoint().as_str()));
    assert!(prints.clone().count() == 2 && prints.clone().all(|print| told.contains(print)), "{told:?}");
}

#[test]
fn before_anything_is_archived_there_is_a_sheet_and_a_sheet_is_named_where_a_pass_ends() {
    let world = World::new();
    world.fill("echo 1 >file");
    let sheet = world.archiver(&["recovery-sheet"]).expect(0).text();
    assert!(sheet.contains("nothing is delivered yet") && sheet.contains("A passphrase"), "{sheet}");
    assert!(!world.state.join("catalog.sqlite").exists(), "it changes nothing");
    let dir = world.source.to_str().unwrap();
    let ran = world.archiver(&["rehearse", dir, "--work", world.root.path().to_str().unwrap()]).expect(0);
    assert!(ran.text().contains("archiver recovery-sheet"), "{}", ran.text());
}
