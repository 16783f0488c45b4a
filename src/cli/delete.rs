//! `archiver delete`: removes pieces from the vault and the catalog. It says what goes, what that costs and saves, and
//! what stands in the way, asks, and then removes. Begun again, it goes on.

use super::{Failed, json_line, progress, systemd::become_the_service};
use crate::{
    catalog::Catalog,
    config::{Settings, VaultUrl},
    daemon,
    fate::Chain,
    name::{PassId, SourceName},
    pipeline::{VAULT_FILE, is_stranger, vault_name},
    removal::{
        ChoiceError, Chosen, ClassSum, Hindrance, Removal, RemovalError, Targets, What, choose, hindrances, sums,
        targets,
    },
    units::ByteSize,
    upload::Retries,
    vault::Vault,
};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::json;
use std::{io::stdout, path::PathBuf, sync::Arc};
use tokio::runtime::{Builder, Runtime};

/// Exit codes of what nothing supersedes, of a vault that refuses, of what needs an operator, and of a no.
const REFUSED: u8 = 1;
const VAULT: u8 = 4;
const STATE: u8 = 7;
/// Keys that are named each; the rest is counted.
const NAMED_MAX: usize = 20;

/// One of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Named {
    /// These passes, as `ls --all` names them
    #[arg(long, value_name = "PASS", num_args = 1..)]
    pub pass: Vec<PassId>,
    /// These pieces, each by its number, its name or its key
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub piece: Vec<String>,
    /// Everything of the source
    #[arg(long)]
    pub all_of_source: bool,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub named: Named,
    /// The source; may be left out when there is only one. Also one that is configured no more
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Also what nothing supersedes: it cannot be restored any more
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only say what would go, what that costs, and what stands in the way
    #[arg(long)]
    pub dry_run: bool,
    /// Keys that may delete: a profile; default: those of [vault], which should not be able to
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Keys that may delete: a file of them
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
    /// One JSON object per line: the plan, each key that could not be removed, and the outcome
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &super::Args, delete: &Args) -> Result<u8, Failed> {
    let mut settings = daemon::load(&args.config)?;
    if delete.profile.is_some() || delete.credentials_file.is_some() {
        let named = delete.credentials_file.as_deref().map(std::path::absolute).transpose()?;
        settings.vault.credentials_file = named.or(settings.vault.credentials_file);
        settings.vault.profile.clone_from(&delete.profile);
    }
    become_the_service(&settings.state, &settings.staging.path)?;
    let catalog = super::catalog(&settings)?;
    let source = source(&settings, &catalog, delete.source.as_deref())?;
    let chosen = choose(&catalog, &source, &what(&delete.named)).map_err(failed)?;
    if chosen.is_empty() {
        return Err(Failed::new(REFUSED, format!("There is nothing of {source} to delete")));
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let plan = Plan::make(&runtime, &settings, &catalog, &source, chosen)?;
    plan.show(delete)?;
    plan.allows(delete)?;
    if delete.dry_run {
        return Ok(0);
    }
    super::agree(delete.yes, "Nothing brings it back. Delete it?")?;
    let bar =
        progress::count(args.quiet || delete.json, plan.objects(), "[{bar:30}] {pos:>8}/{len:8} objects, {per_sec}");
    let removal = runtime.block_on(plan.remove(&settings, &bar));
    bar.finish_and_clear();
    tell(&removal?, delete)
}

fn what(named: &Named) -> What {
    match (named.all_of_source, named.pass.as_slice()) {
        (true, _) => What::AllOfSource,
        (false, []) => What::Pieces(named.piece.clone()),
        (false, passes) => What::Passes(passes.to_vec()),
    }
}

/// One of the configuration, or one that only the catalog remembers.
fn source(settings: &Settings, catalog: &Catalog, named: Option<&str>) -> Result<SourceName, Failed> {
    let Some(name) = named.and_then(|named| named.parse::<SourceName>().ok()) else {
        return super::source(settings, named);
    };
    let is_known = !catalog.passes(Some(&name))?.is_empty();
    if is_known { Ok(name) } else { super::source(settings, named) }
}

fn failed(err: ChoiceError) -> Failed {
    match err {
        ChoiceError::Catalog(err) => err.into(),
        err => Failed::usage(err),
    }
}

/// What is to go, and what stands in the way.
struct Plan {
    vault: Arc<dyn Vault>,
    passes: Vec<Targets>,
    hindrances: Vec<Hindrance>,
    classes: Vec<ClassSum>,
}

impl Plan {
    fn make(
        runtime: &Runtime,
        settings: &Settings,
        catalog: &Catalog,
        source: &SourceName,
        chosen: Vec<Chosen>,
    ) -> Result<Plan, Failed> {
        let vault = runtime.block_on(daemon::open_vault(settings)).map_err(|why| Failed::new(VAULT, why))?;
        // Whether the vault answers at all, and these keys.
        let mark = VAULT_FILE.parse().map_err(Failed::usage)?;
        runtime.block_on(Retries::default().ask(|| vault.head(&mark))).map_err(|err| Failed::of(&err))?;
        if let Some(known) = vault_name(catalog)?
            && let Some(why) = runtime.block_on(is_stranger(vault.as_ref(), &known, Retries::default()))
        {
            return Err(Failed::new(STATE, why));
        }
        let found = runtime.block_on(async {
            let hindrances = hindrances(catalog, vault.as_ref(), source, &chosen).await?;
            let mut passes = Vec::new();
            for chosen in chosen {
                passes.push(targets(vault.as_ref(), chosen).await?);
            }
            Ok((hindrances, passes))
        });
        let (hindrances, passes) = found.map_err(|err: RemovalError| Failed::of(&err))?;
        let is_s3 = matches!(settings.vault.url, VaultUrl::S3 { .. });
        let prices = settings.prices.as_ref().filter(|_| is_s3);
        let classes = sums(&passes, prices, &settings.vault.storage_class, Timestamp::now());
        Ok(Plan { vault, passes, hindrances, classes })
    }

    fn objects(&self) -> u64 {
        self.classes.iter().map(|class| class.objects).sum()
    }

    fn pieces(&self) -> u64 {
        self.passes.iter().map(|pass| pass.chosen().pieces.len() as u64).sum()
    }

    fn show(&self, delete: &Args) -> Result<(), Failed> {
        if delete.json {
            let passes: Vec<_> = self
                .passes
                .iter()
                .map(|pass| {
                    let Chosen { pass, pieces, is_whole } = pass.chosen();
                    let keys = pieces.iter().filter_map(|row| row.delivered.as_ref()).map(|at| at.key.as_str());
                    let keys: Vec<_> = keys.collect();
                    json!({ "pass": pass.pass.to_string(), "source": pass.source.as_str(), "whole": is_whole, "pieces": keys })
                })
                .collect();
            let hindrances: Vec<_> = self
                .hindrances
                .iter()
                .map(|hindrance| json!({ "what": hindrance.what, "may_be_forced": hindrance.may_be_forced }))
                .collect();
            let plan = json!({
                "passes": passes, "pieces": self.pieces(), "objects": self.objects(), "classes": self.classes,
                "in_the_way": hindrances,
            });
            return json_line(&mut stdout(), &json!({ "plan": plan }));
        }
        for pass in &self.passes {
            let Chosen { pass, pieces, is_whole } = pass.chosen();
            let (count, of) = (pieces.len(), format!("the pass {} of {}", pass.pass, pass.source));
            match is_whole {
                true => eprintln!("All of {of}: {count} pieces"),
                false => eprintln!("{count} pieces of {of}; its index in the vault still names them"),
            }
            let segments = pieces.iter().filter(|row| row.packed.segment.is_some()).count();
            if !is_whole && segments > 0 {
                eprintln!("  {segments} of them are parts of larger files, which cannot be made whole without them");
            }
        }
        self.classes.iter().for_each(show_class);
        Ok(())
    }

    /// An error that names what stands in the way.
    fn allows(&self, delete: &Args) -> Result<(), Failed> {
        let stands: Vec<&Hindrance> =
            self.hindrances.iter().filter(|hindrance| !(delete.force && hindrance.may_be_forced)).collect();
        if stands.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = stands.iter().map(ToString::to_string).collect();
        let may_be_forced = stands.iter().all(|hindrance| hindrance.may_be_forced);
        let force = if may_be_forced { "; --force removes it all the same, and nothing brings it back" } else { "" };
        Err(Failed::new(REFUSED, format!("Nothing is removed: {}{force}", told.join("; "))))
    }

    async fn remove(&self, settings: &Settings, bar: &ProgressBar) -> Result<Removal, Failed> {
        let catalog = Catalog::open(&settings.catalog_file())?;
        let mut removal = Removal::default();
        for targets in &self.passes {
            let came = |gone| bar.inc(gone);
            let done = removal.remove(self.vault.as_ref(), &catalog, &settings.state, targets, &came).await;
            done.map_err(|err| Failed::of(&err))?;
            if !removal.wrong.is_empty() {
                break;
            }
        }
        // Who goes back to the last copy must not find again what is gone.
        if removal.pieces > 0
            && let Err(err) = catalog.backup_to(&catalog.copy_file())
        {
            eprintln!("archiver: {}; the daemon makes it within a day", Chain(&err));
        }
        Ok(removal)
    }
}

fn show_class(class: &ClassSum) {
    let ClassSum { class, objects, bytes, young, days_left, early, a_month } = class;
    let name = if class.is_empty() { String::new() } else { format!("{class}: ") };
    let saved = a_month.map_or_else(String::new, |saved| format!(", {saved:.4} $ less each month"));
    eprintln!("{name}{objects} objects, {}{saved}", ByteSize(*bytes));
    if *young > 0 {
        let price =
            early.map_or_else(|| "at a price that [prices] does not say".to_owned(), |early| format!("{early:.4} $"));
        eprintln!(
            "  {young} of them are younger than the least time that is billed, which ends in {days_left} days: the rest is \
             paid for all the same, {price}"
        );
    }
}

fn tell(removal: &Removal, delete: &Args) -> Result<u8, Failed> {
    let Removal { objects, pieces, wrong } = removal;
    for (at, (key, err)) in wrong.iter().enumerate() {
        if delete.json {
            json_line(&mut stdout(), &json!({ "key": key.as_str(), "wrong": Chain(err).to_string() }))?;
        } else if at < NAMED_MAX {
            eprintln!("archiver: {}", Chain(err));
        }
    }
    if delete.json {
        let outcome = json!({ "objects": objects, "pieces": pieces, "wrong": wrong.len() });
        json_line(&mut stdout(), &json!({ "outcome": outcome }))?;
    } else {
        eprintln!("{pieces} pieces are removed, {objects} objects with what belongs to them");
    }
    if wrong.is_empty() {
        return Ok(0);
    }
    let more = wrong.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 && !delete.json { format!(" ({more} more than are named)") } else { String::new() };
    let what = format!(
        "{} objects could not be removed{more}, and what belongs to them stays. The same command goes on from here",
        wrong.len()
    );
    Err(Failed::new(VAULT, what))
}
