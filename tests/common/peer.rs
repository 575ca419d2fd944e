//! The real Python module in its own process.

use super::{LineChild, TestLock, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python process with one `resource_lock` open; see `peer.py`.
pub struct Peer {
    child: LineChild,
}

impl Peer {
    /// Starts Python and opens `lock` there, with a note of 4096 bytes if the module has to create it.
    pub fn open(lock: &TestLock) -> Self {
        Self::open_sized(lock, 4096)
    }

    /// The same with another note size.
    pub fn open_sized(lock: &TestLock, note_size: usize) -> Self {
        let mut peer = Self::start();
        let opened = peer.ask(json!(["open", lock.name(), note_size]));
        assert_eq!(opened, Value::Null, "the Python module opens the lock");
        peer
    }

    /// Starts Python, which has nothing open.
    pub fn start() -> Self {
        Self::of(Command::new(python()).arg(common().join("peer.py")))
    }

    /// Starts Python with the package that is installed in this folder.
    pub fn start_package(folder: &Path) -> Self {
        let mut command = Command::new(python());
        Self::of(
            command
                .arg(common().join("package_peer.py"))
                .env("PYTHONPATH", folder)
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        )
    }

    fn of(command: &mut Command) -> Self {
        let child = LineChild::spawn(command);
        Self { child }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request without waiting for its answer.
    pub fn send(&mut self, request: Value) {
        self.child.send(&request.to_string());
    }

    /// Waits for the next answer; answers come in the order of the requests.
    pub fn answer(&mut self) -> Value {
        parse(&self.child.line())
    }

    /// The same; `Err` is the exception that was raised instead.
    pub fn answer_or_exception(&mut self) -> Result<Value, String> {
        parse_any(&self.child.line())
    }

    /// The next answer, if it is already there.
    pub fn try_answer(&mut self) -> Option<Value> {
        self.child.try_line().map(|line| parse(&line))
    }

    /// Requests the lock, which is taken, without a time limit: returns once this process sleeps in the semaphore.
    pub fn wait_for(&mut self, lock: &TestLock) {
        self.send(json!(["get", null, "python"]));
        wait_until("Python waits", || lock.flag_word().waiters == 1);
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, request: Value) -> Value {
        self.send(request);
        self.answer()
    }

    /// `get_lock(timeout, lock_info=info)`; no timeout = wait forever.
    pub fn get(&mut self, timeout: Option<f64>, info: &str) -> bool {
        self.ask(json!(["get", timeout, info])) == json!(true)
    }

    /// `unget_lock()`.
    pub fn unget(&mut self) -> bool {
        self.ask(json!(["unget", false])) == json!(true)
    }

    /// `unget_lock(force=True)`.
    pub fn force(&mut self) -> bool {
        self.ask(json!(["unget", true])) == json!(true)
    }

    /// `lock_value()`.
    pub fn value(&mut self) -> u64 {
        self.ask(json!(["value"])).as_u64().expect("a number")
    }

    /// `is_locked()`.
    pub fn is_locked(&mut self) -> bool {
        self.ask(json!(["is_locked"])) == json!(true)
    }

    /// `get_lock_info()`; its characters are bytes.
    pub fn info(&mut self) -> String {
        self.ask(json!(["info"])).as_str().expect("a text").to_owned()
    }

    /// `set_lock_info(text)`.
    pub fn set_info(&mut self, text: &str) {
        assert_eq!(self.ask(json!(["set_info", text])), Value::Null);
    }

    /// Sends SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill();
        self.child.wait();
    }
}

fn parse(line: &str) -> Value {
    parse_any(line).unwrap_or_else(|failure| panic!("Python failed: {failure}"))
}

fn parse_any(line: &str) -> Result<Value, String> {
    let answer: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("Python said {line}"));
    match answer.get("error") {
        Some(failure) => Err(failure.to_string()),
        None => Ok(answer),
    }
}

/// The Python of the environment that `scripts/test.sh` makes.
pub fn python() -> PathBuf {
    let python = std::env::var_os("RESOURCELOCK_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python"),
        PathBuf::from,
    );
    assert!(
        python.exists(),
        "{} does not exist: run scripts/test.sh once to install it",
        python.display()
    );
    python
}

/// The directory of the helpers that are not written in Rust.
pub fn common() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common")
}
