//! What is logged while a handle's mutex is held, or the latch.
//!
//! The program's logger may use the handle that logs, and it may panic. Under the mutex the first would wait for itself,
//! and the second would leave things half done. So messages are kept until the thread holds none: see [`Silence`].

use log::Level;
use std::cell::{Cell, RefCell};

thread_local! {
    static SILENCES: Cell<usize> = const { Cell::new(0) };
    /// True if anything is kept.
    static ANY_KEPT: Cell<bool> = const { Cell::new(false) };
    static KEPT: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
}

struct Message {
    level: Level,
    target: &'static str,
    text: String,
}

/// While it exists, messages of this thread are kept. They are logged when the last one is dropped.
pub(crate) struct Silence(());

impl Silence {
    pub(crate) fn new() -> Self {
        SILENCES.set(SILENCES.get() + 1);
        Self(())
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let left = SILENCES.get().saturating_sub(1);
        SILENCES.set(left);
        // A second panic would end the program.
        if left > 0 || !ANY_KEPT.get() || std::thread::panicking() {
            return;
        }
        ANY_KEPT.set(false);
        let kept = KEPT.try_with(|kept| kept.try_borrow_mut().map(|mut kept| std::mem::take(&mut *kept)));
        for message in kept.ok().and_then(Result::ok).into_iter().flatten() {
            log::log!(target: message.target, message.level, "{}", message.text);
        }
    }
}

/// Logs it, or keeps it. Use [`log_unlocked`].
#[cold]
pub(crate) fn log_or_keep(level: Level, target: &'static str, text: std::fmt::Arguments<'_>) {
    if SILENCES.get() == 0 {
        log::log!(target: target, level, "{text}");
        return;
    }
    let text = text.to_string();
    let message = Message { level, target, text };
    ANY_KEPT.set(true);
    let _ = KEPT.try_with(|kept| kept.try_borrow_mut().map(|mut kept| kept.push(message)));
}

/// Logs a message as soon as this thread holds no handle's mutex: `log_unlocked!(Debug, "{name}")`.
macro_rules! log_unlocked {
    (target: $target:expr, $level:ident, $($text:tt)+) => {
        if ::log::Level::$level <= ::log::STATIC_MAX_LEVEL && ::log::Level::$level <= ::log::max_level() {
            $crate::lock::shm::deferred_log::log_or_keep(::log::Level::$level, $target, format_args!($($text)+));
        }
    };
    ($level:ident, $($text:tt)+) => {
        $crate::lock::shm::deferred_log::log_unlocked!(target: module_path!(), $level, $($text)+)
    };
}
pub(crate) use log_unlocked;
