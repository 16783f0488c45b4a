//! By which names a pass stands in the vault. They are settled when it begins, whatever is configured later: its pieces
//! must all lie in one place.

use super::{
    Names,
    context::{Context, random_id},
};
use crate::{
    catalog::{CatalogError, PassRow},
    name::{PassId, SourceName},
};

/// Setting of the catalog: the id that stands for the host.
pub const HOST_ID: &str = "host-id";

/// Setting of the catalog: the id that stands for a source.
pub fn source_id(source: &SourceName) -> String {
    format!("source-id.{source}")
}

pub struct Naming {
    pub names: Names,
    host: String,
    /// The name of the source, or a random id that the catalog keeps.
    pub source_id: String,
}

impl Naming {
    /// Of a pass that begins now.
    pub fn next(ctx: &Context, source: &SourceName) -> Result<Naming, CatalogError> {
        Naming::with(ctx, source, ctx.options.names)
    }

    pub fn of(ctx: &Context, source: &SourceName, pass: PassId) -> Result<Naming, CatalogError> {
        match ctx.catalog.pass(source, pass)? {
            Some(PassRow { source_id, .. }) if source_id == source.as_str() => Naming::with(ctx, source, Names::Plain),
            Some(_) => Naming::with(ctx, source, Names::Opaque),
            None => Naming::next(ctx, source),
        }
    }

    /// All that passes of this source may have had.
    pub fn every(ctx: &Context, source: &SourceName) -> Result<Vec<Naming>, CatalogError> {
        let mut all = vec![Naming::with(ctx, source, Names::Plain)?];
        if ctx.catalog.setting(&source_id(source))?.is_some() {
            all.push(Naming::with(ctx, source, Names::Opaque)?);
        }
        Ok(all)
    }

    /// Makes the catalog know the ids of a pass that stands below `prefix`.
    pub fn recall(ctx: &Context, source: &SourceName, prefix: &str) -> Result<Naming, CatalogError> {
        let mut ids = prefix.split('/').map(str::to_owned);
        match (ids.next(), ids.next()) {
            (Some(host), Some(id)) if id != source.as_str() => {
                ctx.catalog.setting_or(HOST_ID, || host)?;
                ctx.catalog.setting_or(&source_id(source), || id)?;
                Naming::with(ctx, source, Names::Opaque)
            }
            _ => Naming::with(ctx, source, Names::Plain),
        }
    }

    fn with(ctx: &Context, source: &SourceName, names: Names) -> Result<Naming, CatalogError> {
        let (host, source_id) = match names {
            Names::Plain => (ctx.host.clone(), source.to_string()),
            Names::Opaque => {
                let id = |name: &str| ctx.catalog.setting_or(name, random_id);
                (id(HOST_ID)?, id(&source_id(source))?)
            }
        };
        Ok(Naming { names, host, source_id })
    }

    /// The directory of all such passes, with the trailing `/`.
    pub fn below(&self) -> String {
        format!("{}/{}/", self.host, self.source_id)
    }

    /// The directory of a pass, with the trailing `/`.
    pub fn prefix(&self, pass: PassId) -> String {
        format!("{}{pass}/", self.below())
    }
}
