//! What `archiver plan` says of a source, and how it is printed.

use super::{super::Failed, Args};
use crate::{
    config::{self, Settings, VaultUrl},
    durable,
    path::escape,
    pipeline::{Forecast, SourceSpec},
    price::{Prices, Stock, Tier},
    staging,
    units::{Bandwidth, ByteSize, Seconds},
    upload::part_size,
    window::Window,
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{Write, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

/// Bytes of a sealed manifest for each entry, where nothing is known of the source; a Debian system has 52.
const MANIFEST_ENTRY: f64 = 60.0;
/// How long thawed copies are kept in what a restore of everything would cost.
const COPY_DAYS: u32 = 7;

/// What is printed of one source.
#[derive(Serialize)]
pub struct Report {
    source: String,
    path: PathBuf,
    entries: u64,
    files: u64,
    dirs: u64,
    symlinks: u64,
    others: u64,
    file_bytes: u64,
    excluded: u64,
    skipped: BTreeMap<String, u64>,
    lost: u64,
    mounts_left_out: Vec<String>,
    pieces: usize,
    segments: u64,
    tar_bytes: u64,
    largest_piece: u64,
    ratio: f64,
    /// `given`, `measured` in an earlier pass, or `unknown`, and then 1.
    ratio_is: &'static str,
    sealed_bytes: u64,
    staging: StagingNeed,
    upload: Option<UploadTime>,
    money: Option<Money>,
}

#[derive(Serialize)]
struct StagingNeed {
    /// What the configuration demands for pieces of its `max_size` …
    least: u64,
    /// … and 6 ×, with which no stage waits for another.
    better: u64,
    cap: u64,
    /// Of the disk, what is used by staging now among it.
    available: Option<u64>,
}

#[derive(Serialize)]
struct UploadTime {
    bytes_per_second: u64,
    window: Window,
    /// Within the window.
    seconds: u64,
    /// If it began now and the archiver kept up.
    ends: Option<Timestamp>,
}

#[derive(Serialize)]
struct Money {
    currency: &'static str,
    date: String,
    region: String,
    month: f64,
    delivery: f64,
    minimum_days: u32,
    minimum: f64,
    restore_bulk: f64,
    restore_standard: f64,
    restore_egress: f64,
}

/// What an earlier pass tells of a source.
pub struct Known {
    /// Sealed bytes per byte of tar.
    pub ratio: f64,
    /// Bytes of a sealed manifest for each entry.
    pub manifest_entry: f64,
}

impl Report {
    pub fn new(settings: &Settings, spec: &SourceSpec, found: &Forecast, known: Option<Known>, args: &Args) -> Report {
        let (ratio, ratio_is) = match (args.ratio, &known) {
            (Some(given), _) => (given, "given"),
            (None, Some(known)) => (known.ratio, "measured"),
            (None, None) => (1.0, "unknown"),
        };
        let stock = stock(settings, found, ratio, known.map_or(MANIFEST_ENTRY, |known| known.manifest_entry));
        Report {
            source: spec.name.to_string(),
            path: spec.path.clone(),
            entries: found.entries(),
            files: found.files,
            dirs: found.dirs,
            symlinks: found.symlinks,
            others: found.others,
            file_bytes: found.file_bytes,
            excluded: found.excluded,
            skipped: found.skipped.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
            lost: found.lost(),
            mounts_left_out: found.mounts_left_out.iter().cloned().collect(),
            pieces: found.pieces.len(),
            segments: found.segments,
            tar_bytes: found.tar_bytes(),
            largest_piece: found.largest(),
            ratio,
            ratio_is,
            sealed_bytes: stock.bytes,
            staging: staging_need(settings),
            upload: upload_time(settings, args.link, stock.bytes.saturating_add(stock.readable_bytes)),
            money: settings.prices.as_ref().map(|prices| money(prices, &stock)),
        }
    }

    pub fn show(&self, settings: &Settings) -> Result<(), Failed> {
        let bytes = |bytes: u64| ByteSize(bytes).to_string();
        let mut out = stdout().lock();
        let Report { files, dirs, symlinks, others, .. } = self;
        let sum = bytes(self.file_bytes);
        writeln!(out, "{}: {}", self.source, escape(self.path.as_os_str().as_encoded_bytes()))?;
        writeln!(
            out,
            "  entries    {files} files of {sum}, {dirs} directories, {symlinks} symlinks, {others} devices and pipes"
        )?;
        let excluded = (self.excluded > 0).then(|| format!("{} by rules", self.excluded));
        let skipped = self.skipped.iter().map(|(reason, count)| format!("{count} {reason}"));
        let left_out: Vec<String> = excluded.into_iter().chain(skipped).collect();
        if !left_out.is_empty() {
            writeln!(out, "  left out   {}", left_out.join(", "))?;
        }
        for mount in &self.mounts_left_out {
            writeln!(out, "             what is mounted at {mount}")?;
        }
        let (tars, largest) = (bytes(self.tar_bytes), bytes(self.largest_piece));
        writeln!(out, "  pieces     {}, as tars {tars}, the largest {largest}", self.pieces)?;
        if self.segments > 0 {
            writeln!(out, "             {} of them hold parts of files that are larger than a piece", self.segments)?;
        }
        let how = match self.ratio_is {
            "unknown" => "as if nothing could be compressed; --ratio says how well it can".to_owned(),
            "measured" => format!("at the ratio of an earlier pass, {:.3}", self.ratio),
            _ => format!("at the ratio {}", self.ratio),
        };
        writeln!(out, "  sealed     {}, {how}", bytes(self.sealed_bytes))?;
        self.staging.show(&mut out, &settings.staging.path)?;
        match &self.upload {
            Some(upload) => upload.show(&mut out, settings)?,
            None => writeln!(out, "  upload     --link RATE says how fast the line is")?,
        }
        match &self.money {
            Some(money) => money.show(&mut out)?,
            None if is_s3(settings) => {
                writeln!(out, "  money      [prices] in the configuration says what it costs here")?;
            }
            None => {}
        }
        Ok(out.flush()?)
    }
}

fn is_s3(settings: &Settings) -> bool {
    matches!(settings.vault.url, VaultUrl::S3 { .. })
}

/// What would lie in the vault.
fn stock(settings: &Settings, found: &Forecast, ratio: f64, manifest_entry: f64) -> Stock {
    let sealed = found.pieces.iter().map(|tar| (*tar as f64 * ratio) as u64);
    let wanted = settings.vault.part_size.0;
    let parts = sealed.clone().map(|size| match part_size(size, wanted) {
        // One request sends a small object; of a large one, the upload must be begun as well.
        Some(part) if part < size => 1 + size.div_ceil(part),
        _ => 0,
    });
    let pieces = found.pieces.len() as u64;
    Stock {
        pieces,
        bytes: sealed.fold(0, u64::saturating_add),
        parts: parts.sum(),
        // A manifest for each piece, an index and a listing.
        readable: pieces + 2,
        readable_bytes: (found.entries() as f64 * manifest_entry) as u64,
    }
}

fn staging_need(settings: &Settings) -> StagingNeed {
    let max_size = settings.pack.max_size.0;
    let path = &settings.staging.path;
    // It may not be there yet.
    let free = path.ancestors().find_map(|dir| durable::free(dir).ok());
    StagingNeed {
        least: config::cap_min(max_size),
        better: max_size.saturating_mul(6),
        cap: settings.staging.cap.0,
        available: free.map(|free| free.bytes.saturating_add(staging::used_below(path))),
    }
}

fn upload_time(settings: &Settings, link: Option<Bandwidth>, bytes: u64) -> Option<UploadTime> {
    let Bandwidth(rate) = link.into_iter().chain(settings.upload.bandwidth).min()?;
    let seconds = bytes.div_ceil(rate);
    let (window, now) = (&settings.upload.window, Timestamp::now());
    Some(UploadTime {
        bytes_per_second: rate,
        window: window.clone(),
        seconds,
        ends: window.end_of(Duration::from_secs(seconds), now, &settings.time_zone.now()),
    })
}

fn money(prices: &Prices, stock: &Stock) -> Money {
    let back = |thaw| prices.restore(stock, thaw, COPY_DAYS);
    let (bulk, standard) = (back(Tier::Bulk), back(Tier::Standard));
    Money {
        currency: "USD",
        date: prices.date.to_string(),
        region: prices.region.clone(),
        month: prices.month(stock),
        delivery: prices.delivery(stock),
        minimum_days: prices.minimum_days,
        minimum: prices.minimum(stock),
        restore_bulk: bulk.total(),
        restore_standard: standard.total(),
        restore_egress: bulk.egress,
    }
}

impl StagingNeed {
    fn show(&self, out: &mut dyn Write, path: &Path) -> Result<(), Failed> {
        let (least, better, cap) = (ByteSize(self.least), ByteSize(self.better), ByteSize(self.cap));
        writeln!(
            out,
            "  staging    at least {least}, better {better}, for pieces as large as max_size; the cap is {cap}"
        )?;
        if let Some(available) = self.available.filter(|available| *available < self.cap) {
            writeln!(out, "             but the disk of {path:?} has room for only {}", ByteSize(available))?;
        }
        Ok(())
    }
}

impl UploadTime {
    fn show(&self, out: &mut dyn Write, settings: &Settings) -> Result<(), Failed> {
        // In days to the hour, else to the minute.
        let unit = if self.seconds < Seconds::DAY { 60 } else { Seconds::HOUR };
        let (time, rate) =
            (Seconds(self.seconds.div_ceil(unit).saturating_mul(unit)), Bandwidth(self.bytes_per_second));
        let window = &settings.upload.window;
        let hours = match window.is_always() {
            true => String::new(),
            false => format!(" within {window} ({:.1} of 168 hours a week)", f64::from(window.open_minutes()) / 60.0),
        };
        writeln!(out, "  upload     {time} at {rate}{hours}")?;
        if let Some(ends) = self.ends {
            let ends = settings.time_zone.now().to_datetime(ends).strftime("%Y-%m-%d %H:%M");
            writeln!(out, "             until {ends} if it began now and all else kept up")?;
        }
        Ok(())
    }
}

impl Money {
    fn show(&self, out: &mut dyn Write) -> Result<(), Failed> {
        let Money { month, delivery, minimum_days, minimum, region, date, .. } = self;
        let Money { restore_bulk, restore_standard, restore_egress, .. } = self;
        writeln!(out, "  money      ${month:.2} a month, ${delivery:.2} once for requests")?;
        writeln!(out, "             ${minimum:.2} even if it is removed within {minimum_days} days")?;
        writeln!(
            out,
            "             ${restore_bulk:.2} for all of it back, thawed in 48 hours; in 12, ${restore_standard:.2}"
        )?;
        writeln!(out, "             of which ${restore_egress:.2} are the way out of the region")?;
        Ok(writeln!(out, "             prices of {region} as of {date}, thawed copies kept for {COPY_DAYS} days")?)
    }
}
