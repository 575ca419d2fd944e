//! Everything that can be done with a lock, in ten steps: the demo of the Python module `cjnfuncs.resourcelock`, ported
//! to this library.
//!
//! ```sh
//! cargo run --example demo            # uses the lock test_lock
//! cargo run --example demo my_lock    # uses another one
//! ```
//!
//! It prints what the Python program prints. Run it once with the lock free, and once after
//! `resourcelock test_lock get`.

use log::{LevelFilter, Log, Metadata, Record};
use resourcelock::{GetOptions, ResourceLock, Result, UngetOptions, Wait};
use std::process::ExitCode;
use std::time::Duration;

const WAIT: Wait = Wait::For(Duration::from_millis(100));

fn main() -> ExitCode {
    log::set_logger(&Console).expect("no other logger is installed");
    log::set_max_level(LevelFilter::Debug);
    let name = std::env::args().nth(1).unwrap_or_else(|| "test_lock".to_owned());
    match demo(&name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(name: &str) -> Result<()> {
    println!("\n***** 0 - Lock instantiation");
    let my_lock = ResourceLock::open(name)?;
    my_lock.is_locked()?;

    println!("\n***** 1 - Check the initial lock state");
    println!(
        "is_lock returned    <{}> - Expecting <False> for initial unlocked test case, and <True> for initial locked test case",
        word(my_lock.is_locked()?)
    );
    my_lock.lock_value()?;

    println!("\n***** 2 - Get the lock");
    println!(
        "get_lock returned   <{}> - Expecting <True> if lock request is successful",
        word(my_lock.get_lock(&GetOptions::new().wait(WAIT).lock_info("Lock in test #2"))?)
    );
    log_state(&my_lock)?;

    println!("\n***** 3 - Get the lock a second time, same_process_ok=False");
    println!(
        "get_lock returned   <{}> - Expecting <False> Repeated lock request fails",
        word(my_lock.get_lock(&GetOptions::new().wait(WAIT).lock_info("Lock try in test #3"))?)
    );
    log_state(&my_lock)?;

    println!("\n***** 4 - Get the lock a third time, same_process_ok=True");
    let again = GetOptions::new()
        .wait(WAIT)
        .same_process_ok(true)
        .lock_info("Lock try in test #4");
    println!(
        "get_lock returned   <{}> - Expecting <True> Repeated lock request passes with switch",
        word(my_lock.get_lock(&again)?)
    );
    log_state(&my_lock)?;

    println!("\n***** 5 - Unget the lock");
    println!(
        "unget_lock returned <{}> - Expecting <True> if lock is successfully released",
        word(my_lock.unget_lock(UngetOptions::new().where_called("In test #5"))?)
    );
    log_state(&my_lock)?;

    println!("\n***** 6 - Unget the lock a second time");
    println!(
        "unget_lock returned <{}> - Expecting <False> since the lock is not currently set",
        word(my_lock.unget_lock(UngetOptions::new().where_called("In test #6"))?)
    );
    log_state(&my_lock)?;

    println!("\n***** 7 - Attempt to Unget the lock not owned by current process");
    my_lock.get_lock(&GetOptions::new().wait(WAIT).lock_info("Lock in test #7"))?;
    // The Python program sets I_have_the_lock = False here: the lock stays taken, and this handle forgets it.
    my_lock.leave_taken()?;
    log_state(&my_lock)?;
    println!(
        "unget_lock returned <{}> - Expecting <False> since lock not obtained by current process",
        word(my_lock.unget_lock(UngetOptions::new().where_called("In test #7"))?)
    );
    log_state(&my_lock)?;

    println!("\n***** 8 - Force Unget");
    println!(
        "unget_lock returned <{}> - Expecting <True> since lock was set and forced unget",
        word(my_lock.unget_lock(UngetOptions::new().force(true).where_called("In test #8"))?)
    );
    log_state(&my_lock)?;

    println!("\n***** 9 - Force Unget when lock not set");
    println!(
        "unget_lock returned <{}> - Expecting <False> since lock was not set",
        word(my_lock.unget_lock(UngetOptions::new().force(true).where_called("In test #9"))?)
    );
    log_state(&my_lock)?;

    my_lock.close();

    println!();
    println!("Using the cli, get the lock ('resourcelock {name} get') and run the test again");
    Ok(())
}

/// Logs the lock's state: both calls log what they find.
fn log_state(lock: &ResourceLock) -> Result<()> {
    lock.is_locked()?;
    lock.lock_value().map(drop)
}

/// A boolean as Python prints it.
fn word(yes: bool) -> &'static str {
    if yes { "True" } else { "False" }
}

/// Prints log events as the Python module's demo does: `module.function - LEVEL:  text`.
struct Console;

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("resourcelock")
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        // The Python program's listing does not contain the line about opening the lock.
        if self.enabled(record.metadata()) && !text.ends_with("> opened") {
            println!(
                "{:>15}.{:<20} - {:>8}:  {text}",
                "resourcelock",
                function(&text),
                record.level()
            );
        }
    }

    fn flush(&self) {}
}

/// The library function that logs this text. (The log crate does not record functions.)
fn function(text: &str) -> &'static str {
    let says = |words: &str| text.contains(words);
    if says("is currently locked?") {
        "is_locked"
    } else if says("lock request ") || says("lock already acquired") {
        "get_lock"
    } else if says("semaphore =") {
        "lock_value"
    } else if says("semaphore closed") {
        "close"
    } else {
        "unget_lock"
    }
}
