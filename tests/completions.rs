//! The completion scripts in the real shells.

mod common;

use common::{TestLock, binary, printed};
use std::path::Path;
use std::process::Command;

/// A shell that finds the real binary under its name.
fn shell(name: &str, arguments: &[&str]) -> Command {
    let program = binary().get_program().to_owned();
    let folder = Path::new(&program)
        .parent()
        .expect("the binary lies in a folder")
        .to_owned();
    let path = std::env::join_paths(
        std::iter::once(folder).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env("PATH", path.expect("a path"))
        .env("HOME", "/nonexistent")
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// What bash offers for the words, split as bash splits them (at `=` and `:` as well).
fn bash(line: &str, words: &[&str]) -> Vec<String> {
    let script = r#"
        source completions/resourcelock.bash
        COMP_LINE=$1; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        compopt() { echo "compopt $*"; }
        _resourcelock resourcelock "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = shell("bash", &["--norc", "-c", script, "bash", line]);
    command.args(words);
    printed(&mut command).lines().map(str::to_owned).collect()
}

/// What zsh offers: its own functions are replaced by such that say with what they were called.
fn zsh(words: &[&str]) -> Vec<String> {
    let script = r#"
        compdef() { }
        _describe() { print -rl -- "${(@P)argv[-1]}" }
        _files() { print files }
        _command_names() { print programs }
        _normal() { print -- "line: $words ($CURRENT)" }
        source completions/_resourcelock
        words=("$@"); CURRENT=$#; PREFIX=$words[CURRENT]
        _resourcelock
    "#;
    let mut command = shell("zsh", &["-f", "-c", script, "zsh"]);
    command.args(words);
    printed(&mut command).lines().map(str::to_owned).collect()
}

/// What fish offers for a line; a tab stands before the description.
fn fish(line: &str) -> Vec<String> {
    let mut command = shell(
        "fish",
        &[
            "--no-config",
            "-c",
            "source completions/resourcelock.fish; complete -C $argv[1]",
            line,
        ],
    );
    let home = tempfile::tempdir().expect("a folder");
    printed(command.env("HOME", home.path()))
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_offers_commands_options_and_values() {
    assert_eq!(bash("resourcelock bus st", &["resourcelock", "bus", "st"]), ["state"]);
    assert_eq!(
        bash("resourcelock -t 5 bus tr", &["resourcelock", "-t", "5", "bus", "tr"]),
        ["trace"]
    );
    assert_eq!(
        bash("resourcelock bus run --un", &["resourcelock", "bus", "run", "--un"]),
        ["--until"]
    );
    let value = ["resourcelock", "bus", "run", "--until", "=", "t"];
    assert_eq!(bash("resourcelock bus run --until=t", &value), ["tree"]);
    let values = ["resourcelock", "bus", "run", "--until", "="];
    assert_eq!(bash("resourcelock bus run --until=", &values), ["command", "tree"]);
    assert_eq!(
        bash(
            "resourcelock bus history --svg ",
            &["resourcelock", "bus", "history", "--svg", ""]
        ),
        ["compopt -o default"]
    );
    let programs = bash(
        "resourcelock bus run -- unshar",
        &["resourcelock", "bus", "run", "--", "unshar"],
    );
    assert!(programs.contains(&"unshare".to_owned()), "{programs:?}");
    assert_eq!(
        bash("resourcelock bus run ls ", &["resourcelock", "bus", "run", "ls", ""]),
        ["compopt -o default"]
    );
}

#[test]
fn bash_quotes_the_names_of_locks() {
    let lock = TestLock::new("complete me:now");
    drop(lock.open());
    let (begun, _) = lock.name().split_once(' ').expect("it has a space");
    let quoted = lock.name().replace(' ', "\\ ");
    let line = format!("resourcelock {begun}");
    assert!(bash(&line, &["resourcelock", begun]).contains(&quoted));
    let open_quote = format!("'{begun}");
    let in_quotes = bash(&format!("resourcelock {open_quote}"), &["resourcelock", &open_quote]);
    assert!(in_quotes.contains(&lock.name().to_owned()), "{in_quotes:?}");
    // Behind a colon bash replaces only the rest.
    let (before, after) = quoted.split_once(':').expect("it has a colon");
    let words = ["resourcelock", before, ":", &after[..2]];
    let rest = bash(&format!("resourcelock {before}:{}", &after[..2]), &words);
    assert!(rest.contains(&after.to_owned()), "{rest:?}");
}

#[test]
fn zsh_offers_commands_options_and_values() {
    assert_eq!(
        zsh(&["resourcelock", "bus", "st"]),
        ["state:Show who has the lock and who waits"]
    );
    assert_eq!(
        zsh(&["resourcelock", "-t", "5", "bus", "tr"]),
        ["trace:Follow the lock"]
    );
    assert_eq!(zsh(&["resourcelock", "bus", "run", "--until", "t"]), ["tree:"]);
    assert_eq!(zsh(&["resourcelock", "bus", "history", "--svg", ""]), ["files"]);
    assert_eq!(zsh(&["resourcelock", "bus", "run", "-c", ""]), ["programs"]);
    assert_eq!(
        zsh(&["resourcelock", "-n", "bus", "run", "--", "ls", "-l"]),
        ["line: ls -l (2)"]
    );
    assert_eq!(zsh(&["resourcelock", "bus", "run", "l"]), ["line: l (1)"]);
    let lock = TestLock::new("zsh:name");
    assert!(lock.command(&["get", "-q"]).status().expect("it runs").success());
    let offered = zsh(&["resourcelock", lock.name().split(':').next().expect("a part")]);
    let wanted = format!("{}:locked", lock.name().replace(':', "\\:"));
    assert!(offered.contains(&wanted), "{offered:?}");
}

#[test]
fn fish_offers_commands_options_and_values() {
    assert_eq!(
        fish("resourcelock bus st"),
        ["state\tShow who has the lock and who waits"]
    );
    assert_eq!(fish("resourcelock -t 5 bus tr"), ["trace\tFollow the lock"]);
    assert_eq!(fish("resourcelock bus run --until t"), ["tree"]);
    assert_eq!(fish("resourcelock bus run --until=t"), ["--until=tree"]);
    let files = fish("resourcelock bus history --svg Cargo.to");
    assert!(files.iter().any(|line| line.starts_with("Cargo.toml")), "{files:?}");
    let programs = fish("resourcelock bus run unshar");
    assert!(programs.iter().any(|line| line.starts_with("unshare")), "{programs:?}");
    let arguments = fish("resourcelock bus run -n -- cat Cargo.to");
    assert!(
        arguments.iter().any(|line| line.starts_with("Cargo.toml")),
        "{arguments:?}"
    );
    let lock = TestLock::new("fish name");
    assert!(lock.command(&["get", "-q"]).status().expect("it runs").success());
    let offered = fish(&format!(
        "resourcelock {}",
        lock.name().split(' ').next().expect("a part")
    ));
    assert!(offered.contains(&format!("{}\tlocked", lock.name())), "{offered:?}");
}

#[test]
fn the_program_prints_the_scripts_that_are_packaged() {
    for (name, file) in [
        ("bash", "resourcelock.bash"),
        ("zsh", "_resourcelock"),
        ("fish", "resourcelock.fish"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(file);
        let packaged = std::fs::read_to_string(path).expect("the script is there");
        assert_eq!(printed(binary().args(["completions", name])), packaged, "{name}");
    }
}

/// mandoc and groff have nothing to say against the manual page.
#[test]
fn the_manual_page_is_clean() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/resourcelock.1");
    let mandoc = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .arg(&page)
        .output()
        .expect("mandoc runs");
    assert_eq!(String::from_utf8_lossy(&mandoc.stdout), "");
    let groff = Command::new("groff")
        .args(["-man", "-ww", "-Tutf8", "-z"])
        .arg(&page)
        .output()
        .expect("groff runs");
    assert_eq!(String::from_utf8_lossy(&groff.stderr), "");
}
