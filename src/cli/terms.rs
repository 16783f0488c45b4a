//! What it takes and costs to have pieces out of the vault, before any of them is asked for.

use super::{Failed, HELD};
use crate::{
    config::{Settings, VaultUrl},
    price::{Return, Stock, Tier},
    units::ByteSize,
    vault::s3,
};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Speed {
    /// Within 48 hours
    Bulk,
    /// Within 12 hours, for eight times as much
    Standard,
}

impl From<Speed> for Tier {
    fn from(speed: Speed) -> Tier {
        match speed {
            Speed::Bulk => Tier::Bulk,
            Speed::Standard => Tier::Standard,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Terms {
    /// How soon what is in an archive class can be read
    #[arg(long, value_enum, default_value = "bulk")]
    pub tier: Speed,
    /// How long thawed copies are kept, days
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=365))]
    pub days: u32,
    /// Refuse what would cost more than this, dollars
    #[arg(long, value_name = "USD", value_parser = budget)]
    pub budget: Option<f64>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

pub fn budget(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "write an amount in dollars, like 12.50".to_owned())
}

/// Pieces, and what they cost on these terms.
pub struct Offer {
    pub pieces: u64,
    pub bytes: u64,
    pub largest: u64,
    /// Until all of them can be read.
    pub hours: u32,
    pub cost: Option<Return>,
    /// They are in a bucket.
    is_s3: bool,
}

impl Offer {
    /// `sizes`: of the pieces.
    pub fn of(sizes: &[u64], settings: &Settings, tier: Tier, days: u32) -> Offer {
        let is_s3 = matches!(settings.vault.url, VaultUrl::S3 { .. });
        let stock = Stock { pieces: sizes.len() as u64, bytes: sizes.iter().sum(), ..Stock::default() };
        let prices = settings.prices.as_ref().filter(|_| is_s3 && !sizes.is_empty());
        Offer {
            pieces: stock.pieces,
            bytes: stock.bytes,
            largest: sizes.iter().copied().max().unwrap_or(0),
            hours: hours(settings, tier),
            cost: prices.map(|prices| prices.restore(&stock, tier, days)),
            is_s3,
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "pieces": self.pieces, "bytes": self.bytes, "largest": self.largest, "thaw_hours": self.hours,
            "cost": self.cost,
        })
    }

    pub fn text(&self) -> String {
        let mut text = format!("{} pieces, {} to fetch", self.pieces, ByteSize(self.bytes));
        if self.hours > 0 {
            text += &format!("; what is frozen can be read within {} hours", self.hours);
        }
        if let Some(cost) = &self.cost {
            text += &format!(
                "; about {:.2} $: {:.2} to thaw, {:.2} for the copies, {:.2} for what leaves the region",
                cost.total(),
                cost.thaw,
                cost.copies,
                cost.egress
            );
        }
        text
    }

    pub fn within_budget(&self, budget: Option<f64>) -> Result<(), Failed> {
        let Some(budget) = budget else { return Ok(()) };
        match &self.cost {
            Some(cost) if cost.total() > budget => {
                Err(Failed::new(HELD, format!("It would cost {:.2} $, and --budget is {budget:.2} $", cost.total())))
            }
            None if self.pieces > 0 && self.is_s3 => {
                let why = "the configuration has no [prices] for this vault";
                Err(Failed::usage(format!("--budget {budget}: {why}, so nobody knows what it would cost")))
            }
            _ => Ok(()),
        }
    }

    /// Asks where money is involved.
    pub fn agree(&self, yes: bool) -> Result<(), Failed> {
        super::agree(yes || self.pieces == 0 || !self.is_s3, "Go on?")
    }
}

/// Within how many hours what is frozen can be read.
pub fn hours(settings: &Settings, tier: Tier) -> u32 {
    let is_frozen = matches!(settings.vault.url, VaultUrl::S3 { .. }) && s3::is_frozen(&settings.vault.storage_class);
    match (is_frozen, tier) {
        (false, _) => 0,
        (true, Tier::Bulk) => 48,
        (true, Tier::Standard) => 12,
    }
}
