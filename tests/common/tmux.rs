//! A terminal whose screen can be read, as people see it: tmux with one shell in it, and a private /dev/shm.

use super::{patience, private_shm, wait_until, without_variables};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A tmux server of its own; killed on drop, with all that runs in it.
pub struct Tmux {
    folder: TempDir,
}

impl Tmux {
    /// A shell with job control and the prompt `$ `, in a window of this size. `$RL` is the real binary.
    pub fn shell(columns: u16, lines: u16) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let socket = folder.path().join("tmux");
        let script = format!(
            "exec tmux -u -S '{}' -f /dev/null new-session -d -x {columns} -y {lines} \
             'exec bash --norc --noprofile --noediting -i'",
            socket.display()
        );
        let mut server = private_shm(&script);
        without_variables(&mut server);
        for name in ["TMUX", "NO_COLOR", "COLUMNS", "LINES", "PROMPT_COMMAND", "BASH_ENV"] {
            server.env_remove(name);
        }
        server
            .env("PS1", "$ ")
            .env("HISTFILE", "")
            .env("LC_ALL", "C.UTF-8")
            .env("SHELL", "/bin/sh");
        // The server keeps them open.
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = server.status().expect("unshare runs");
        assert!(status.success(), "tmux does not start: {status}");
        let tmux = Self { folder };
        tmux.at_prompt();
        tmux
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command
            .args(["-u", "-S"])
            .arg(self.folder.path().join("tmux"))
            .args(words);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command
    }

    fn ask(&self, words: &[&str]) -> String {
        super::printed(&mut self.command(words))
    }

    /// What the window shows.
    pub fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p", "-t", ":0"])
    }

    /// The same with its colours.
    pub fn coloured_screen(&self) -> String {
        self.ask(&["capture-pane", "-p", "-e", "-t", ":0"])
    }

    /// Waits until the screen is as `is_so` says, and returns it.
    pub fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(start.elapsed() < patience(), "waited in vain until {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the screen shows this text, and returns the screen.
    pub fn see(&self, text: &str) -> String {
        self.until(&format!("'{text}' appears"), |screen| screen.contains(text))
    }

    /// Waits until a line of the screen has these words in this order, perhaps with others, and returns the screen.
    pub fn see_row(&self, words: &[&str]) -> String {
        self.until(&format!("there is a row with {words:?}"), |screen| {
            screen.lines().any(|line| has_words(line, words))
        })
    }

    /// Waits until the shell waits for a line, and returns the screen.
    pub fn at_prompt(&self) -> String {
        self.until("there is a prompt", |screen| {
            screen.trim_end().lines().last() == Some("$")
        })
    }

    /// Types text as it is.
    pub fn keys(&self, text: &str) {
        self.ask(&["send-keys", "-t", ":0", "-l", text]);
    }

    /// Presses a key by its name: `Enter`, `Escape`, `Down`, `C-c`.
    pub fn press(&self, key: &str) {
        self.ask(&["send-keys", "-t", ":0", key]);
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.keys(text);
        self.press("Enter");
    }

    /// Runs a shell's script beside the window, on the same machine, to its end.
    pub fn beside(&self, script: &str) {
        let done = self.folder.path().join("done");
        let script = format!("{script}\ntouch '{}'", done.display());
        self.in_background(&script);
        wait_until("the script beside has ended", || std::fs::remove_file(&done).is_ok());
    }

    /// Starts a shell's script beside the window, on the same machine. It ends with this terminal, at the latest.
    pub fn in_background(&self, script: &str) {
        self.ask(&[
            "new-window",
            "-d",
            &format!("exec sh -c '{}'", script.replace('\'', r"'\''")),
        ]);
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-t", ":0", "-x", &columns, "-y", &lines]);
    }

    /// What tmux says of the window in this format.
    pub fn asks(&self, format: &str) -> String {
        self.ask(&["display-message", "-p", "-t", ":0", format])
            .trim()
            .to_owned()
    }

    /// The process that runs in the window: below the shell, and below those that it runs in.
    pub fn process(&self) -> u32 {
        let shell: u32 = self.asks("#{pane_pid}").parse().expect("a number");
        let mut found = shell;
        wait_until("the shell has a child", || {
            found = shell;
            while let Some(child) = child_of(found) {
                found = child;
            }
            found != shell
        });
        found
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

/// True if these are among the line's words, in this order.
pub fn has_words(line: &str, words: &[&str]) -> bool {
    let mut there = line.split_whitespace();
    words.iter().all(|word| there.any(|other| other == *word))
}
