//! `archiver rebuild`: a new catalog, of nothing but what is in the vault. `archiver sync`: catalog and vault held
//! against each other.

use super::{Failed, INCOMPLETE, access::Access, json_line};
use crate::{
    catalog::{Alone, Catalog, put_in_place},
    config::Settings,
    daemon, durable,
    inventory::{Contents, Depth, Derived, Finding, FoundPass, Known, Reading, Told, compare, contents},
    pipeline::{HOST_ID, VAULT_FILE, VAULT_GREETED, is_random_id, source_id},
};
use jiff::Timestamp;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid, chownat, open, openat},
    io::Errno,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{self, stdout},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose passes, where several hosts share the vault; as it stands in the keys. Default: this one's
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Only say what would be in it
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask whether a catalog that is there may go
    #[arg(long)]
    pub yes: bool,
    /// One JSON object per line: each finding, each pass, and the outcome
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct SyncArgs {
    /// Whose passes, where several hosts share the vault; as it stands in the keys. Default: this one's
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Take passes that the catalog does not know into it, and fetch manifests that are missing here
    #[arg(long)]
    pub repair: bool,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, rebuild: &Args) -> Result<u8, Failed> {
    let access = Access::new(&args.config)?;
    let settings = &access.settings;
    let file = settings.catalog_file();
    durable::create_dir(&settings.state)?;
    // Before the work, and not after it.
    drop(Alone::with(&file)?);
    let contents = listed(&access)?;
    let hosts = hosts(&contents, settings, rebuild.host.as_deref())?;
    if !rebuild.dry_run && Catalog::open_read_only(&file).is_ok() {
        super::agree(rebuild.yes, &format!("{file:?} is good. Put another in its place?"))?;
    }
    let dir = if rebuild.dry_run { settings.restore.path.join("rebuild") } else { settings.state.clone() };
    durable::create_dir(&dir)?;
    let draft = dir.join("catalog.sqlite.rebuilt");
    if rebuild.host.is_none() {
        check_host(&access, &contents, &hosts)?;
    }
    let told = make(&access, &contents, &hosts, (&dir, &draft), Depth::All)?;
    let mut lost = 0;
    for told in &told {
        lost += told.findings.iter().filter(|finding| finding.is_loss()).count();
        tell(told, rebuild.json)?;
    }
    for key in &contents.strangers {
        tell_finding(&Finding::Stranger { key: key.clone() }, rebuild.json)?;
    }
    if rebuild.dry_run {
        durable::remove_tree(&dir)?;
    } else {
        // A catalog that is whole knows what is under way.
        if let Ok(before) = Catalog::open_read_only(&file) {
            let made = Catalog::open(&draft)?;
            made.carry_over(&before)?;
            made.close()?;
        }
        let alone = Alone::with(&file)?;
        give_to_owner(&settings.state, &["catalog.sqlite.rebuilt", "manifests"])?;
        let aside = put_in_place(&draft, &alone, Timestamp::now())?;
        drop(alone);
        copy(settings)?;
        if let Some(aside) = aside {
            eprintln!("What was there is kept as {aside:?}");
        }
    }
    Ok(if lost > 0 { INCOMPLETE } else { 0 })
}

/// The next damage goes back to here.
fn copy(settings: &Settings) -> Result<(), Failed> {
    let catalog = Catalog::open(&settings.catalog_file())?;
    catalog.backup_to(&catalog.copy_file())?;
    drop(catalog);
    give_to_owner(
        &settings.state,
        &["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite.copy"],
    )
}

pub fn listed(access: &Access) -> Result<Contents, Failed> {
    let vault = access.vault()?;
    access.runtime.block_on(contents(vault.as_ref())).map_err(|err| Failed::of(&err))
}

/// As which hosts, in the keys of the vault, this one's passes stand.
pub fn hosts(contents: &Contents, settings: &Settings, named: Option<&str>) -> Result<Vec<String>, Failed> {
    let all: BTreeSet<&str> = contents.passes.iter().map(|found| found.host_id.as_str()).collect();
    let names = || all.iter().copied().collect::<Vec<_>>().join(", ");
    let host = daemon::host(settings);
    match (named, all.len()) {
        (_, 0) => Err(Failed::new(1, format!("There is no pass in {}", settings.vault.url))),
        (Some(named), _) if all.contains(named) => Ok(vec![named.to_owned()]),
        (Some(named), _) => Err(Failed::usage(format!("There is no host {named:?} in the vault, only {}", names()))),
        (None, _) if all.contains(host.as_str()) => Ok(vec![host]),
        (None, 1) => Ok(all.into_iter().map(str::to_owned).collect()),
        (None, _) => {
            Err(Failed::usage(format!("Whose passes? There are those of {} in the vault; --host says it", names())))
        }
    }
}

/// That the only host of a vault is this one: passes of another would be taken for those of its sources.
fn check_host(access: &Access, contents: &Contents, hosts: &[String]) -> Result<(), Failed> {
    let (host, manifests) = (daemon::host(&access.settings), access.manifests()?);
    let scratch = access.settings.restore.path.join("rebuild");
    for found in contents.passes.iter().filter(|found| hosts.contains(&found.host_id) && found.host_id != host) {
        let reading = Reading { manifests: &manifests, state: &scratch, depth: Depth::Ranges, now: Timestamp::now() };
        let told = reading.pass(found, false).map_err(|err| super::access::failed(&err))?;
        // Where nothing is left that says what an id stands for, nobody knows better.
        if told.row.host != found.host_id || !is_random_id(&told.row.host) {
            let other = told.row.host;
            if other != host {
                let what = format!("The vault holds passes of {other}, and this host is {host}; --host says whose");
                return Err(Failed::usage(what));
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Makes a catalog of passes in the vault at `draft`. `dir`: where manifests stay.
pub fn make(
    access: &Access,
    contents: &Contents,
    hosts: &[String],
    (dir, draft): (&Path, &Path),
    depth: Depth,
) -> Result<Vec<Told>, Failed> {
    for end in ["", "-wal", "-shm", "-journal"] {
        durable::remove(&PathBuf::from(format!("{}{end}", draft.display())))?;
    }
    let manifests = access.manifests()?;
    let reading = Reading { manifests: &manifests, state: dir, depth, now: Timestamp::now() };
    let mut found: Vec<&FoundPass> = contents.passes.iter().filter(|found| hosts.contains(&found.host_id)).collect();
    found.sort_by_key(|found| (found.source_id.clone(), found.pass));
    let newest: BTreeMap<&str, _> = found.iter().map(|found| (found.source_id.as_str(), found.pass)).collect();
    let catalog = Catalog::open(draft)?;
    let mut all = Vec::new();
    for found in found {
        let is_newest = newest[found.source_id.as_str()] == found.pass;
        let mut told = reading.pass(found, is_newest).map_err(|err| super::access::failed(&err))?;
        if catalog.pass(&told.row.source, told.row.pass)?.is_some() {
            told.findings.push(Finding::Twice { prefix: found.prefix() });
        } else {
            catalog.adopt_pass(&told.row, told.last_seq, &told.pieces)?;
            remember(&catalog, found, &told)?;
        }
        all.push(told);
    }
    if let Some(name) = vault_name(access)? {
        catalog.set_setting(VAULT_GREETED, &name)?;
    }
    // What is on its way, and what this host remembers beside the catalog, the vault does not tell.
    catalog.set_behind("The catalog was made anew from what is in the vault")?;
    catalog.close()?;
    Ok(all)
}

/// The names by which passes of this host and source stand in the vault.
fn remember(catalog: &Catalog, found: &FoundPass, told: &Told) -> Result<(), Failed> {
    catalog.setting_or("host", || told.row.host.clone())?;
    if found.source_id != told.row.source.as_str() {
        catalog.setting_or(HOST_ID, || found.host_id.clone())?;
        catalog.setting_or(&source_id(&told.row.source), || found.source_id.clone())?;
    }
    Ok(())
}

fn vault_name(access: &Access) -> Result<Option<String>, Failed> {
    let key = VAULT_FILE.parse().map_err(|err| Failed::other(&err))?;
    let vault = access.vault()?;
    let bytes = access.runtime.block_on(crate::restore::patiently(|| vault.get_range(&key, 0, 64 << 10)));
    match bytes {
        Ok(bytes) => {
            let known: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            Ok(known["vault"].as_str().map(str::to_owned))
        }
        Err(err) if err.cause == crate::vault::Cause::Gone => Ok(None),
        Err(err) => Err(Failed::of(&err)),
    }
}

fn tell(told: &Told, as_json: bool) -> Result<(), Failed> {
    for finding in &told.findings {
        tell_finding(finding, as_json)?;
    }
    let (source, pass) = (&told.row.source, told.row.pass);
    let by = |by: Derived| told.derived.get(&by).copied().unwrap_or(0);
    if as_json {
        let all = [Derived::Manifest, Derived::Index, Derived::Metadata, Derived::Nothing];
        let derived: serde_json::Map<_, _> =
            all.map(|one| (one.as_str().to_owned(), by(one).into())).into_iter().collect();
        let line = json!({
            "source": source.as_str(), "pass": pass.to_string(), "pieces": told.pieces.len(), "ended": told.row.ended.is_some(),
            "derived": derived,
        });
        return json_line(&mut stdout(), &json!({ "pass": line }));
    }
    let how: Vec<String> = told.derived.iter().map(|(by, count)| format!("{count} by {by}")).collect();
    let state = if told.row.ended.is_some() { "ended" } else { "goes on" };
    println!("{source} {pass}: {} pieces, {}; {state}", told.pieces.len(), how.join(", "));
    Ok(())
}

fn tell_finding(finding: &Finding, as_json: bool) -> Result<(), Failed> {
    if as_json {
        return json_line(&mut stdout(), &json!({ "finding": finding.kind(), "what": finding.to_string() }));
    }
    eprintln!("archiver: {finding}");
    Ok(())
}

/// The service is another user than whoever makes its catalog anew. No link that this user could put there is followed.
fn give_to_owner(state: &Path, names: &[&str]) -> Result<(), Failed> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let meta = fs::metadata(state)?;
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    let held =
        open(state, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)?;
    for name in names {
        give(&held, name.as_ref(), (uid, gid))?;
    }
    Ok(())
}

fn give(dir: &OwnedFd, name: &OsStr, to: (Uid, Gid)) -> Result<(), Failed> {
    let given = chownat(dir, name, Some(to.0), Some(to.1), AtFlags::SYMLINK_NOFOLLOW);
    match given {
        Err(Errno::NOENT) => return Ok(()),
        given => given.map_err(io::Error::from)?,
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(below) = openat(dir, name, flags, Mode::empty()) else { return Ok(()) };
    for entry in Dir::read_from(&below).map_err(io::Error::from)? {
        let entry = entry.map_err(io::Error::from)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            give(&below, name, to)?;
        }
    }
    Ok(())
}

pub fn sync(args: &super::Args, sync: &SyncArgs) -> Result<u8, Failed> {
    let access = Access::new(&args.config)?;
    if sync.repair {
        let done = repair(&access, &hosts_of_catalog(&access, sync)?);
        give_to_owner(&access.settings.state, &["catalog.sqlite", "manifests"])?;
        done?;
        copy(&access.settings)?;
    }
    // First what is known: what is delivered meanwhile is not missing then.
    let known = Known::of(&super::catalog(&access.settings)?)?;
    let hosts = hosts_of_catalog(&access, sync)?;
    let differences = compare(&listed(&access)?, &known, &hosts);
    for difference in &differences {
        if sync.json {
            json_line(
                &mut stdout(),
                &json!({ "difference": difference.kind(), "key": difference.key(), "what": difference.to_string() }),
            )?;
        } else {
            println!("{difference}");
        }
    }
    Ok(if differences.is_empty() { 0 } else { INCOMPLETE })
}

/// As which hosts this one's passes stand in the keys, as its catalog knows.
fn hosts_of_catalog(access: &Access, sync: &SyncArgs) -> Result<Vec<String>, Failed> {
    if let Some(host) = &sync.host {
        return Ok(vec![host.clone()]);
    }
    let catalog = super::catalog(&access.settings)?;
    let host = catalog.setting("host")?.unwrap_or_else(|| daemon::host(&access.settings));
    Ok([Some(host), catalog.setting(HOST_ID)?].into_iter().flatten().collect())
}

/// What is safe: a pass that has ended is taken as its index says, and manifests are fetched. Nothing is removed.
fn repair(access: &Access, hosts: &[String]) -> Result<(), Failed> {
    let contents = listed(access)?;
    let settings = &access.settings;
    let manifests = access.manifests()?;
    let reading = Reading { manifests: &manifests, state: &settings.state, depth: Depth::All, now: Timestamp::now() };
    let catalog = Catalog::open(&settings.catalog_file())?;
    for found in contents.passes.iter().filter(|found| hosts.contains(&found.host_id) && found.index.is_some()) {
        let told = reading.pass(found, false).map_err(|err| super::access::failed(&err))?;
        for finding in &told.findings {
            eprintln!("archiver: {finding}");
        }
        if catalog.pass(&told.row.source, told.row.pass)?.is_none() {
            catalog.adopt_pass(&told.row, told.last_seq, &told.pieces)?;
            eprintln!("{} {}: taken into the catalog", told.row.source, told.row.pass);
        }
    }
    Ok(())
}
