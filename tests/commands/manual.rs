//! Promises about man pages and completions: there is one for everything, and they are those of this program.

use super::common::{BINARY, World};

/// Words that begin with `--` in a text.
fn options(text: &str) -> Vec<String> {
    let words = text.replace("\\-", "-").replace("\\fB", " ").replace("\\fR", " ");
    let words = words.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let mut found: Vec<String> = words.filter(|word| word.starts_with("--")).map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn there_is_a_page_for_each_command_with_all_its_options_and_one_for_the_configuration() {
    let world = World::new();
    let list = world.archiver(&["man", "--list"]).expect(0).text();
    let pages: Vec<&str> = list.lines().collect();
    assert!(pages.contains(&"archiver.1") && pages.contains(&"archiver.toml.5"), "{list}");
    let help = world.archiver(&["--help"]).expect(0).text();
    let named = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a command does may go on in a second line.
    let named = named.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> =
        named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(commands.contains(&"plan") && commands.len() + 2 == pages.len(), "{help}{list}");
    for command in commands {
        assert!(pages.contains(&format!("archiver-{command}.1").as_str()), "{command}");
        let page = world.archiver(&["man", command]).expect(0).text();
        assert!(page.contains(&format!(".TH archiver-{command} 1")), "{page}");
        let mut expected = options(&world.archiver(&[command, "--help"]).expect(0).text());
        expected.retain(|option| *option != "--version");
        let told = options(&page);
        assert!(expected.iter().all(|option| told.contains(option)), "{command}: {expected:?} {told:?}");
    }
    let main = world.archiver(&["man"]).expect(0).text();
    assert!(main.contains(".SH \"EXIT STATUS\"") && main.contains("75"), "{main}");
    assert!(world.archiver(&["man", "archiver.toml"]).expect(0).text().contains("one_file_system = false"));
    assert!(world.archiver(&["man", "nothing"]).expect(2).stderr.contains("There is no page \"nothing\""));
}

#[test]
fn an_installation_has_every_page_and_all_can_read_it() {
    let world = World::new();
    let to = world.dir("installed");
    let script = "umask 077; cd \"$1\"; env -u MAKEFLAGS make -s install BINARY=\"$2\" DESTDIR=\"$3\" PREFIX=/usr; \
                  cd \"$3\"; find . -type f -printf '%m %s %P\\n' | sort";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let ran = world.bash(script, &[root, BINARY, to.to_str().unwrap()]).expect(0);
    let files: Vec<(String, String)> = ran
        .text()
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            assert!(words[1] != "0", "{line} is empty");
            (words[2].to_owned(), words[0].to_owned())
        })
        .collect();
    let list = world.archiver(&["man", "--list"]).expect(0).text();
    let pages = list.lines().map(|page| format!("usr/share/man/man{}/{page}", &page[page.len() - 1..]));
    let others = [
        "usr/share/bash-completion/completions/archiver",
        "usr/share/zsh/vendor-completions/_archiver",
        "usr/share/fish/vendor_completions.d/archiver.fish",
        "usr/lib/systemd/system/archiver.service",
    ];
    for file in pages.chain(others.map(str::to_owned)) {
        assert!(files.contains(&(file.clone(), "644".to_owned())), "{file}: {files:?}");
    }
    assert!(files.contains(&("usr/bin/archiver".to_owned(), "755".to_owned())), "{files:?}");
}

#[test]
fn bash_completes_commands_and_options() {
    let world = World::new();
    let script = "eval \"$(\"$1\" completions bash)\"; COMP_WORDS=(archiver \"${@:2}\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
                  _archiver archiver \"${@: -1}\" \"${@: -2:1}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    for (typed, expected) in [(&["pl"][..], "plan"), (&["plan", "--fr"], "--fresh"), (&["run", "--on"], "--once")] {
        let ran = world.bash(script, &[&[BINARY], typed].concat()).expect(0);
        assert_eq!(ran.text().lines().collect::<Vec<_>>(), [expected], "{typed:?}");
    }
    for shell in ["zsh", "fish"] {
        let text = world.archiver(&["completions", shell]).expect(0).text();
        assert!(text.contains("plan") && text.contains("fresh"), "{shell}");
    }
}
