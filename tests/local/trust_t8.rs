//! T8: nothing secret is published.

use crate::common::{LineChild, TestLock, printed};

/// What others can read about a command that runs with these arguments of `run`.
fn shown(words: &[&str]) -> String {
    let lock = TestLock::new("t8");
    let mut run = LineChild::spawn(lock.command(&[&["run"], words].concat()).env("SHELL", "/bin/sh"));
    run.wait_for_line("up");
    let mut text = printed(&mut lock.command(&["state"]));
    text.push_str(&printed(&mut lock.command(&["state", "--json"])));
    text.push_str(&String::from_utf8_lossy(
        &std::fs::read(lock.paths().note_path()).unwrap(),
    ));
    run.close_input();
    assert!(run.wait().success());
    text.push_str(&printed(&mut lock.command(&["history", "--json"])));
    text
}

#[test]
fn the_text_of_a_shell_command_is_not_shown() {
    let text = shown(&["-c", "PASSWORD=hunter2; echo up; read line; :"]);
    assert!(text.contains("sh -c") && !text.contains("hunter2"), "{text}");
}

#[test]
fn arguments_are_not_shown() {
    let text = shown(&["--", "sh", "-c", "echo up; read line; :", "hunter2"]);
    assert!(text.contains("sh") && !text.contains("hunter2"), "{text}");
}

#[test]
fn they_are_if_that_is_asked_for() {
    let text = shown(&["--show-args", "--", "sh", "-c", "echo up; read line; :", "a b"]);
    assert!(text.contains("sh -c 'echo up; read line; :' 'a b'"), "{text}");
    let text = shown(&["--show-args", "-c", "echo up; read line; :"]);
    assert!(text.contains("sh -c 'echo up; read line; :'"), "{text}");
}
