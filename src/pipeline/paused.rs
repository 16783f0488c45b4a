//! What an operator told to rest: everything, the reading of a source, or a stage. What is under way is ended first.

use crate::{
    catalog::{Catalog, CatalogError},
    name::SourceName,
    notice::Step,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// Setting of the catalog.
const SETTING: &str = "paused";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Everything,
    /// It is not read; pieces of it that are packed go on.
    Source(SourceName),
    Stage(Step),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    everything: bool,
    sources: BTreeSet<SourceName>,
    stages: BTreeSet<Step>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Everything => f.write_str("everything"),
            Part::Source(source) => write!(f, "source {source}"),
            Part::Stage(step) => write!(f, "stage {}", step.as_str()),
        }
    }
}

impl Paused {
    /// As it was kept; nothing where nothing was.
    pub fn load(catalog: &Catalog) -> Result<Paused, CatalogError> {
        // What a later version may have kept is not understood, and holds nobody up.
        Ok(catalog.setting(SETTING)?.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or_default())
    }

    /// Survives a restart.
    pub fn keep(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        let kept = serde_json::to_string(self).expect("names are text");
        catalog.set_setting(SETTING, &kept)
    }

    #[must_use]
    pub fn with(mut self, part: Part) -> Paused {
        match part {
            Part::Everything => self.everything = true,
            Part::Source(source) => drop(self.sources.insert(source)),
            Part::Stage(step) => drop(self.stages.insert(step)),
        }
        self
    }

    /// [`Part::Everything`] leaves nothing that rests.
    #[must_use]
    pub fn without(mut self, part: &Part) -> Paused {
        match part {
            Part::Everything => return Paused::default(),
            Part::Source(source) => drop(self.sources.remove(source)),
            Part::Stage(step) => drop(self.stages.remove(step)),
        }
        self
    }

    /// Whether this source is not to be read.
    pub fn rests(&self, source: &SourceName) -> bool {
        self.stage_rests(Step::Pack) || self.sources.contains(source)
    }

    pub fn stage_rests(&self, step: Step) -> bool {
        self.everything || self.stages.contains(&step)
    }

    /// What rests.
    pub fn parts(&self) -> Vec<Part> {
        let everything = self.everything.then_some(Part::Everything);
        let sources = self.sources.iter().cloned().map(Part::Source);
        everything.into_iter().chain(sources).chain(self.stages.iter().copied().map(Part::Stage)).collect()
    }

    /// The same for people.
    pub fn texts(&self) -> Vec<String> {
        self.parts().iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_is_what_was_told_to_and_not_told_otherwise() {
        let name = |text: &str| text.parse::<SourceName>().unwrap();
        let paused = Paused::default().with(Part::Source(name("a"))).with(Part::Stage(Step::Upload));
        assert!(paused.rests(&name("a")) && !paused.rests(&name("b")));
        assert!(paused.stage_rests(Step::Upload) && !paused.stage_rests(Step::Compress));
        let all = paused.clone().with(Part::Everything);
        assert!(all.rests(&name("b")) && all.stage_rests(Step::Compress));
        assert_eq!(
            all.clone().without(&Part::Source(name("a"))).parts(),
            [Part::Everything, Part::Stage(Step::Upload)]
        );
        assert!(all.without(&Part::Everything).parts().is_empty());
        assert!(paused.with(Part::Stage(Step::Pack)).rests(&name("b")));
    }

    #[test]
    fn it_is_kept_as_it_is() {
        let dir = tempfile::TempDir::new().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        assert_eq!(Paused::load(&catalog).unwrap(), Paused::default());
        let paused = Paused::default().with(Part::Source("a".parse().unwrap())).with(Part::Stage(Step::Pack));
        paused.keep(&catalog).unwrap();
        assert_eq!(Paused::load(&catalog).unwrap(), paused);
    }
}
