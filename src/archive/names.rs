//! Names of users and groups, from the text of `/etc/passwd` and `/etc/group`.
//!
//! They are for people: what counts in an archive are the numbers. No other user database is asked, which could
//! hang a pass on a directory server.

use std::{collections::HashMap, fs};

#[derive(Clone, Debug, Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// Those of this host; files that are not there or not readable give none.
    pub fn load() -> Names {
        Names::parse(&fs::read("/etc/passwd").unwrap_or_default(), &fs::read("/etc/group").unwrap_or_default())
    }

    pub fn parse(passwd: &[u8], group: &[u8]) -> Names {
        Names { users: table(passwd), groups: table(group) }
    }

    /// Empty when it has none.
    pub fn user(&self, uid: u32) -> &str {
        self.users.get(&uid).map_or("", String::as_str)
    }

    /// Empty when it has none.
    pub fn group(&self, gid: u32) -> &str {
        self.groups.get(&gid).map_or("", String::as_str)
    }
}

/// Lines of `name:password:id:…`. Of several names of one id the first counts, as for `getpwuid`.
fn table(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b':');
        let (name, _, id) = (fields.next(), fields.next(), fields.next());
        let name = name.and_then(|name| std::str::from_utf8(name).ok()).filter(|name| !name.is_empty());
        let id = id.and_then(|id| std::str::from_utf8(id).ok()).and_then(|id| id.parse().ok());
        if let (Some(name), Some(id)) = (name, id) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_counts_and_rubbish_is_passed_over() {
        let names = Names::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n+::::\n\xff:x:7:\nbig:x:4294967294:1::/:\n",
            b"users:x:100:a,b\nbroken\n",
        );
        assert_eq!((names.user(0), names.user(7), names.user(4_294_967_294)), ("root", "", "big"));
        assert_eq!((names.group(100), names.group(0)), ("users", ""));
    }
}
