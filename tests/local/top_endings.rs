//! However `top` ends, or is stopped: the terminal is as it was before, and nobody has to wait for that.

use crate::common::pty::open_terminal;
use crate::common::run::{lives, signal};
use crate::common::{Tmux, binary, process_state, wait_until};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

/// A terminal in which a lock is held.
fn terminal() -> Tmux {
    let tmux = Tmux::shell(80, 24);
    tmux.beside("\"$RL\" -q i2c get -m 'bus scan'");
    tmux
}

/// `top` in a shell that does not itself repair the terminal, as an interactive one would.
const CHECKED: &str =
    r#"sh -c 'a=$(stty -g); "$RL" top; s=$?; [ "$a" = "$(stty -g)" ] && echo "as bef""ore, status $s."'"#;

/// True if the window is an ordinary one again.
fn is_ordinary(tmux: &Tmux) -> bool {
    tmux.asks("#{alternate_on} #{cursor_flag} #{wrap_flag}") == "0 1 1"
}

#[test]
fn signals() {
    let tmux = terminal();
    for (number, status) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
        (Signal::SIGUSR1, 138),
        (Signal::SIGINT, 0),
    ] {
        tmux.line(CHECKED);
        tmux.see_row(&["i2c", "bus", "scan"]);
        assert!(!is_ordinary(&tmux));
        signal(tmux.process(), number);
        tmux.see(&format!("as before, status {status}."));
        assert!(is_ordinary(&tmux), "after {number}");
    }
}

#[test]
fn stopped_and_continued() {
    let tmux = terminal();
    tmux.line("\"$RL\" top");
    for _ in 0..2 {
        tmux.see_row(&["i2c", "bus", "scan"]);
        tmux.press("C-z");
        tmux.see("Stopped");
        assert!(is_ordinary(&tmux));
        tmux.line("clear; stty -a | grep -o ' icanon.* echo '");
        tmux.see("icanon ");
        tmux.line("fg");
    }
    // Stopped by force, when it cannot prepare for that.
    tmux.see_row(&["i2c", "bus", "scan"]);
    signal(tmux.process(), Signal::SIGSTOP);
    tmux.see("Stopped");
    tmux.line("tput rmcup; clear; fg");
    tmux.see_row(&["i2c", "bus", "scan"]);
    tmux.keys("q");
    tmux.at_prompt();
    tmux.line("clear; echo sta\"\"tus=$?; stty -a | grep -o ' icanon.* echo '");
    tmux.see("icanon ");
    assert!(is_ordinary(&tmux));
}

/// A stopped job is ended by its shell, also if it was to go on in the background.
#[test]
fn a_stopped_job_is_ended() {
    let tmux = terminal();
    // In the background it is stopped once more. Only when the shell knows that does it continue what it ends.
    for end in [
        "kill %%",
        "bg; until jobs | grep -q Stopped; do sleep 0.01; done; kill %%",
    ] {
        tmux.line("\"$RL\" top");
        tmux.see_row(&["i2c", "bus", "scan"]);
        let top = tmux.process();
        tmux.press("C-z");
        tmux.see("Stopped");
        tmux.line(&format!("clear; {end}"));
        wait_until("it has ended", || !lives(top));
        assert!(is_ordinary(&tmux));
        tmux.line("clear; wait; echo en\"\"ded");
        let screen = tmux.see("ended");
        assert!(!screen.contains("LOCK"), "{screen}");
    }
}

/// In the background from the beginning, it waits until it is brought to the front.
#[test]
fn from_the_background() {
    let tmux = terminal();
    tmux.line("\"$RL\" top &");
    wait_until("it is stopped", || process_state(tmux.process()) == Some('T'));
    assert!(is_ordinary(&tmux));
    tmux.line("fg");
    tmux.see_row(&["i2c", "bus", "scan"]);
    tmux.keys("q");
    tmux.at_prompt();
    assert!(is_ordinary(&tmux));
}

/// The shell that started it dies, and the terminal is another one's: it ends, and draws over nobody.
#[test]
fn left_behind_by_its_shell() {
    let tmux = terminal();
    tmux.line("PS1='inner ' bash --norc --noprofile --noediting -i");
    tmux.see("inner");
    let inner = tmux.process();
    tmux.line("\"$RL\" top");
    tmux.see_row(&["i2c", "bus", "scan"]);
    let top = tmux.process();
    assert_ne!(top, inner);
    signal(inner, Signal::SIGKILL);
    wait_until("it has ended", || !lives(top));
    tmux.line("echo af\"\"ter");
    tmux.see("after");
    assert!(is_ordinary(&tmux));
    tmux.line("clear; stty -a | grep -o ' icanon.* echo '");
    tmux.see("icanon ");
}

#[test]
fn the_terminal_is_gone() {
    for ignored in ["", "trap \"\" HUP; "] {
        let tmux = terminal();
        tmux.line(&format!("sh -c '{ignored}exec \"$RL\" top'"));
        tmux.see_row(&["i2c", "bus", "scan"]);
        let top = tmux.process();
        drop(tmux);
        wait_until("it has ended", || !lives(top));
    }
}

/// `top` on a terminal whose first picture is larger than what the kernel keeps of it; the terminal's other side, from
/// which the first byte has been read.
fn on_a_large_terminal() -> (Child, File) {
    let (mut master, slave) = open_terminal();
    let copy = || slave.try_clone().unwrap();
    let size = Command::new("stty")
        .args(["rows", "3000", "cols", "200"])
        .stdin(copy())
        .status();
    assert!(size.unwrap().success());
    let mut top = Command::new("setsid");
    top.arg("--ctty")
        .arg(binary().get_program())
        .arg("top")
        .env("TERM", "xterm");
    top.env_remove("RESOURCELOCK_BACKEND");
    let top = top.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    let mut first = [0];
    master.read_exact(&mut first).unwrap();
    assert_eq!(first, [0x1b]);
    (top, master)
}

/// A terminal that takes nothing keeps nobody from ending it.
#[test]
fn a_terminal_that_nobody_reads() {
    let (mut top, mut master) = on_a_large_terminal();
    master.write_all(b"q").unwrap();
    assert_eq!(top.wait().unwrap().code(), Some(0));
    let (mut top, _master) = on_a_large_terminal();
    signal(top.id(), Signal::SIGTERM);
    assert_eq!(top.wait().unwrap().signal(), Some(15));
}

/// A slow one gets the latest picture when it has taken the one before.
#[test]
fn a_slow_terminal() {
    let (mut top, mut master) = on_a_large_terminal();
    master.write_all(b"/no-such-lock-").unwrap();
    let mut seen = String::new();
    read_until(&mut master, &mut seen, "no-such-lock-'");
    assert!(seen.contains("\x1b[3000;1H") && !seen.contains("\x1b[?1049l"));
    master.write_all(b"\x03").unwrap();
    read_until(&mut master, &mut seen, "\x1b[?1049l");
    assert_eq!(top.wait().unwrap().code(), Some(0));
}

/// Reads what is written to a terminal until that appears.
fn read_until(master: &mut File, seen: &mut String, text: &str) {
    let mut bytes = [0; 4096];
    while !seen.contains(text) {
        let length = master.read(&mut bytes).expect("it goes on");
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
}
