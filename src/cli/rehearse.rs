//! `archiver rehearse`: the whole job on a directory, into a throw-away directory vault, restored with gpg, xz
//! and tar alone, and compared. It shows on somebody's own files what the daemon does, and that it comes back.

use super::{Failed, progress::Bars};
use crate::{
    archive::walk,
    catalog::{Catalog, PieceRow, PieceState},
    config::Settings,
    daemon::{self, Run},
    log,
    name::{PassId, SourceName},
    notice::Monitor,
    path::SourcePath,
    units::ByteSize,
    verify::compare::{Comparison, compare},
};
use std::{
    collections::BTreeSet,
    fs,
    io::{IsTerminal, stderr},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

/// Differences that are shown; the rest is counted.
const SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory to archive; it is only read
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Where to work; needs room for a compressed and a plain copy of DIR
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub work: PathBuf,
    /// Leave vault, restored copy and configuration where they are
    #[arg(long)]
    pub keep: bool,
    /// Largest piece
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub max_size: String,
    /// Compression: xz, zstd or none
    #[arg(long, value_name = "METHOD", default_value = "xz")]
    pub method: String,
}

/// The working directory; removed at the end, unless it is to be kept.
struct Work {
    root: PathBuf,
    keep: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        let agent = Command::new("gpgconf").args(["--kill", "gpg-agent"]).env("GNUPGHOME", self.path("gnupg")).output();
        if !self.keep
            && let Err(err) = agent.and_then(|_| fs::remove_dir_all(&self.root))
        {
            eprintln!("archiver: Cannot remove {:?}: {err}", self.root);
        }
    }
}

impl Work {
    fn make(rehearse: &Args) -> Result<Work, Failed> {
        let root = std::path::absolute(&rehearse.work)?.join(format!("archiver-rehearsal-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&root)
            .map_err(|err| Failed::new(1, format!("Cannot create {root:?}: {err}")))?;
        let work = Work { root, keep: rehearse.keep };
        for dir in ["gnupg", "restored"] {
            fs::DirBuilder::new().mode(0o700).create(work.path(dir))?;
        }
        Ok(work)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn configure(&self, dir: &Path, rehearse: &Args) -> Result<Settings, Failed> {
        let mut key = [0u8; 32];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty()).map_err(std::io::Error::from)?;
        let text: String = key.iter().map(|b| format!("{b:02x}")).collect();
        crate::durable::write(&self.path("passphrase"), format!("{text}\n").as_bytes())
            .map_err(|err| Failed::other(&err))?;
        let max_size: ByteSize =
            rehearse.max_size.parse().map_err(|err| Failed::usage(format!("--max-size: {err}")))?;
        let text_of = |path: &Path| match path.to_str() {
            Some(text) => Ok(toml_string(text)),
            None => Err(Failed::usage(format!("{path:?} is not UTF-8, which a configuration must be"))),
        };
        let config = format!(
            "state = {}\n[staging]\npath = {}\ncap = {}\n[[source]]\nname = \"rehearsal\"\npath = {}\n[pack]\nmax_size = {}\n\
             [compress]\nmethod = {}\n[encrypt]\npassphrase_file = {}\n[vault]\nurl = {}\n",
            text_of(&self.path("state"))?,
            text_of(&self.path("staging"))?,
            max_size.0 * 6 + max_size.0,
            text_of(dir)?,
            max_size.0,
            toml_string(&rehearse.method),
            text_of(&self.path("passphrase"))?,
            text_of(&self.path("vault")).map(|path| path.replacen('"', "\"file://", 1))?,
        );
        let file = self.path("archiver.toml");
        fs::write(&file, config)?;
        Ok(daemon::load(&file)?)
    }
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

pub fn run(args: &super::Args, rehearse: &Args) -> Result<u8, Failed> {
    let dir =
        rehearse.dir.canonicalize().map_err(|err| Failed::new(75, format!("Cannot open {:?}: {err}", rehearse.dir)))?;
    let work = Work::make(rehearse)?;
    let settings = work.configure(&dir, rehearse)?;
    let mut monitors: Vec<Arc<dyn Monitor>> = vec![Arc::new(log::init(args.level("warn")))];
    if stderr().is_terminal() && !args.quiet {
        monitors.push(Arc::new(Bars::new()));
    }
    let began = Instant::now();
    eprintln!("Archiving {} into a vault at {} …", dir.display(), work.path("vault").display());
    let code = daemon::run(&settings, &Run { once: true, log_level_is_given: true, ..Run::default() }, monitors)
        .map_err(|(code, what)| Failed::new(code, what))?;
    match code {
        0 | 3 => {}
        130 | 143 => return Err(Failed::new(code, "Stopped; nothing was compared")),
        _ => return Err(Failed::new(code, "The pass did not end, so nothing was compared")),
    }
    let archived = began.elapsed();
    let catalog = Catalog::open_read_only(&settings.catalog_file())?;
    let source = settings.sources[0].name.clone();
    let pass = super::pass(&catalog, &source, None)?;
    let mut pieces = catalog.pieces(&source, pass)?;
    pieces.retain(|row| row.state == PieceState::Delivered);

    eprintln!("Restoring {} pieces with gpg, {} and tar …", pieces.len(), rehearse.method);
    let began = Instant::now();
    for piece in &pieces {
        restore(&work, piece)?;
    }
    join_segments(&work, &pieces)?;
    let restored = began.elapsed();

    eprintln!("Comparing …");
    let (left_out, untouched) = left_out(&catalog, &source, pass, &work, &dir)?;
    let owners = rustix::process::geteuid().is_root();
    let found =
        compare(&dir, &work.path("restored"), untouched, &left_out, owners).map_err(|err| Failed::other(&err))?;
    report(&pieces, &found, archived.as_secs_f64(), restored.as_secs_f64());
    for (_, exception) in catalog.exceptions(&source, pass)?.iter().take(SHOWN_MAX) {
        println!("Told as {}: {}: {}", exception.reason.as_str(), exception.path, exception.detail);
    }
    if !owners {
        println!("Owners were not compared, since only root can give files back to them");
    }
    if rehearse.keep {
        println!("Everything is kept in {}", work.root.display());
    }
    Ok(if found.differences.is_empty() { code } else { 1 })
}

/// Unpacks one piece, as anybody can who has the passphrase and stock tools.
fn restore(work: &Work, piece: &PieceRow) -> Result<(), Failed> {
    let key = piece.delivered.as_ref().map(|delivered| delivered.key.clone()).unwrap_or_default();
    let unpack = [("xz", ".xz.gpg"), ("zstd", ".zst.gpg"), ("cat", ".tar.gpg")];
    let tool = unpack.iter().find(|(_, suffix)| key.ends_with(suffix)).map_or("cat", |(tool, _)| *tool);
    let tool = if tool == "cat" { tool.to_owned() } else { format!("{tool} -d") };
    let script = format!(
        "set -eu -o pipefail; gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase-file \"$1\" -d \"$2\" | {tool} | \
         tar --numeric-owner --acls --xattrs --xattrs-include='*' -xpf - -C \"$3\""
    );
    let status = Command::new("bash")
        .args(["-c", &script, "restore"])
        .args([work.path("passphrase"), work.path("vault").join(&key), work.path("restored")])
        .env("GNUPGHOME", work.path("gnupg"))
        .status()?;
    if status.success() { Ok(()) } else { Err(Failed::new(1, format!("Cannot restore {key}: {status}"))) }
}

/// Joins `F/000001`, `F/000002` … into F, with stock tools, keeping its metadata and that of its directory.
fn join_segments(work: &Work, pieces: &[PieceRow]) -> Result<(), Failed> {
    let files: BTreeSet<&SourcePath> =
        pieces.iter().filter(|row| row.packed.segment.is_some()).map(|row| &row.packed.first).collect();
    for file in files {
        let path = work.path("restored").join(file.as_path());
        let script = "set -eu; d=$(dirname \"$1\"); s=$(mktemp); touch -r \"$d\" \"$s\"; cp -a \"$1/000001\" \"$1.joined\"; cat \"$1\"/* > \"$1.joined\"; \
                      touch -r \"$1/000001\" \"$1.joined\"; rm -r \"$1\"; mv -T \"$1.joined\" \"$1\"; touch -r \"$s\" \"$d\"; rm \"$s\"";
        let status = Command::new("sh").args(["-c", script, "join"]).arg(&path).status()?;
        if !status.success() {
            return Err(Failed::new(1, format!("Cannot join the segments of {file}")));
        }
    }
    Ok(())
}

/// What need not come back: what the pass told as not archived, and our own working directory.
fn left_out(
    catalog: &Catalog,
    source: &SourceName,
    pass: PassId,
    work: &Work,
    dir: &Path,
) -> Result<(BTreeSet<SourcePath>, walk::Options), Failed> {
    let mut left_out = BTreeSet::new();
    for (_, exception) in catalog.exceptions(source, pass)? {
        if !exception.reason.is_archived() {
            left_out.insert(exception.path);
        }
    }
    let own = ["state", "staging", "vault"].map(|name| work.path(name));
    let mut ids = Vec::new();
    // When we work inside DIR, what we write there while it is walked cannot come back as it will be at the end.
    if let Ok(inside) = work.root.strip_prefix(dir) {
        let meta = fs::metadata(&work.root)?;
        ids.push((meta.dev(), meta.ino()));
        left_out.insert(SourcePath::parse(inside.as_os_str().as_bytes()).map_err(Failed::usage)?);
    }
    for path in own {
        let meta = fs::metadata(&path)?;
        ids.push((meta.dev(), meta.ino()));
    }
    Ok((left_out, walk::Options { own: ids, ..walk::Options::default() }))
}

fn report(pieces: &[PieceRow], found: &Comparison, archived: f64, restored: f64) {
    let tar: u64 = pieces.iter().map(|row| row.packed.tar_size).sum();
    let sealed: u64 = pieces.iter().filter_map(|row| row.sealed.as_ref().map(|sealed| sealed.size)).sum();
    println!("{} entries with {} of content, in {} pieces", found.entries, ByteSize(found.bytes), pieces.len());
    println!(
        "{} as tar, {} sealed; archived in {archived:.1} s, restored in {restored:.1} s",
        ByteSize(tar),
        ByteSize(sealed)
    );
    for difference in found.differences.iter().take(SHOWN_MAX) {
        println!("DIFFERENT {}: {}", difference.path, difference.what);
    }
    println!("For the real vault, `archiver recovery-sheet` prints these commands with its names: keep that elsewhere");
    match found.differences.len() {
        0 => println!("Everything came back as it was"),
        more => println!("{more} differences"),
    }
}
