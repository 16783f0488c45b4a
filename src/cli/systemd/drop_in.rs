//! What of the unit follows from the configuration: where it may write, what must be mounted before, and what must not
//! be hidden. Runs at early boot, so it looks at no file system but at those of `/etc` and `/proc`.

use crate::config::Parts;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt::Write,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// Settings of the unit that hide files from the service, with what they hide; the unit's ARCHIVER_HIDDEN names all.
const HIDING: [(&[&str], &[&str]); 3] = [
    (&["PrivateTmp"], &["/tmp", "/var/tmp"]),
    (&["PrivateDevices", "ProtectKernelLogs"], &["/dev"]),
    (&["ProtectKernelModules"], &["/lib/modules", "/usr/lib/modules"]),
];

/// Below these, what is mounted comes and goes.
const REMOVABLE: [&str; 3] = ["/run/media", "/media", "/mnt"];

/// Much else lies there: only the vault itself is made writable.
const BROAD: [&str; 8] = ["/", "/etc", "/home", "/opt", "/root", "/srv", "/usr", "/var"];

/// The drop-in.
pub fn text(file: &Path, parts: &Parts, mounts: &BTreeSet<PathBuf>) -> String {
    let needed = [&parts.state, &parts.staging];
    let vault = parts.vault.as_ref().map(|vault| writable(vault, mounts, parts));
    let metrics = parts.textfile.as_deref().and_then(Path::parent).map(Path::to_owned);
    let mut text = format!("# Made from {file:?} at boot and by `systemctl daemon-reload`.\n[Unit]\n");
    for path in needed.iter().filter_map(|path| quoted("", path)) {
        let _ = writeln!(text, "RequiresMountsFor={path}");
    }
    text.push_str("[Service]\n");
    // What is missing is told by the daemon, with more than systemd would say.
    for path in needed.into_iter().chain(&vault).chain(&metrics).filter_map(|path| quoted("-", path)) {
        let _ = writeln!(text, "ReadWritePaths={path}");
    }
    let mut hidden = Vec::new();
    for (settings, paths) in HIDING {
        let mut own = needed.into_iter().chain(&parts.vault).chain(&parts.sources);
        if own.any(|own| paths.iter().any(|path| own.starts_with(path) || Path::new(path).starts_with(own))) {
            text.extend(settings.iter().map(|setting| format!("{setting}=no\n")));
        } else {
            hidden.extend_from_slice(paths);
        }
    }
    let _ = writeln!(text, "Environment=ARCHIVER_HIDDEN={}", hidden.join(":"));
    text
}

/// What must be writable for a vault. A directory below a mount point would be mounted over itself, and that mount
/// would keep the filesystem from being unmounted for as long as the service runs, without anybody being told; the
/// mount point itself is left as it is.
fn writable(vault: &Path, mounts: &BTreeSet<PathBuf>, parts: &Parts) -> PathBuf {
    let removable = REMOVABLE.iter().find_map(|dir| {
        let name = vault.strip_prefix(dir).ok()?.components().next()?;
        Some(Path::new(dir).join(name))
    });
    let mounted = vault.ancestors().find(|above| mounts.contains(*above)).map(Path::to_owned);
    let holds_a_source = |path: &PathBuf| parts.sources.iter().any(|source| source.starts_with(path));
    let is_broad = |path: &PathBuf| BROAD.iter().any(|broad| Path::new(broad) == path);
    let found = mounted.into_iter().chain(removable).filter(|path| !is_broad(path) && !holds_a_source(path));
    found.max_by_key(|path| path.components().count()).unwrap_or_else(|| vault.to_owned())
}

/// A path as a word of a unit's line; `None` for the few that cannot stand there.
fn quoted(prefix: &str, path: &Path) -> Option<String> {
    let path = path.to_str().filter(|path| !path.contains(char::is_control))?;
    Some(format!("\"{prefix}{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}

/// Where something is mounted, or will be.
pub fn mount_points() -> BTreeSet<PathBuf> {
    let now = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let planned = fs::read("/etc/fstab").unwrap_or_default();
    fields(&now, 4).chain(fields(&planned, 1)).filter(|path| path.is_absolute()).collect()
}

fn fields(table: &[u8], column: usize) -> impl Iterator<Item = PathBuf> {
    let lines = table.split(|b| *b == b'\n').filter(|line| !line.starts_with(b"#"));
    lines.filter_map(move |line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.nth(column).map(unescaped)
    })
}

/// `\040` stands for a space.
fn unescaped(word: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(word.len()), word);
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    // One spelling of each.
    Path::new(&OsString::from_vec(bytes)).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(staging: &str, vault: Option<&str>, sources: &[&str]) -> Parts {
        Parts {
            state: "/var/lib/archiver".into(),
            staging: staging.into(),
            vault: vault.map(PathBuf::from),
            sources: sources.iter().map(PathBuf::from).collect(),
            ..Parts::default()
        }
    }

    fn of(parts: &Parts, mounts: &[&str]) -> String {
        text(Path::new("/etc/archiver.toml"), parts, &mounts.iter().map(PathBuf::from).collect())
    }

    #[test]
    fn it_follows_the_configuration() {
        let expected = "# Made from \"/etc/archiver.toml\" at boot and by `systemctl daemon-reload`.\n[Unit]\n\
                        RequiresMountsFor=\"/var/lib/archiver\"\nRequiresMountsFor=\"/archive\"\n[Service]\n\
                        ReadWritePaths=\"-/var/lib/archiver\"\nReadWritePaths=\"-/archive\"\n\
                        ReadWritePaths=\"-/mnt/usb\"\n\
                        Environment=ARCHIVER_HIDDEN=/tmp:/var/tmp:/dev:/lib/modules:/usr/lib/modules\n";
        assert_eq!(of(&parts("/archive", Some("/mnt/usb/vault"), &["/data"]), &["/"]), expected);
    }

    #[test]
    fn metrics_can_be_written_where_they_are_collected() {
        let textfile = Some(PathBuf::from("/var/lib/prometheus/node-exporter/a.prom"));
        let text = of(&Parts { textfile, ..parts("/s", None, &["/data"]) }, &[]);
        assert!(text.contains("ReadWritePaths=\"-/var/lib/prometheus/node-exporter\"\n"), "{text}");
    }

    #[test]
    fn a_vault_is_writable_by_its_mount_point() {
        let mounts = ["/", "/srv", "/backup", "/backup/inner", "/media/ops/disk", "/data"];
        for (vault, source, writable) in [
            ("/backup/vault", "/data", "/backup"),
            ("/backup/inner/vault", "/data", "/backup/inner"),
            ("/backup", "/data", "/backup"),
            ("/backup2/vault", "/data", "/backup2/vault"),
            ("/mnt/usb/deep/vault", "/data", "/mnt/usb"),
            ("/media/ops/disk/vault", "/data", "/media/ops/disk"),
            ("/media/ops/other/vault", "/data", "/media/ops"),
            ("/run/media/ops/x", "/data", "/run/media/ops"),
            ("/data/vault", "/data/home", "/data/vault"),
            ("/srv/backup/vault", "/data", "/srv/backup/vault"),
        ] {
            let text = of(&parts("/s", Some(vault), &[source]), &mounts);
            assert!(text.contains(&format!("ReadWritePaths=\"-{writable}\"\n")), "{vault}: {text}");
        }
        assert!(!of(&parts("/s", None, &["/data"]), &mounts).contains("backup"));
    }

    #[test]
    fn nothing_of_a_source_is_hidden() {
        for (source, shown, hidden) in [
            ("/data", "", "/tmp:/var/tmp:/dev:/lib/modules:/usr/lib/modules"),
            ("/var/tmp/x", "PrivateTmp=no\n", "/dev:/lib/modules:/usr/lib/modules"),
            ("/usr", "ProtectKernelModules=no\n", "/tmp:/var/tmp:/dev"),
            ("/var", "PrivateTmp=no\n", "/dev:/lib/modules:/usr/lib/modules"),
            ("/dev/shm", "PrivateDevices=no\nProtectKernelLogs=no\n", "/tmp:/var/tmp:/lib/modules:/usr/lib/modules"),
            ("/", "PrivateTmp=no\nPrivateDevices=no\nProtectKernelLogs=no\nProtectKernelModules=no\n", ""),
        ] {
            let text = of(&parts("/s", None, &[source]), &[]);
            let told = text.split_once("ReadWritePaths=\"-/s\"\n").unwrap().1;
            assert_eq!(told, format!("{shown}Environment=ARCHIVER_HIDDEN={hidden}\n"), "{source}");
        }
        assert!(of(&parts("/var/tmp/staging", None, &["/data"]), &[]).contains("PrivateTmp=no"));
    }

    #[test]
    fn paths_are_words_of_their_own() {
        assert_eq!(quoted("-", Path::new(r#"/a b%c"d\e"#)).unwrap(), r#""-/a b%%c\"d\\e""#);
        assert_eq!(quoted("", Path::new("/a\nb")), None);
        let table = b"# /dev/sdb /no x\n/dev/sda1\t/mnt/my\\040disk/  ext4\nUUID=1 none swap\nx /a\\b\n\n";
        let found: Vec<_> = fields(table, 1).collect();
        assert_eq!(found, [Path::new("/mnt/my disk"), Path::new("none"), Path::new("/a\\b")]);
    }
}
