//! An interactive shell with completion for `resourcelock` loaded, at whose prompt a test types.
//!
//! Each shell has a private /dev/shm with the same locks in it, so that what is completed does not depend on what else
//! happens on this machine.

use super::{Pty, binary, private_shm};
use std::path::Path;
use tempfile::TempDir;

/// Makes the locks: one that is held, and names that a shell or this program could take for something else.
pub const LOCKS: &str = r#"
"$RL" -q i2c get -m 'bus scan' || exit
for name in 'a b;c' "it's" 'x@y' 'p:q=r' /list /help; do "$RL" -q "$name" run -- true || exit; done
"$RL" -q /-x run -- true || exit
PATH=${RL%/*}:$PATH
"#;

/// All commands, each with the words that must precede its options.
pub const COMMANDS: [&str; 12] = [
    "i2c run",
    "i2c get",
    "i2c unget",
    "i2c state",
    "i2c trace",
    "i2c history",
    "i2c remove",
    "prune",
    "list",
    "top",
    "doctor",
    "completions bash",
];

/// What is typed, and what Tab makes of it in every shell that replaces the line.
pub const LINES: [(&str, &str); 19] = [
    ("i2", "i2c"),
    ("i2c un", "i2c unget"),
    ("doc", "doctor"),
    ("-t 5 --shared i2", "-t 5 --shared i2c"),
    ("-t 5 i2c hi", "-t 5 i2c history"),
    ("i2c --message 'a b' rem", "i2c --message 'a b' remove"),
    ("/i2", "/i2c"),
    ("/l", "/list"),
    ("/list sta", "/list state"),
    ("help comp", "help completions"),
    ("completions z", "completions zsh"),
    ("i2c run --conf", "i2c run --conflict-exit-code"),
    ("i2c run --until t", "i2c run --until tree"),
    ("i2c run --until=t", "i2c run --until=tree"),
    ("i2c run -n --signal WINC", "i2c run -n --signal WINCH"),
    ("i2c get --group roo", "i2c get --group root"),
    ("i2c history --svg /etc/hostn", "i2c history --svg /etc/hostname"),
    ("i2c history --svg=/etc/hostn", "i2c history --svg=/etc/hostname"),
    ("i2c get -t 5", "i2c get -t 5"),
];

/// The options that a command's `--help` lists.
pub fn options_in_help(command: &str) -> Vec<String> {
    let word = command.trim_start_matches("i2c ").split(' ').next().unwrap_or_default();
    let help = super::printed(binary().args(["help", word]));
    let (_, options) = help.split_once("Options:\n").expect("help lists options");
    let mut found = Vec::new();
    for line in options.lines().take_while(|line| !line.is_empty()) {
        // `  -t, --long <VALUE>   Help` and below it `[aliases: -w, --wait]`; not options mentioned in a help text.
        let spellings = match line.trim_start().strip_prefix('[') {
            Some(aliases) => aliases,
            None if line.starts_with("  -") || line.starts_with("      --") => {
                line.trim_start().split("  ").next().unwrap_or_default()
            }
            None => "",
        };
        let aliases = line.rsplit_once("[alias").map_or("", |(_, aliases)| aliases);
        for word in format!("{spellings} {aliases}").split([' ', ',', ':', ']', '<']) {
            let word = word.trim_end_matches('.');
            if word.starts_with('-') && word.len() > 1 && !found.contains(&word.to_owned()) {
                found.push(word.to_owned());
            }
        }
    }
    assert!(found.contains(&"--help".to_owned()), "{help}");
    found
}

/// An interactive shell at its prompt.
pub struct Prompt {
    pty: Pty,
    _home: TempDir,
}

impl Prompt {
    /// Bash with the script, and whatever else `setup` loads. ESC * inserts everything that fits.
    pub fn bash(setup: &str) -> Self {
        let script = completions().join("resourcelock.bash");
        let rc = format!(
            "{setup}\n. '{}'\nPS1='$ '\nshow() {{ printf '\\nLINE<%s>\\n' \"$READLINE_LINE\"; }}\n\
             bind -x '\"\\C-x\\C-p\": show'\nbind 'set bell-style none'\n",
            script.display()
        );
        Self::start(".bashrc", &rc, "exec bash --noprofile -i")
    }

    /// Zsh with the script in its `fpath`. The answers stay on one screen.
    pub fn zsh() -> Self {
        let rc = format!(
            "fpath=('{}' $fpath)\nautoload -Uz compinit; compinit -u -D\nPS1='$ '\nLISTMAX=10000\n\
             show() {{ print -r -- \"LINE<$BUFFER>\" }}\nzle -N show\nbindkey '^X^P' show\n",
            completions().display()
        );
        Self::start(".zshrc", &rc, "stty columns 200; exec zsh -d -i")
    }

    fn start(rc_name: &str, rc: &str, shell: &str) -> Self {
        let home = TempDir::new().expect("a folder can be made");
        std::fs::write(home.path().join(rc_name), rc).expect("it can be written");
        let mut command = private_shm(&format!("{LOCKS}\ncd \"$HOME\"\n{shell}"));
        command.env("HOME", home.path()).env("TERM", "dumb").env("HISTFILE", "");
        for name in ["ZDOTDIR", "PROMPT_COMMAND", "INPUTRC", "BASH_ENV"] {
            command.env_remove(name);
        }
        let mut pty = Pty::spawn(&command);
        pty.see("$ ");
        Self { pty, _home: home }
    }

    /// Types `typed` and Tab. Returns the line afterwards, and what appeared meanwhile.
    pub fn tab(&mut self, typed: &str) -> (String, String) {
        self.key(typed, "\t")
    }

    /// Asserts that Tab turns each of these lines of the program into the one beside it.
    pub fn completes(&mut self, cases: &[(&str, &str)]) {
        for (typed, completed) in cases {
            let (line, _) = self.tab(&format!("resourcelock {typed}"));
            assert_eq!(line.trim_end(), format!("resourcelock {completed}"), "{typed}");
        }
    }

    /// The same for another key.
    pub fn key(&mut self, typed: &str, key: &str) -> (String, String) {
        let before = self.pty.screen().len();
        self.pty.keys(&format!("\x15{typed}{key}\x18\x10"));
        self.pty.see("LINE<");
        self.pty.see(">\r\n");
        let appeared = self.pty.screen()[before..].to_owned();
        let (listing, line) = appeared.rsplit_once("LINE<").expect("it has appeared");
        let line = line.split(">\r\n").next().unwrap_or_default();
        (line.to_owned(), listing.to_owned())
    }
}

fn completions() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions")
}
