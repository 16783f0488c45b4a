//! Listing in order of keys, as S3 lists: by the bytes of whole keys, where `a-b` comes before `a/b`.

use super::{
    failure::{Failure, absent},
    place::Place,
};
use crate::{
    durable::at,
    vault::{KEY_LEN_MAX, Key, Listed, Thaw},
};
use std::fs;

struct Listing<'a> {
    place: &'a Place,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<Listed>,
}

pub(super) fn list(place: &Place, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>, Failure> {
    let mut listing = Listing { place, prefix, after: after.map_or("", Key::as_str), limit, found: Vec::new() };
    listing.enter("")?;
    Ok(listing.found)
}

impl Listing<'_> {
    /// Lists what is below `dir`, which is empty or ends in `/`. As deep as a key can be, which is not deep.
    fn enter(&mut self, dir: &str) -> Result<(), Failure> {
        for name in self.names(dir)? {
            if self.found.len() >= self.limit {
                break;
            }
            let path = format!("{dir}{name}");
            if name.ends_with('/') {
                if self.may_hold(&path) {
                    self.enter(&path)?;
                }
            } else if path.starts_with(self.prefix) && path.as_str() > self.after {
                let Ok(key) = path.parse::<Key>() else { continue };
                let file = self.place.root().join(&path);
                match fs::symlink_metadata(&file) {
                    Ok(meta) => self.found.push(Listed {
                        key,
                        size: meta.len(),
                        storage_class: String::new(),
                        thaw: Thaw::Ready,
                    }),
                    Err(err) if absent(&err) => {}
                    Err(err) => return Err(at("examine", &file)(err).into()),
                }
            }
        }
        Ok(())
    }

    /// The names in a directory that can be those of keys, directories with a `/`, in order of keys. Names that
    /// begin with a dot, links and other things are not ours.
    fn names(&self, dir: &str) -> Result<Vec<String>, Failure> {
        let path = self.place.root().join(dir);
        let entries = match fs::read_dir(&path) {
            // Removed while we listed; a root that is away is found by whoever called us.
            Err(err) if absent(&err) => return Ok(Vec::new()),
            entries => entries.map_err(at("list", &path))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at("list", &path))?;
            let kind = match entry.file_type() {
                Err(err) if absent(&err) => continue,
                kind => kind.map_err(at("examine", &entry.path()))?,
            };
            match entry.file_name().into_string() {
                Ok(name) if name.parse::<Key>().is_err() => {}
                Ok(name) if kind.is_dir() => names.push(name + "/"),
                Ok(name) if kind.is_file() => names.push(name),
                _ => {}
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether a key below a directory can have the prefix and come after.
    fn may_hold(&self, dir: &str) -> bool {
        dir.len() < KEY_LEN_MAX
            && (dir.starts_with(self.prefix) || self.prefix.starts_with(dir))
            && (dir > self.after || self.after.starts_with(dir))
    }
}
