//! What the Tab key does in zsh.

use crate::common::prompt::{COMMANDS, LINES, Prompt, options_in_help};

#[test]
fn locks_commands_options_and_values() {
    Prompt::zsh().completes(&LINES);
}

#[test]
fn names_are_quoted_as_they_are_typed() {
    Prompt::zsh().completes(&[
        ("a", r"a\ b\;c"),
        (r"a\ b", r"a\ b\;c"),
        ("\"a", "\"a b;c\""),
        ("'a b", "'a b;c'"),
        ("it", r"it\'s"),
        ("\"it", "\"it's\""),
        (r"a\ b\;c sta", r"a\ b\;c state"),
        ("'a b;c' sta", "'a b;c' state"),
        ("x", "x@y"),
        ("x@y sta", "x@y state"),
        ("p:", "p:q=r"),
        ("p:q=r sta", "p:q=r state"),
    ]);
}

#[test]
fn the_command_under_the_lock_is_completed_as_if_it_stood_alone() {
    Prompt::zsh().completes(&[
        ("i2c run printen", "i2c run printenv"),
        ("i2c run -n -- printen", "i2c run -n -- printenv"),
        ("i2c run ls -l /etc/hostn", "i2c run ls -l /etc/hostname"),
        ("i2c run -c printen", "i2c run -c printenv"),
        ("i2c run -t 5 -- resourcelock /l", "i2c run -t 5 -- resourcelock /list"),
        ("x@y run resourcelock i2c un", "x@y run resourcelock i2c unget"),
    ]);
}

#[test]
fn a_lock_is_shown_with_its_state() {
    let (_, listing) = Prompt::zsh().tab("resourcelock ");
    let line = |name: &str| {
        let line = listing
            .lines()
            .find(|line| line.split_whitespace().any(|word| word == name));
        line.unwrap_or_else(|| panic!("no {name} in {listing}")).to_owned()
    };
    assert!(line("i2c").contains("held by"), "{listing}");
    assert!(line("x@y").contains("free"), "{listing}");
    assert!(line("doctor").contains("Look for"), "{listing}");
}

#[test]
fn every_option_of_help_is_offered() {
    let mut zsh = Prompt::zsh();
    for command in COMMANDS {
        let (_, listing) = zsh.tab(&format!("resourcelock {command} -"));
        let (_, listing) = listing.split_once("\r\n").expect("a list under the line");
        let heads = listing
            .lines()
            .map(|line| line.split(" -- ").next().unwrap_or_default());
        let mut offered: Vec<&str> = heads
            .flat_map(str::split_whitespace)
            .filter(|word| word.len() > 1 && word.starts_with('-'))
            .collect();
        let mut expected = options_in_help(command);
        offered.sort_unstable();
        expected.sort_unstable();
        assert_eq!(offered, expected, "{command}: {listing}");
    }
}
