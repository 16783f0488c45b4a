//! The checks of `verify`: of the source, of the vault, of pieces that are fetched.

use super::{Args, Report, Scope, record};
use crate::{
    archive::{
        filter::Filter,
        tree::{self, SourceError, Tree},
        walk,
    },
    catalog::{PieceRow, PieceState, Proven},
    cli::{
        Failed,
        access::{self, Access},
        json_line,
        members::each_member,
        terms::{Offer, Terms},
    },
    config::Settings,
    daemon::{self, Run},
    fate::Trouble,
    name::PassId,
    restore::{News, Thawing},
    units::ByteSize,
    upload::chance,
    verify::{
        Finding,
        deep::{Deep, Target},
        local::Local,
        prove::Proof,
        vault::{Due, due, look},
    },
};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::stdout,
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    sync::Arc,
};

/// The pieces that were not opened for the longest time, never first, and among equals at random.
pub fn plan(scope: &Scope<'_>, count: usize, verify: &Args, report: &mut Report) -> Result<Vec<PieceRow>, Failed> {
    let proofs = scope.catalog.proofs(&scope.source, scope.pass)?;
    let opened: HashMap<u32, Timestamp> =
        proofs.iter().filter(|proof| proof.how == Proven::Opened).map(|proof| (proof.seq, proof.at)).collect();
    let mut rows = scope.delivered();
    rows.sort_by_cached_key(|row| (opened.get(&row.packed.name.seq).copied(), chance()));
    rows.truncate(count);
    rows.sort_by_cached_key(|row| (row.packed.first.order_key(), row.packed.name.seq));
    let offer = offer(&targets(&rows, scope.settings())?, scope.settings(), &verify.terms);
    if verify.json {
        let mut plan = offer.json();
        plan["keys"] = rows.iter().filter_map(|row| Some(row.delivered.as_ref()?.key.clone())).collect();
        json_line(&mut stdout(), &json!({ "plan": plan }))?;
    } else if !report.quiet {
        eprintln!("{}", offer.text());
    }
    offer.within_budget(verify.terms.budget)?;
    if !verify.dry_run {
        offer.agree(verify.terms.yes)?;
    }
    Ok(rows)
}

pub fn targets(rows: &[PieceRow], settings: &Settings) -> Result<Vec<Target>, Failed> {
    let targets = rows.iter().filter_map(|row| Target::of(row, &settings.state).transpose());
    targets.collect::<Result<_, _>>().map_err(|err| Failed::other(&err))
}

pub fn deep(scope: &Scope<'_>, rows: &[PieceRow], terms: &Terms, report: &mut Report) -> Result<(), Failed> {
    let settings = scope.settings();
    let pieces = targets(rows, settings)?;
    report.begin("deep", Some(pieces.iter().map(|piece| piece.wanted.object.size).sum()));
    let (mut whole, mut members, mut bytes) = (0_u64, 0, 0);
    prove_targets(scope.access, &pieces, terms, report, &mut |piece, proof| {
        (whole, members, bytes) = (whole + 1, members + proof.members, bytes + proof.bytes);
        // At once: the next one may take days.
        record(settings, |catalog| catalog.set_proof(&piece.wanted.name, Proven::Opened, Timestamp::now()));
    })?;
    let text = format!(
        "{whole} of {} pieces are whole, with {members} members and {} of content",
        pieces.len(),
        ByteSize(bytes)
    );
    report.sum(json!({ "pieces": pieces.len(), "whole": whole, "members": members, "bytes": bytes }), &text);
    Ok(())
}

fn offer(targets: &[Target], settings: &Settings, terms: &Terms) -> Offer {
    let sizes: Vec<u64> = targets.iter().map(|target| target.wanted.object.size).collect();
    Offer::of(&sizes, settings, terms.tier.into(), terms.days)
}

/// Has them out of the vault, one after the other.
pub fn prove_targets(
    access: &Access,
    pieces: &[Target],
    terms: &Terms,
    report: &mut Report,
    proven: &mut dyn FnMut(&Target, Proof),
) -> Result<(), Failed> {
    // Before anything is waited for without end: whether there is a vault at all.
    let vault = access.vault()?;
    if let Some(first) = pieces.first() {
        let head = crate::verify::vault::ask(|| vault.head(&first.wanted.object.key));
        access.runtime.block_on(head).map_err(|err| Failed::of(&err))?;
    }
    let bar = report.bar.clone();
    let news = |news: News<'_>| show(&bar, &news);
    let deep = Deep {
        manifests: access.manifests()?,
        staging: access.settings.restore.path.clone(),
        cap: access.settings.restore.cap.0,
        thawing: Thawing {
            vault: vault.clone(),
            runtime: access.runtime.handle().clone(),
            tier: terms.tier.into(),
            hurry: false,
            days: terms.days,
            line: None,
            is_cancelled: &|| false,
            tell: &news,
        },
        news: &news,
    };
    let mut tell = |piece: &Target, finding: Finding| report.tell(Some(&piece.wanted.name.short()), &finding);
    deep.run(pieces, &mut tell, proven).map_err(|err| {
        let failed = access::failed(&err);
        Failed { what: format!("{}. What was proven until then is on record", failed.what), ..failed }
    })
}

fn show(bar: &ProgressBar, news: &News<'_>) {
    match news {
        News::Thawing(key) => bar.set_message(format!("thawing {key}")),
        News::Fetching(key) => bar.set_message(format!("fetching {key}")),
        News::Came(bytes) => bar.inc(*bytes),
        News::Unpacking(key) => bar.set_message(format!("proving {key}")),
        News::Done(_) => {}
        News::Derived { key, why } | News::Lost { key, why } => bar.suspend(|| eprintln!("archiver: {key}: {why}")),
    }
}

pub fn vault(scope: &Scope<'_>, report: &mut Report) -> Result<(), Failed> {
    let rows = scope.delivered();
    let has_ended = scope.catalog.pass(&scope.source, scope.pass)?.is_some_and(|pass| pass.ended.is_some());
    let due = due(&rows, has_ended, &scope.settings().vault.storage_class).map_err(|err| Failed::other(&err))?;
    report.begin("vault", None);
    let names: HashMap<u32, String> = rows.iter().map(|row| (row.packed.name.seq, row.packed.name.short())).collect();
    let vault = scope.access.vault()?;
    let mut tell = |due: &Due, finding| {
        report.tell(due.seq.and_then(|seq| names.get(&seq)).map(String::as_str), &finding);
    };
    let seen = scope.access.runtime.block_on(look(vault, &due, &mut tell)).map_err(|err| Failed::of(&err))?;
    let bad: BTreeSet<u32> = seen.bad.iter().copied().collect();
    let good: Vec<u32> = names.keys().copied().filter(|seq| !bad.contains(seq)).collect();
    prove(scope, BTreeMap::from([(scope.pass, good.into_iter().collect())]), Proven::Listed);
    if seen.without_checksum > 0 {
        let count = seen.without_checksum;
        report.say(&format!("Of {count} objects the vault keeps no checksum: their sizes were compared, and no bytes"));
    }
    let text = format!("{} objects, {}", seen.objects, ByteSize(seen.bytes));
    let sums = json!({ "objects": seen.objects, "bytes": seen.bytes, "without_checksum": seen.without_checksum });
    report.sum(sums, &text);
    Ok(())
}

pub fn prove(scope: &Scope<'_>, proven: BTreeMap<PassId, BTreeSet<u32>>, how: Proven) {
    let now = Timestamp::now();
    for (pass, seqs) in proven.into_iter().filter(|(_, seqs)| !seqs.is_empty()) {
        let seqs: Vec<u32> = seqs.into_iter().collect();
        record(scope.settings(), |catalog| catalog.set_proofs(&scope.source, pass, &seqs, how, now));
    }
}

pub fn local(scope: &Scope<'_>, report: &mut Report) -> Result<(), Failed> {
    let options = daemon::pipeline(scope.settings(), &Run::default());
    let spec = options.sources.iter().find(|spec| spec.name == scope.source);
    let spec = spec.ok_or_else(|| Failed::usage(format!("There is no source {}", scope.source)))?;
    let held = |what: String| Failed::new(Trouble::Source.exit_code(), what);
    let tree = Tree::open(&spec.path).map_err(|err| Failed::of(&err))?;
    if spec.require_mount
        && let Some(why) = tree::why_no_mount(&spec.path)?
    {
        return Err(held(format!("{:?} {why}, and require_mount is set", spec.path)));
    }
    let rows: Vec<&PieceRow> = scope.rows.iter().filter(|row| row.state >= PieceState::Sealed).collect();
    if tree::is_empty_dir(&spec.path)? && rows.iter().map(|row| row.packed.archived).sum::<u64>() > 1 {
        return Err(held(format!("{:?} is empty, and was not when it was archived", spec.path)));
    }
    if rows.len() < scope.rows.len() {
        report.say(&format!("{} pieces are not sealed yet, and count as new", scope.rows.len() - rows.len()));
    }
    let filter = Filter::new(&spec.filter).map_err(|err| Failed::of(&err))?;
    let own = options.own.iter().filter_map(|dir| fs::metadata(dir).ok()).map(|meta| (meta.dev(), meta.ino()));
    let walk = walk::Options { one_file_system: spec.one_file_system, own: own.collect() };
    report.begin("local", None);
    let bar = report.bar.clone();
    let came = |bytes| bar.inc(bytes);
    let piece = std::cell::RefCell::new(String::new());
    let mut tell = |finding: Finding| report.tell(Some(&piece.borrow()), &finding);
    let mut local = Local::new(Arc::new(tree), (Arc::new(filter), walk), &mut tell, &came);
    let failed = |err: SourceError| Failed::of(&err);
    for row in rows {
        *piece.borrow_mut() = row.packed.name.short();
        each_member(scope.access, row, |line| local.member(&line).map(ControlFlow::Continue).map_err(failed))?;
    }
    let looked = local.finish().map_err(failed)?;
    let text = format!("{} entries, {} read; {} are new", looked.entries, ByteSize(looked.bytes), looked.new);
    report.sum(json!({ "entries": looked.entries, "bytes": looked.bytes, "new": looked.new }), &text);
    Ok(())
}
