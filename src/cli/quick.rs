//! The ordinary `run`, read without building any definitions: `NAME run [-F] [-n] [-q] [--] COMMAND…`.
//!
//! Building clap's definitions costs more than taking the lock. A line that consists of nothing but these words means
//! the same to the general reader ([`super::parse`]; a test holds both against each other); any other line is left
//! to it.

use super::args::{Common, Create, OnAbandoned, Payload, RunArgs, Task, Until};
use super::words::Command;
use resourcelock::{Mode, Wait};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// What the words (without the program's own name) ask for, if they are an ordinary `run`.
pub fn read(words: &[OsString]) -> Option<(Common, Task)> {
    let [name, run, rest @ ..] = words else { return None };
    if run != Command::Run.word() || name == "help" || is_option(name) {
        return None;
    }
    let mut common = Common::default();
    let mut wait = Wait::Forever;
    let mut no_fork = false;
    let mut rest = rest.iter();
    let command = loop {
        let word = rest.next()?;
        match word.as_bytes() {
            b"-F" | b"--no-fork" => no_fork = true,
            b"-n" | b"--nonblock" | b"--nb" => wait = Wait::No,
            b"-q" | b"--quiet" => common.quiet = true,
            b"--" => break rest.next()?,
            _ if is_option(word) => return None,
            _ => break word,
        }
    };
    let task = Task::Run(Box::new(RunArgs {
        name: name.to_str()?.to_owned(),
        payload: Payload::Words(std::iter::once(command).chain(rest).cloned().collect()),
        wait,
        conflict_exit_code: None,
        message: None,
        mode: Mode::Exclusive,
        same_process_ok: false,
        create: Create::default(),
        limit: None,
        kill_after: None,
        signal: None,
        no_fork,
        until: Until::Command,
        replace: false,
        on_abandoned: OnAbandoned::Run,
        recover: None,
        ttl: None,
    }));
    Some((common, task))
}

/// Anything that begins like an option, a lone dash and the empty word too: what those mean is not decided here.
fn is_option(word: &OsString) -> bool {
    matches!(word.as_bytes().first(), None | Some(b'-'))
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Parsed, generally};
    use super::read;
    use std::ffi::OsString;

    const WORDS: [&str; 24] = [
        "run",
        "run",
        "run",
        "run",
        "bus",
        "/bus",
        "list",
        "help",
        "get",
        "-F",
        "--no-fork",
        "-n",
        "--nb",
        "-q",
        "--",
        "ls",
        "-l",
        "-",
        "",
        "-t",
        "5",
        "-nF",
        "-h",
        "--quiet",
    ];

    #[test]
    fn means_what_the_general_reader_says() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut read_quickly = 0;
        for round in 0..20_000 {
            let mut line: Vec<OsString> = (0..random(7)).map(|_| WORDS[random(WORDS.len())].into()).collect();
            if round % 2 == 0 {
                line.splice(0..0, ["bus".into(), "run".into()]);
            }
            if let Some((common, task)) = read(&line) {
                read_quickly += 1;
                match generally(line.clone()) {
                    Ok(Parsed::Task(c, t)) => assert_eq!((common, task), (c, t), "{line:?}"),
                    other => panic!("{line:?} means {other:?}"),
                }
            }
        }
        assert!(read_quickly > 1_000, "{read_quickly}");
    }

    #[test]
    fn the_ordinary_lines_are_read_here() {
        for line in [
            &["bus", "run", "ls"][..],
            &["bus", "run", "--", "-x"],
            &["bus", "run", "-F", "-n", "--", "a", "-b"],
        ] {
            assert!(
                read(&line.iter().map(OsString::from).collect::<Vec<_>>()).is_some(),
                "{line:?}"
            );
        }
    }
}
