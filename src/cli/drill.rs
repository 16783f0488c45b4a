//! `archiver drill`: fetches or takes one piece, opens it with the key that a restore would need, proves it to the last
//! member, and records that it worked. A backup to certificates is worth what the secret key is, which the backup host
//! does not have.

use super::{
    Failed, HELD, INCOMPLETE,
    access::Access,
    decrypt, json_line,
    terms::{Offer, Terms},
    verify::{Report, checks, record},
};
use crate::{
    archive::pack::hex,
    catalog::{Catalog, PieceRow, PieceState, Proven},
    config::Settings,
    encrypt::Opener,
    fate::Chain,
    name::Compression,
    pipeline::local_manifest,
    restore::{BringError, Form, RestoreError, form, with_clear},
    units::ByteSize,
    vault::Thaw,
    verify::{
        Finding, Verdict,
        deep::{Target, trouble},
        prove::{Proof, prove_object},
    },
};
use jiff::Timestamp;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Write, stdout},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A downloaded piece, as it is in the vault; default: one is fetched
    #[arg(conflicts_with = "piece")]
    pub file: Option<PathBuf>,
    /// The piece to fetch, by its number, name or key; default: the smallest of the last pass
    #[arg(long, value_name = "NAME")]
    pub piece: Option<String>,
    /// With FILE: its manifest, as it is in the vault; default: the one on this host, if there is one
    #[arg(long, value_name = "FILE", requires = "file")]
    pub manifest: Option<PathBuf>,
    /// With FILE: the passphrase, when there is no configuration
    #[arg(long, value_name = "FILE", requires = "file", conflicts_with = "secret_key_file")]
    pub passphrase_file: Option<PathBuf>,
    /// With FILE: the secret key, when there is no configuration
    #[arg(long, value_name = "FILE", requires = "file")]
    pub secret_key_file: Option<PathBuf>,
    /// With --piece: it was opened on another machine, which has the key; only record that
    #[arg(long, requires = "piece")]
    pub elsewhere: bool,
    /// The source; may be left out when there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The pass; default: the last
    #[arg(long, value_name = "PASS")]
    pub pass: Option<String>,
    #[command(flatten)]
    pub terms: Terms,
    /// One JSON object per line: each finding, and the outcome
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, drill: &Args) -> Result<u8, Failed> {
    let mut report = Report::new(drill.json, args.quiet);
    match &drill.file {
        Some(file) => of_file(args, drill, file, &mut report),
        None => of_vault(args, drill, &mut report),
    }
}

fn of_vault(args: &super::Args, drill: &Args, report: &mut Report) -> Result<u8, Failed> {
    let access = Access::with(args.settings()?)?;
    let settings = &access.settings;
    let row = chosen(settings, drill)?;
    let target = Target::of(&row, &settings.state).map_err(|err| Failed::other(&err))?;
    let target = target.ok_or_else(|| Failed::usage(format!("{} is not in the vault yet", row.packed.name.short())))?;
    let is_sealed = target.wanted.object.key.as_str().ends_with(".gpg");
    if drill.elsewhere {
        if !recorded(settings, &row, is_sealed, false) {
            return Err(Failed::new(1, "Nothing is on record"));
        }
        return Ok(0);
    }
    let offer = Offer::of(&[target.wanted.object.size], settings, drill.terms.tier.into(), drill.terms.days);
    offer.within_budget(drill.terms.budget)?;
    let key = &target.wanted.object.key;
    let vault = access.vault()?;
    let listed = crate::verify::vault::ask(|| vault.list(key.as_str(), None, 1));
    let listed = access.runtime.block_on(listed).map_err(|err| Failed::of(&err))?;
    let is_frozen = listed.first().is_some_and(|object| object.key == *key && object.thaw == Thaw::Frozen);
    if is_frozen && !drill.terms.yes {
        let what = format!("{key} is frozen, and nothing was asked for. {}; --yes has it thawed", offer.text());
        return Err(Failed::new(HELD, what));
    }
    let mut proof = None;
    report.begin("drill", Some(offer.bytes));
    checks::prove_targets(&access, std::slice::from_ref(&target), &drill.terms, report, &mut |_, whole| {
        proof = Some(whole);
    })?;
    report.bar.finish_and_clear();
    let Some(proof) = proof else { return Ok(INCOMPLETE) };
    recorded(settings, &row, is_sealed, true);
    tell(key.as_str(), proof, is_sealed, drill)
}

/// The piece that is named, or the smallest one.
fn chosen(settings: &Settings, drill: &Args) -> Result<PieceRow, Failed> {
    let source = super::source(settings, drill.source.as_deref())?;
    let catalog = super::catalog(settings)?;
    let pass = super::pass(&catalog, &source, drill.pass.as_deref())?;
    let mut rows = catalog.pieces(&source, pass)?;
    match &drill.piece {
        Some(piece) => {
            rows.retain(|row| row.state != PieceState::Retired && row.is_named(piece));
            let none = || Failed::usage(format!("There is no piece {piece:?} in the pass {pass} of {source}"));
            rows.into_iter().next().ok_or_else(none)
        }
        None => {
            rows.retain(|row| row.state == PieceState::Delivered);
            let smallest = rows.into_iter().min_by_key(|row| row.sealed.as_ref().map_or(0, |sealed| sealed.size));
            smallest
                .ok_or_else(|| Failed::new(1, format!("Nothing of the pass {pass} of {source} is in the vault yet")))
        }
    }
}

fn of_file(args: &super::Args, drill: &Args, file: &Path, report: &mut Report) -> Result<u8, Failed> {
    let meta = fs::metadata(file).map_err(|err| Failed::usage(format!("Cannot open {file:?}: {err}")))?;
    let settings = if args.config.exists() { Some(args.settings()?) } else { None };
    let given = (drill.passphrase_file.as_deref(), drill.secret_key_file.as_deref());
    let opener = decrypt::unlock(given, settings.as_ref())?;
    let opener = opener.map(|unlock| Opener::open(&unlock)).transpose().map_err(|err| Failed::of(&err))?;
    let (_, Form { is_sealed, .. }) = form(file).map_err(|err| Failed::of(&err))?;
    let sum = sha256(file)?;
    let known = settings.as_ref().and_then(|settings| known(settings, file, &sum).map(|row| (settings, row)));
    let (clear, local);
    let manifest = match &drill.manifest {
        Some(manifest) => {
            clear = in_memory(manifest, opener.as_ref()).map_err(|err| Failed::of(&err))?;
            Some(PathBuf::from(format!("/proc/self/fd/{}", clear.as_raw_fd())))
        }
        None => {
            local = known.as_ref().map(|(settings, row)| local_manifest(&settings.state, row.name()));
            local.filter(|local| local.is_file())
        }
    };
    report.begin("drill", Some(meta.len()));
    let shown = file.display().to_string();
    let mut is_whole = true;
    let mut wrong = |verdict, why: String| {
        is_whole = false;
        report.tell(None, &Finding::object(verdict, &shown, why));
    };
    let due = known.as_ref().and_then(|(_, row)| row.sealed.as_ref()).map(|sealed| sealed.sha256.clone());
    if let Some(due) = due
        && sum != due
    {
        wrong(Verdict::Damaged, "it is not what was sealed: its digest is another one".to_owned());
    }
    let mut told = Vec::new();
    let mut proof = Proof::default();
    match prove_object(file, opener.as_ref(), manifest.as_deref(), &mut |finding| told.push(finding)) {
        Ok(Ok(whole)) => proof = whole,
        Ok(Err(err)) => wrong(Verdict::Damaged, Chain(&err).to_string()),
        Err(err) => {
            let err = BringError::from(err);
            let Some(verdict) = trouble(&err) else { return Err(super::access::failed(&err)) };
            wrong(verdict, Chain(&err).to_string());
        }
    }
    is_whole &= told.is_empty();
    told.iter().for_each(|finding| report.tell(None, finding));
    report.bar.finish_and_clear();
    if !is_whole {
        return Ok(INCOMPLETE);
    }
    if manifest.is_none() {
        report.say("There was no manifest: it was opened and read to its end, and no member compared");
    }
    match &known {
        Some((settings, row)) => drop(recorded(settings, row, is_sealed, manifest.is_some())),
        None => report.say(
            "It is not on record that this worked: there is no catalog here that knows the piece. On the backup host: \
             archiver drill --elsewhere --piece NAME",
        ),
    }
    tell(&shown, proof, is_sealed, drill)
}

/// The piece of which this is a copy: that of its name whose digest it has, for other passes have pieces of that name, too;
/// else the newest of its name, of which it is a damaged one.
fn known(settings: &Settings, file: &Path, sum: &str) -> Option<PieceRow> {
    let name = file.file_name()?.to_str()?;
    let catalog = Catalog::open_read_only(&settings.catalog_file()).ok()?;
    let mut named = Vec::new();
    for pass in catalog.passes(None).ok()? {
        let rows = catalog.pieces(&pass.source, pass.pass).ok()?;
        let is = |row: &PieceRow| row.delivered.as_ref().is_some_and(|of| of.key.rsplit('/').next() == Some(name));
        named.extend(rows.into_iter().filter(is));
    }
    let is_it = |row: &&PieceRow| row.sealed.as_ref().is_some_and(|sealed| sealed.sha256 == sum);
    named.iter().find(is_it).cloned().or_else(|| named.into_iter().next())
}

/// A manifest in the clear, as it would lie on the backup host; not on a disk.
fn in_memory(manifest: &Path, opener: Option<&Opener>) -> Result<File, RestoreError> {
    let fail = |source: io::Error| RestoreError::Damaged { path: manifest.to_owned(), source };
    let (_, Form { is_sealed, .. }) = form(manifest)?;
    let memory = memfd_create(c"manifest", MemfdFlags::CLOEXEC).map_err(|errno| fail(errno.into()))?;
    let mut memory = File::from(memory);
    with_clear(manifest, Form { is_sealed, compression: Compression::None }, opener, |clear| {
        io::copy(clear, &mut memory).map(drop).map_err(fail)
    })?;
    Ok(memory)
}

fn sha256(file: &Path) -> io::Result<String> {
    struct Hash(Sha256);
    impl Write for Hash {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hash(Sha256::new());
    io::copy(&mut File::open(file)?, &mut hash)?;
    Ok(hex(hash.0))
}

/// Of a piece that is not encrypted no key was tried: it is proven, and that was no drill. `is_proven`: its members were
/// compared with its manifest, here and now.
fn recorded(settings: &Settings, row: &PieceRow, is_sealed: bool, is_proven: bool) -> bool {
    let now = Timestamp::now();
    record(settings, |catalog| {
        if is_proven {
            catalog.set_proof(row.name(), Proven::Opened, now)?;
        }
        if is_sealed { catalog.set_drill(now) } else { Ok(()) }
    })
}

fn tell(what: &str, proof: Proof, is_sealed: bool, drill: &Args) -> Result<u8, Failed> {
    let Proof { members, bytes } = proof;
    if drill.json {
        let outcome = json!({ "opened": what, "members": members, "bytes": bytes, "encrypted": is_sealed });
        json_line(&mut stdout(), &json!({ "outcome": outcome }))?;
    } else {
        let key = if is_sealed { "The key opens it" } else { "It is not encrypted" };
        writeln!(stdout(), "{what}: {members} members, {} of content, all whole. {key}", ByteSize(bytes))?;
    }
    Ok(0)
}
