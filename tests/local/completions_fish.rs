//! What fish offers for an unfinished line.

use crate::common::private_shm;
use crate::common::prompt::{COMMANDS, LOCKS, options_in_help};
use std::path::Path;

/// What fish offers for each of these lines: words, with the descriptions beside them.
fn offered(lines: &[&str]) -> Vec<Vec<(String, String)>> {
    let home = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/resourcelock.fish");
    let fish = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo ==next; end";
    let mut command = private_shm(&format!("{LOCKS}\ncd /etc\nfish -c '{fish}' -- \"$@\""));
    let output = command
        .arg("sh")
        .arg(script)
        .args(lines.iter().map(|line| format!("resourcelock {line}")))
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Vec<(String, String)>> = printed
        .split_terminator("==next\n")
        .map(|answer| {
            answer
                .lines()
                .map(|line| {
                    let (word, about) = line.split_once('\t').unwrap_or((line, ""));
                    (word.to_owned(), about.to_owned())
                })
                .collect()
        })
        .collect();
    assert_eq!(
        answers.len(),
        lines.len(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    answers
}

#[test]
fn the_one_word_that_fits() {
    let cases = [
        ("i2", "i2c"),
        ("i2c un", "unget"),
        ("doc", "doctor"),
        ("-t 5 --shared i2", "i2c"),
        ("-t 5 i2c hi", "history"),
        ("i2c --message 'a b' rem", "remove"),
        ("/i2", "/i2c"),
        ("/l", "/list"),
        ("/list sta", "state"),
        ("help comp", "completions"),
        ("completions z", "zsh"),
        ("i2c run --conf", "--conflict-exit-code"),
        ("i2c run --until tr", "tree"),
        ("i2c run --until=t", "--until=tree"),
        ("i2c run -n --signal WINC", "WINCH"),
        ("i2c get --group roo", "root"),
        ("i2c history --svg /etc/hostn", "/etc/hostname"),
        ("i2c history --svg=/etc/hostn", "--svg=/etc/hostname"),
        // Names that fish quotes when they are chosen.
        (r"a\ b", "a b;c"),
        ("'a b", "a b;c"),
        ("\"it'", "it's"),
        ("x@", "x@y"),
        ("p:q=", "p:q=r"),
        (r"a\ b\;c sta", "state"),
        // The command under the lock.
        ("i2c run printen", "printenv"),
        ("i2c run -n -- printen", "printenv"),
        ("i2c run -c printen", "printenv"),
        ("i2c run ls -l hostn", "hostname"),
        ("i2c run -t 5 -- resourcelock /l", "/list"),
        (r"a\ b\;c run resourcelock i2c un", "unget"),
    ];
    let answers = offered(&cases.map(|(typed, _)| typed));
    for ((typed, word), answer) in cases.iter().zip(answers) {
        let words: Vec<&str> = answer.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, [*word], "{typed}");
    }
}

#[test]
fn nothing_where_nothing_is_known() {
    assert_eq!(offered(&["i2c get -t ", "i2c get -m x"]), [vec![], vec![]]);
}

#[test]
fn a_lock_is_shown_with_its_state() {
    let answers = offered(&[""]);
    let about = |wanted: &str| {
        let found = answers[0].iter().find(|(word, _)| word == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} in {answers:?}")).1.clone()
    };
    assert!(
        about("i2c").starts_with("held by") && about("i2c").ends_with(": bus scan"),
        "{answers:?}"
    );
    assert_eq!(about("x@y"), "free");
    assert_eq!((about("/list").as_str(), about("/help").as_str()), ("free", "free"));
    assert!(about("list").starts_with("List"), "{answers:?}");
}

#[test]
fn every_option_of_help_is_offered() {
    let lines = COMMANDS.map(|command| format!("{command} -"));
    for (command, answer) in COMMANDS.iter().zip(offered(&lines.each_ref().map(String::as_str))) {
        let mut words: Vec<String> = answer.into_iter().map(|(word, _)| word).collect();
        let mut expected = options_in_help(command);
        words.sort_unstable();
        expected.sort_unstable();
        assert_eq!(words, expected, "{command}");
    }
}
