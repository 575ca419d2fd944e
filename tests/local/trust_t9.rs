//! T9: what is printed can be pasted, and shows what it is. Locks, notes, commands and users whose names a shell, a
//! terminal or a reader could misread go through every output; the advice in it is pasted into real shells.

use crate::common::{install_script, private_shm};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names of locks. Each would leave a file `pasted` behind if a shell executed more than it should.
const NAMES: [&str; 26] = [
    "plain",
    "$(touch pasted)",
    "`touch pasted`",
    "a;touch pasted;#",
    "a' ; touch pasted ; '",
    "a\" ; touch pasted ; \"",
    "a\\'; touch pasted; '",
    "a\\",
    "a&touch pasted&",
    "a|touch pasted",
    "a b",
    "-q",
    "-1",
    "list",
    "help",
    "get",
    "~root",
    "a!b!!",
    "=ls",
    "*?[a]{b,c}",
    "größe",
    "a\u{202e}b",
    "\u{200b}\u{2066}$(touch pasted)\u{2069}",
    "a\u{2028}touch pasted\u{2028}b",
    "\u{feff}\u{ad}\u{3164}'\u{e0041}\u{200d}",
    "a\\u{202e}b",
];

/// A note, a program's name, and a user's name. (The kernel truncates a program's name to 15 bytes.)
const NOTE: &str = "note\u{202e}\u{200b}\x1b[31m$(touch pasted)";
const PROGRAM: &str = "p\u{202e};\u{feff}x";
const USER: &str = "u\u{2067}$(id)";

/// Prints everything about one lock. `$NAME` is its name, with a slash.
const EVERYTHING: &str = r#"
cd "$FOLDER" || exit 97
exec 2>&1
mount --bind passwd /etc/passwd || exit 96
$RL "$NAME" get -m "$NOTE"
$RL "$NAME" get -t 0; $RL "$NAME" get -t 0 -v; $RL "$NAME" run -t 0 -- true; $RL "$NAME" remove
$RL "$NAME" state; $RL list; $RL list --prometheus; $RL doctor
timeout -s INT 0.2 $RL "$NAME" trace
for shell in bash zsh fish; do $RL completions $shell -- "" ""; $RL completions $shell -- / ""; done
$RL "$NAME" stop; $RL "$NAME" unget; $RL "$NAME" unget; $RL "$NAME" stop; $RL "$NAME" unget --pid 1; $RL "$NAME" unget --token 1
RESOURCELOCK_LOG=trace $RL "$NAME" run -- "./$PROGRAM" "$NAME"
$RL "$NAME" run -- "./$PROGRAM" no; $RL "$NAME" run -- "./no$NOTE"; $RL "$NAME" run --group "$NOTE" -- true
$RL "$NAME" run -- sh -c 'kill -9 $PPID'; $RL "$NAME" run -- false; $RL doctor; $RL "$NAME" unget
$RL "$NAME" trace -f > events & follower=$!
until grep -q released events; do $RL "$NAME" run -- "./$PROGRAM" "$NAME" > /dev/null; done
kill $follower; wait $follower; cat events
$RL "$NAME" history; $RL "$NAME" history --svg -; $RL "$NAME" history --html -; $RL "$NAME" history --svg "no/$NOTE"
$RL "$NAME" run -- sh -c 'kill -SEGV $$'; $RL "$NAME" run --recover false -- true
$RL "$NAME" run --on-abandoned fail -- true; $RL "$NAME" unget
$RL get "$NAME"; $RL "$NAME" frobnicate; $RL "$NAME" frobnicate "$NOTE"; $RL stat "$NAME"; $RL "$NAME" get --frobnicate="$NOTE"
chmod 640 "/dev/shm/sem.${NAME#/}"; $RL doctor
chmod 640 "/dev/shm/resourcelock3.${NAME#/}" "/dev/shm/${NAME#/}"; $RL doctor; chmod 600 /dev/shm/*
echo short > "/dev/shm/resourcelock3.${NAME#/}"; $RL "$NAME" state; $RL "$NAME" get; $RL list; $RL doctor
rm "/dev/shm/resourcelock3.${NAME#/}"; mkdir "/dev/shm/resourcelock3.${NAME#/}"; $RL "$NAME" get; $RL doctor
rmdir "/dev/shm/resourcelock3.${NAME#/}"; rm /dev/shm/*
touch /dev/shm/"resourcelock.${NAME#/}"; $RL "$NAME" run -- true; $RL doctor; rm "/dev/shm/resourcelock.${NAME#/}"
chown 4321:4321 /dev/shm/*; $RL "$NAME" run -- true; $RL "$NAME" state --mine; chgrp 0 /dev/shm/*; chmod 660 /dev/shm/*
$RL "$NAME" run -- true; chown 0:0 /dev/shm/*; chmod 666 /dev/shm/*; $RL "$NAME" run -- true; chmod 755 .; touch program
mount --bind "$RL" program; setpriv --reuid 4321 --regid 4321 --clear-groups ./program "$NAME" remove
setpriv --reuid 4321 --regid 4321 --clear-groups unshare --user --map-root-user ./program "$NAME" get
chown 1234 /dev/shm/*; setpriv --reuid 4321 --regid 4321 --clear-groups unshare --user --map-root-user ./program "$NAME" get
chown 0:0 /dev/shm/*; chmod 777 /dev/shm; $RL "$NAME" run -- true; $RL doctor; chmod 1777 /dev/shm
ln "/dev/shm/sem.${NAME#/}" /dev/shm/other; $RL "$NAME" get; rm /dev/shm/other
rm "/dev/shm/resourcelock3.${NAME#/}"; printf '\1\2' > "/dev/shm/${NAME#/}"; $RL "$NAME" get; $RL doctor
rm /dev/shm/*; mkfifo "/dev/shm/sem.${NAME#/}"; $RL "$NAME" get
"#;

/// Where the program writes advice that contains names or paths, and how often. It all goes through [`EVERYTHING`], but
/// what needs two locks or systemd: what has been added goes there, and into `PARTS` or `MENDED`, before it is counted
/// here.
const ADVICE: [(&str, usize); 12] = [
    ("src/cli/usage.rs", 2),
    ("src/commands/doctor.rs", 1),
    ("src/commands/support/cycles.rs", 1),
    ("src/commands/doctor/dev_shm.rs", 1),
    ("src/commands/doctor/objects.rs", 3),
    ("src/commands/get.rs", 1),
    ("src/commands/remove.rs", 1),
    ("src/commands/run.rs", 2),
    ("src/commands/run/granted.rs", 2),
    ("src/commands/stop.rs", 3),
    ("src/commands/support/advice.rs", 14),
    ("src/commands/support/waiting.rs", 1),
];

/// How advised command lines end.
const PARTS: [&str; 6] = [
    " unget",
    " remove",
    " remove --force",
    " get",
    " run -- frobnicate",
    " state",
];

/// How they begin.
const MENDED: [&str; 9] = [
    "find /dev/shm -samefile ",
    "resourcelock --owner 4321 ",
    "resourcelock --group ",
    "resourcelock --mode 666 ",
    "rm -r /dev/shm/resourcelock3.",
    "rm /dev/shm/resourcelock.",
    "rm /dev/shm/sem.",
    "rm /dev/shm/",
    "chmod ",
];

/// For each name, what is printed about it. It is printed once: the tests look for different things in it.
fn everything() -> &'static [(&'static str, String)] {
    static PRINTED: OnceLock<Vec<(&str, String)>> = OnceLock::new();
    PRINTED.get_or_init(|| {
        let about = |name| (name, everything_about(name, tempfile::tempdir().unwrap().path()));
        NAMES.map(about).to_vec()
    })
}

fn everything_about(name: &str, folder: &Path) -> String {
    let program = folder.join(PROGRAM);
    install_script(&program, "#!/bin/sh\nexec true\n");
    fs::write(folder.join("passwd"), format!("{USER}:x:0:0:root:/root:/bin/sh\n")).unwrap();
    let output = private_shm(EVERYTHING)
        .env("NAME", format!("/{name}"))
        .envs([("NOTE", NOTE), ("PROGRAM", PROGRAM), ("LC_ALL", "C.UTF-8")])
        .env("FOLDER", folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        !matches!(output.status.code(), Some(96..=99)),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!folder.join("pasted").exists());
    String::from_utf8(output.stdout).expect("what is shown is UTF-8")
}

/// True for a character that a reader does not see, or that changes what is seen elsewhere: the program's list again,
/// under Unicode's names for its parts.
fn misleads(c: char) -> bool {
    let bidirectional =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{3164}' | '\u{feff}');
    let tags = ('\u{e0000}'..'\u{e1000}').contains(&c);
    let separators = matches!(c, '\u{2028}' | '\u{2029}');
    // In answers to completion scripts, words are separated by tabs.
    let control = c.is_control() && c != '\n' && c != '\t';
    bidirectional || invisible || tags || separators || control
}

/// What is advised to be executed.
const PROGRAMS: [&str; 6] = ["resourcelock", "chmod", "find", "kill", "loginctl", "rm"];

/// The command lines that the output advises: at the end of a line, after a colon.
fn advised(text: &str) -> Vec<&str> {
    let starts = |line: &str| {
        let places = PROGRAMS
            .iter()
            .filter_map(|program| line.rfind(&format!(": {program} ")));
        places.max().map(|at| at + 2)
    };
    text.lines()
        .filter_map(|line| starts(line).map(|at| &line[at..]))
        .collect()
}

/// Pastes lines into a shell; returns the command lines of the advised programs that it executed.
fn pasted(shell: &[&str], lines: &[&str]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in PROGRAMS {
        let script = "#!/bin/sh\nprintf '%s\\0' \"${0##*/}\" \"$@\" >> \"$LOG\"; printf '\\1' >> \"$LOG\"\n";
        install_script(&bin.join(program), script);
    }
    let input = folder.path().join("input");
    fs::write(&input, lines.join("\n") + "\n").unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let log = folder.path().join("log");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .current_dir(&empty)
        .stdin(fs::File::open(&input).unwrap())
        .envs([("PATH", path.as_str()), ("LC_ALL", "C.UTF-8"), ("TERM", "dumb")])
        .env("LOG", &log)
        .env("HOME", &empty)
        .output()
        .unwrap();
    // fish creates files in its home directory.
    let left: Vec<_> = fs::read_dir(&empty)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let left: Vec<_> = left
        .iter()
        .filter(|name| !name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(
        left.is_empty(),
        "{shell:?} has executed something else: {left:?}\n{lines:#?}"
    );
    let log = fs::read_to_string(&log).unwrap_or_else(|_| panic!("{shell:?} executes nothing: {output:?}"));
    let words = |line: &str| line.split_terminator('\0').map(str::to_owned).collect();
    log.split_terminator('\u{1}').map(words).collect()
}

#[test]
fn advice_is_pasted_into_real_shells() {
    for (name, text) in everything() {
        let lines = advised(text);
        for part in PARTS {
            let is_there = lines.iter().any(|line| line.ends_with(part));
            assert!(is_there, "no advice '{part}': {text}");
        }
        for beginning in MENDED {
            // Whatever is quoted.
            let is_there = lines.iter().any(|line| line.replace('\'', "").starts_with(beginning));
            assert!(is_there, "no advice '{beginning}': {text}");
        }
        for shell in [
            &["sh"][..],
            &["bash", "--norc", "-i"],
            &["zsh", "-f", "-i"],
            &["fish", "--no-config"],
        ] {
            let executed = pasted(shell, &lines);
            assert_eq!(executed.len(), lines.len(), "{shell:?}: {lines:#?}: {executed:?}");
            for (line, words) in lines.iter().zip(&executed) {
                assert!(line.starts_with(&words[0]), "{shell:?}: {line}: {words:?}");
                let files = ["sem.", "", "resourcelock3.", "resourcelock."];
                let meant = files.map(|prefix| format!("/dev/shm/{prefix}{name}")).to_vec();
                let meant = [meant, vec![(*name).to_owned(), format!("/{name}")]].concat();
                let named = words.iter().filter(|word| meant.contains(word)).count();
                assert!(named == 1 || *name == "get", "{shell:?}: {line}: {words:?}");
            }
        }
    }
}

#[test]
fn nothing_that_misleads_is_printed() {
    for (name, text) in everything() {
        let line = text.lines().find(|line| line.contains(misleads));
        assert_eq!(
            line.map(str::escape_debug).map(|line| line.to_string()),
            None,
            "{name:?}"
        );
        assert!(text.contains("note\\u{202e}\\u{200b}\\u{1b}[31m"), "{text}");
        assert!(
            text.contains("p\\u{202e};\\u{feff}x") && text.contains("u\\u{2067}$(id)"),
            "{text}"
        );
    }
}

/// The functions that make names and paths fit to be pasted, or lines of them.
const QUOTING: [&str; 4] = ["shell_word(", "quoted(", "command_line(", "mended("];

/// New advice goes through everything above.
#[test]
fn all_advice_is_tested() {
    let mut found = BTreeMap::new();
    let files = [Path::new("src/cli"), Path::new("src/commands")];
    for file in files.into_iter().flat_map(sources) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let is_call = |line: &&str| {
            let line = line.trim_start();
            let is_definition = line.starts_with("//") || line.starts_with("use ") || line.contains("fn ");
            !is_definition && QUOTING.iter().any(|name| line.contains(name))
        };
        let calls = code.lines().filter(is_call).count();
        let defines = ["shell_words.rs", "bash_words.rs"]
            .iter()
            .any(|name| file.ends_with(name));
        if calls > 0 && !defines {
            found.insert(file.to_str().unwrap().to_owned(), calls);
        }
    }
    let known = ADVICE.iter().map(|(file, count)| ((*file).to_owned(), *count));
    assert_eq!(found, known.collect());
}

/// The files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A metrics collector rejects a file with two lines about the same lock.
#[test]
fn no_two_names_have_one_label() {
    let script = r#"
        for name in 'a\u{202e}b' "$(printf 'a\342\200\256b')" 'a\\u{202e}b'; do $RL "/$name" get -q; done
        $RL list --prometheus | grep '^resourcelock_held{'"#;
    let output = private_shm(script).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 3, "{text}");
}
