//! With `TRACE=1`, records what happens in an execution.

use std::sync::{LazyLock, Mutex};

static WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("TRACE").is_some());
static STEPS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records a field, and what a thread found or did there.
pub fn step(field: &str, what: &str, value: u64) {
    say(|| format!("{field} {what} {value:#x}"));
}

/// Records something else.
pub fn say(what: impl FnOnce() -> String) {
    if *WANTED {
        let line = format!("{:?}: {}", loom::thread::current().id(), what());
        STEPS.lock().unwrap().push(line);
    }
}

/// Begins a new execution.
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
