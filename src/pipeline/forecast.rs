//! What a pass over a source would be: its walk and its cut, and nothing read or written for it.
//!
//! A walk over a slow array takes days, so how far it has come is kept, and an interrupted forecast goes on there.

use super::{
    context::Failure,
    lane::{Ground, NotNow, had_entries},
    spec::{Options, SourceSpec},
};
use crate::{
    archive::{
        cut::{Cut, Plan},
        entry::{Kind, Walked},
        tree::Pulse,
        walk::{Position, Walk},
    },
    catalog::Catalog,
    durable::{self, DurableError},
    fate::{Chain, Fate, Trouble},
    notice::{Reason, Severity},
    path::SourcePath,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What a pass over a source would find and make, by what `stat` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    pub files: u64,
    pub dirs: u64,
    pub symlinks: u64,
    /// Devices and pipes.
    pub others: u64,
    /// Bytes of all files; holes count, and so does each name of a file that has several.
    pub file_bytes: u64,
    /// Entries left out by a rule; what lies below an excluded directory is not looked at.
    pub excluded: u64,
    pub skipped: BTreeMap<Reason, u64>,
    /// Mount points that would not be entered.
    pub mounts_left_out: BTreeSet<String>,
    /// Bytes of the tar of each piece, in order.
    pub pieces: Vec<u64>,
    /// How many of these hold a part of a file that is larger than a piece.
    pub segments: u64,
}

impl Forecast {
    pub fn entries(&self) -> u64 {
        self.files + self.dirs + self.symlinks + self.others
    }

    /// Entries that would be lost.
    pub fn lost(&self) -> u64 {
        let losses = self.skipped.iter().filter(|(reason, _)| reason.severity() == Severity::Loss);
        losses.map(|(_, count)| count).sum()
    }

    pub fn tar_bytes(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, tar| sum.saturating_add(*tar))
    }

    pub fn largest(&self) -> u64 {
        self.pieces.iter().copied().max().unwrap_or(0)
    }

    fn add(&mut self, plan: &Plan) {
        self.pieces.push(plan.tar_size);
        self.segments += u64::from(plan.segment.is_some());
        // The file of segments is an item of each.
        let is_told = |item: &Walked| {
            plan.segment.as_ref().is_none_or(|segment| segment.index == 1 || *item.path() != segment.file.path)
        };
        for item in plan.items.iter().filter(is_told) {
            match item {
                Walked::Entry(entry) => {
                    let count = match entry.meta.kind {
                        Kind::File => &mut self.files,
                        Kind::Dir => &mut self.dirs,
                        Kind::Symlink => &mut self.symlinks,
                        _ => &mut self.others,
                    };
                    *count += 1;
                    if entry.meta.kind == Kind::File {
                        self.file_bytes = self.file_bytes.saturating_add(entry.meta.size);
                    }
                }
                Walked::Excluded { count, .. } => self.excluded += count,
                Walked::Skipped(exception) => *self.skipped.entry(exception.reason).or_default() += 1,
            }
        }
    }
}

/// How far a forecast has come.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum Saved {
    #[serde(rename = "1")]
    V1(Progress),
}

#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    begun: Timestamp,
    /// What walk and cut depend on, the program's version too; of another one the rest would not fit.
    of: String,
    /// All up to here is in it.
    position: SourcePath,
    forecast: Forecast,
}

/// What was kept longer ago is of a tree that is another by now.
const KEPT_DAYS_MAX: i64 = 30;

/// Where a forecast keeps how far it has come, after a piece, and how often.
#[derive(Clone, Debug)]
pub struct Keep {
    pub file: PathBuf,
    pub every: Duration,
}

/// Walks and cuts a source, piece by piece.
pub struct Forecaster {
    cut: Cut<Walk>,
    begun: Timestamp,
    /// It goes on behind this path.
    resumed: Option<SourcePath>,
    /// As [`Progress::of`].
    of: String,
    /// All up to here is in what was found so far; absent where no walk could begin.
    position: Option<SourcePath>,
    pulse: Pulse,
    so_far: Forecast,
    keep: Option<Keep>,
    kept: Instant,
}

impl Forecaster {
    /// With `keep` it goes on with what is kept there, if that is of the same source and rules.
    pub fn open(
        options: &Options,
        spec: &SourceSpec,
        catalog: Option<&Catalog>,
        keep: Option<Keep>,
    ) -> Result<Forecaster, NotNow> {
        let had_entries = || catalog.map_or(Ok(false), |catalog| had_entries(catalog, spec));
        let pulse = Pulse::default();
        let ground = Ground::open(options, spec, pulse.clone(), had_entries)?;
        let (pack, rules) = (&options.pack, ground.filter.sha256());
        // Device numbers are given anew at every mount, but this stays with the filesystem.
        let root = ground.tree.stat(&SourcePath::root()).map(|meta| meta.ino).unwrap_or_default();
        let SourceSpec { path, one_file_system, .. } = spec;
        let of = format!(
            "{} {path:?} {root} {one_file_system} {} {} {rules}",
            env!("CARGO_PKG_VERSION"),
            pack.max_size,
            pack.max_members
        );
        let found = keep.as_ref().map(|keep| read(&keep.file)).transpose()?.flatten();
        let oldest = Timestamp::now() - SignedDuration::from_hours(24 * KEPT_DAYS_MAX);
        let is_same = |progress: &Progress| progress.of == of && oldest <= progress.begun;
        let (from, begun, resumed, so_far) = match found.filter(is_same) {
            Some(Progress { begun, position, forecast, .. }) => {
                (Position::After(position.clone()), begun, Some(position), forecast)
            }
            None => (Position::Start, Timestamp::now(), None, Forecast::default()),
        };
        let cut = ground.cut(from);
        Ok(Forecaster { cut, begun, resumed, of, position: None, pulse, so_far, keep, kept: Instant::now() })
    }

    /// When it began that was interrupted, and behind which path it goes on.
    pub fn resumed(&self) -> Option<(Timestamp, &SourcePath)> {
        Some((self.begun, self.resumed.as_ref()?))
    }

    pub fn so_far(&self) -> &Forecast {
        &self.so_far
    }

    /// What is being looked at, to be shown.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    pub fn into_forecast(self) -> Forecast {
        self.so_far
    }

    /// The next piece; `None` when all of the source is in [`so_far`](Self::so_far).
    pub fn next_piece(&mut self) -> Result<Option<Plan>, NotNow> {
        let plan = self.cut.next_plan().map_err(|err| NotNow::Held(Chain(&err).to_string()))?;
        self.so_far.mounts_left_out.extend(self.cut.walk().mounts_left_out().iter().map(SourcePath::display));
        if let Some(plan) = &plan {
            self.so_far.add(plan);
            self.position = place(plan);
        }
        Ok(plan)
    }

    /// Keeps how far it has come, if it is time.
    pub fn keep(&mut self) -> Result<(), DurableError> {
        if let Some(Keep { file, every }) = &self.keep
            && let Some(position) = &self.position
            && *every <= self.kept.elapsed()
        {
            self.kept = Instant::now();
            let (of, position, forecast) = (self.of.clone(), position.clone(), self.so_far.clone());
            let progress = Saved::V1(Progress { begun: self.begun, of, position, forecast });
            let text = serde_json::to_vec(&progress).map_err(|err| durable::at("write", file)(err.into()))?;
            // A plan may come before the first run, which makes the state.
            file.parent().map_or(Ok(()), durable::create_dir)?;
            durable::write(file, &text)?;
        }
        Ok(())
    }
}

/// Behind which path a walk may begin after this piece: not between the segments of a file, and not behind what was
/// skipped, which would be met again.
fn place(plan: &Plan) -> Option<SourcePath> {
    let is_between = plan.segment.as_ref().is_some_and(|segment| segment.index < segment.count);
    let last = plan.items.last().filter(|item| !is_between && !matches!(item, Walked::Skipped(_)))?;
    Some(last.path().clone())
}

fn read(file: &Path) -> Result<Option<Progress>, Failure> {
    let damaged = |what: &dyn Display| {
        let what =
            format!("The plan that was interrupted cannot be gone on with, {file:?}: {what}; --fresh starts over");
        Failure::new(Fate::Operator, Trouble::State, what)
    };
    match fs::read(file) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(Saved::V1(progress)) => Ok(Some(progress)),
            Err(err) => Err(damaged(&err)),
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(damaged(&err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        archive::{filter, items::Items, pack},
        compress,
        name::Compression,
        notice::Exception,
        upload,
    };
    use tempfile::TempDir;

    fn world() -> (TempDir, Options) {
        let dir = TempDir::new().unwrap();
        let source = dir.path().join("source");
        for (name, size) in
            [("a/1", 30_000), ("a/2", 10), ("b/large", 250_000), ("c/1", 40_000), ("d", 60_000), ("e.tmp", 9)]
        {
            let file = source.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, vec![1; size]).unwrap();
        }
        std::os::unix::fs::symlink("d", source.join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(source.join("b/socket")).unwrap();
        let spec = SourceSpec {
            name: "data".parse().unwrap(),
            path: source,
            filter: filter::Options { exclude: vec!["*.tmp".to_owned()], ..Default::default() },
            one_file_system: false,
            require_mount: false,
            repeat: None,
            pass_now: false,
        };
        let options = Options {
            sources: vec![spec],
            state: dir.path().join("state"),
            staging: dir.path().join("staging"),
            cap: 1 << 20,
            pack: pack::Options {
                retries: 0,
                max_size: 100_000,
                max_members: 100,
                mark_bytes: u64::MAX,
                mark_every: Duration::MAX,
            },
            compress: compress::Options::for_method(Compression::None),
            encrypt: None,
            upload: upload::Options {
                part_size: 5 << 20,
                concurrency: 1,
                retries: upload::Retries::default(),
                bandwidth: None,
            },
            storage_class: "STANDARD".to_owned(),
            names: super::super::Names::Plain,
            host: "h1".to_owned(),
            own: Vec::new(),
            prices: None,
            silence: None,
            once: true,
            give_up_after: None,
        };
        (dir, options)
    }

    fn keep(dir: &TempDir) -> Keep {
        Keep { file: dir.path().join("plan.json"), every: Duration::ZERO }
    }

    fn open(options: &Options, keep: Option<Keep>) -> Forecaster {
        Forecaster::open(options, &options.sources[0], None, keep).unwrap()
    }

    fn finish(mut forecaster: Forecaster) -> Forecast {
        while forecaster.next_piece().unwrap().is_some() {
            forecaster.keep().unwrap();
        }
        forecaster.into_forecast()
    }

    #[test]
    fn it_counts_what_the_source_holds() {
        let (_dir, options) = world();
        let found = finish(open(&options, None));
        assert_eq!((found.files, found.dirs, found.symlinks, found.others), (5, 4, 1, 0));
        assert_eq!((found.file_bytes, found.excluded, found.lost()), (380_010, 1, 0));
        assert_eq!(found.skipped, BTreeMap::from([(Reason::Socket, 1)]));
        assert!(2 < found.segments && found.segments < found.pieces.len() as u64, "{found:?}");
        assert!(found.largest() <= 100_000 && 380_010 < found.tar_bytes(), "{found:?}");
    }

    #[test]
    fn interrupted_after_any_piece_it_goes_on_and_finds_the_same() {
        let (dir, options) = world();
        let whole = finish(open(&options, None));
        let (mut resumed, mut skipped) = (0, false);
        for count in 0..whole.pieces.len() {
            let mut forecaster = open(&options, Some(keep(&dir)));
            for _ in 0..count {
                forecaster.next_piece().unwrap().unwrap();
                forecaster.keep().unwrap();
                skipped |= forecaster.position.is_some() && !forecaster.so_far().skipped.is_empty();
            }
            drop(forecaster);
            let again = open(&options, Some(keep(&dir)));
            // Within the segments of a file it goes on before the first.
            resumed += u32::from(again.resumed().is_some());
            assert_eq!(finish(again), whole, "after {count} pieces");
            fs::remove_file(keep(&dir).file).unwrap_or_default();
        }
        assert!(2 <= resumed && skipped);
    }

    #[test]
    fn what_is_kept_of_other_rules_is_not_gone_on_with() {
        let (dir, mut options) = world();
        let mut forecaster = open(&options, Some(keep(&dir)));
        forecaster.next_piece().unwrap().unwrap();
        forecaster.keep().unwrap();
        assert!(open(&options, Some(keep(&dir))).resumed().is_some());
        options.sources[0].filter.exclude.clear();
        assert!(open(&options, Some(keep(&dir))).resumed().is_none());
    }

    #[test]
    fn what_is_kept_and_damaged_is_no_fresh_start() {
        let (dir, options) = world();
        fs::write(keep(&dir).file, "{\"version\":\"1\"").unwrap();
        let Err(NotNow::Failed(failure)) = Forecaster::open(&options, &options.sources[0], None, Some(keep(&dir)))
        else {
            panic!("it was taken")
        };
        assert!(failure.chain().contains("plan.json") && failure.chain().contains("--fresh"), "{}", failure.chain());
    }

    #[test]
    fn what_cannot_be_listed_is_a_loss() {
        let exception =
            Exception { path: SourcePath::root(), reason: Reason::Denied, errno: None, detail: String::new() };
        let mut plan = Plan { items: Items::default(), tar_size: 1, members: 0, segment: None };
        plan.items.push(Walked::Skipped(Box::new(exception)));
        let mut found = Forecast::default();
        found.add(&plan);
        assert_eq!(found.lost(), 1);
        assert_eq!(place(&plan), None, "it would be met, and told, again");
    }
}
