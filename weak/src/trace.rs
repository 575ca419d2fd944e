//! What happened in an execution, if that is wanted: `TRACE=1`.

use std::sync::{LazyLock, Mutex};

static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("TRACE").is_some());
static STEPS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A field, and what a thread found or did there.
pub fn step(field: &str, what: &str, value: u64) {
    say(|| format!("{field} {what} {value:#x}"));
}

/// Something else.
pub fn say(what: impl FnOnce() -> String) {
    if *WANTED {
        let line = format!("{:?}: {}", loom::thread::current().id(), what());
        STEPS.lock().unwrap().push(line);
    }
}

/// A new execution begins.
pub fn clear() {
    if *WANTED {
        STEPS.lock().unwrap().clear();
    }
}

pub fn print() {
    for line in STEPS.lock().unwrap().iter() {
        println!("    {line}");
    }
}
