//! What one configuration says that another does not.

use super::Settings;
use crate::notice::SettingChange;
use serde_json::Value;
use std::collections::BTreeMap;

impl Settings {
    /// Every key whose value in force is another in `new`, in order of keys. Keys of a source carry its name:
    /// `source.data.path`.
    pub fn changes_to(&self, new: &Settings) -> Vec<SettingChange> {
        let urls = [self, new].map(|settings| settings.heartbeat.as_ref().map(|heartbeat| &heartbeat.url));
        let (old, new) = (flat(self), flat(new));
        // What is not shown of it is another.
        let is_hidden = |key: &str| key == "heartbeat.url" && urls[0] != urls[1];
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter()
            .filter(|key| old.get(*key) != new.get(*key) || is_hidden(key))
            .map(|key| SettingChange { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() })
            .collect()
    }
}

fn flat(settings: &Settings) -> BTreeMap<String, String> {
    let value = serde_json::to_value(settings).expect("settings are tables of texts, numbers and lists");
    let mut flat = BTreeMap::new();
    add(&mut flat, "", &value);
    flat
}

fn add(flat: &mut BTreeMap<String, String>, place: &str, value: &Value) {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| add(flat, &below(key), value)),
        Value::Array(list) if place == "source" => {
            for source in list {
                add(flat, &below(source["name"].as_str().unwrap_or_default()), source);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(flat.insert(place.to_owned(), text.clone())),
        other => drop(flat.insert(place.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Settings, parse};
    use std::path::Path;

    fn settings(more: &str) -> Settings {
        let text = format!(
            "[staging]\ncap = \"2TB\"\n[[source]]\nname = \"data\"\npath = \"/data\"\n[encrypt]\nmethod = \"none\"\n\
             [vault]\nurl = \"file:///mnt/vault\"\n{more}"
        );
        parse(&text, Path::new("archiver.toml")).unwrap()
    }

    #[test]
    fn changes_name_the_key_and_both_values() {
        let old = settings("[upload]\nbandwidth = \"10MB/s\"\nwindow = [\"20:00-07:00\"]\n");
        let new = settings(
            "[upload]\nwindow = [\"21:00-07:00\"]\n[compress]\nlevel = 6\n[[source]]\nname = \"b\"\npath = \"/b\"\n\
             repeat = \"90d\"\n",
        );
        let told: Vec<String> = old.changes_to(&new).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "source.b.exclude: none -> []",
                "source.b.include: none -> []",
                "source.b.name: none -> b",
                "source.b.one_file_system: none -> false",
                "source.b.path: none -> /b",
                "source.b.repeat: none -> 90d",
                "source.b.require_mount: none -> false",
                "upload.bandwidth: 10MB/s -> none",
                "upload.window: [\"20:00-07:00\"] -> [\"21:00-07:00\"]",
            ]
        );
        assert!(old.changes_to(&old).is_empty());
    }
}
