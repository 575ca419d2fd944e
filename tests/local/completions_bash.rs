//! What the Tab key does in bash.

use crate::common::prompt::{COMMANDS, LINES, Prompt, options_in_help};
use crate::common::{binary, printed};
use std::path::Path;

#[test]
fn locks_commands_options_and_values() {
    Prompt::bash("").completes(&LINES);
}

#[test]
fn names_are_quoted_as_they_are_typed() {
    Prompt::bash("").completes(&[
        ("a", r"a\ b\;c"),
        (r"a\ b\", r"a\ b\;c"),
        ("\"a", "\"a b;c\""),
        ("'a b", "'a b;c'"),
        ("it", r"it\'s"),
        ("\"it", "\"it's\""),
        (r"'it'\''", r"'it'\''s'"),
        (r"a\ b\;c sta", r"a\ b\;c state"),
        ("'a b;c' sta", "'a b;c' state"),
        // Characters at which bash splits words.
        ("x", "x@y"),
        ("x@", "x@y"),
        ("x@y sta", "x@y state"),
        ("p:q", "p:q=r"),
        ("p:q=", "p:q=r"),
        ("p:q=r sta", "p:q=r state"),
    ]);
}

#[test]
fn the_command_under_the_lock() {
    Prompt::bash("").completes(&[
        ("i2c run printen", "i2c run printenv"),
        ("i2c run -n -- printen", "i2c run -n -- printenv"),
        ("i2c run ls -l /etc/hostn", "i2c run ls -l /etc/hostname"),
        ("i2c run /etc/hostn", "i2c run /etc/hostname"),
        ("i2c run -c printen", "i2c run -c printenv"),
    ]);
}

#[test]
fn the_command_is_completed_as_if_it_stood_alone() {
    Prompt::bash(". /usr/share/bash-completion/bash_completion").completes(&[
        ("i2c run -t 5 -- resourcelock /l", "i2c run -t 5 -- resourcelock /list"),
        ("x@y run resourcelock i2c un", "x@y run resourcelock i2c unget"),
        ("i2c run printen", "i2c run printenv"),
    ]);
}

#[test]
fn every_option_of_help_is_offered() {
    let mut bash = Prompt::bash("");
    for command in COMMANDS {
        let typed = format!("resourcelock {command} -");
        let (line, _) = bash.key(&typed, "\x1b*");
        let mut offered: Vec<&str> = line
            .trim_start_matches(typed.trim_end_matches('-'))
            .split_whitespace()
            .collect();
        let mut expected = options_in_help(command);
        offered.sort_unstable();
        expected.sort_unstable();
        assert_eq!(offered, expected, "{command}");
    }
}

#[test]
fn the_program_prints_the_scripts_that_are_packaged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, file) in [
        ("bash", "resourcelock.bash"),
        ("zsh", "_resourcelock"),
        ("fish", "resourcelock.fish"),
    ] {
        let packaged = std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(printed(binary().args(["completions", shell])), packaged, "{shell}");
    }
}
