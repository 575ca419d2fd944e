//! The log on standard error. Without `-v` only warnings are shown, as messages of this program, by a logger that costs
//! nothing to set up.
//!
//! Whatever is asked for, only records of this program and its library are shown: what HTTP and database clients log
//! contains everything that they send, including passwords.

use crate::cli::Common;
use crate::exec;
use crate::output;
use env_logger::{Builder, Logger};
use log::{Level, LevelFilter, Log, Metadata, Record};
use resourcelock::system::printable;

fn is_own(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_own = target == "resourcelock" || target.starts_with("resourcelock::");
    // If a previous holder died, the command itself says so, once, if that is wanted.
    is_own && target != "resourcelock::abandoned"
}

/// Shows warnings.
struct Warnings;

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn && is_own(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            output::message(&format!("resourcelock: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Shows what was asked for.
struct Chosen(Logger);

impl Log for Chosen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_own(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if is_own(record.metadata()) {
            let text = printable(&record.args().to_string());
            let mut shown = Record::builder();
            shown
                .metadata(record.metadata().clone())
                .module_path(record.module_path());
            self.0.log(&shown.args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// What `RESOURCELOCK_LOG` asks for, if that is valid: with a level that does not exist nothing at all would be shown.
fn filters(common: &Common) -> Option<String> {
    let filters = exec::variable("RESOURCELOCK_LOG")?.into_string().ok()?;
    let (directives, _) = filters.split_once('/').unwrap_or((&filters, ""));
    let mut directives = directives.split(',').map(str::trim).filter(|part| !part.is_empty());
    match directives.find(|part| !is_valid(part)) {
        None => Some(filters).filter(|filters| !filters.is_empty()),
        Some(part) => {
            if !common.quiet {
                output::message(&format!(
                    "resourcelock: RESOURCELOCK_LOG: '{part}' is not a level: use error, warn, info, debug or trace"
                ));
            }
            None
        }
    }
}

/// True for `LEVEL`, `TARGET=LEVEL`, and a target of ours.
fn is_valid(directive: &str) -> bool {
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    match directive.split_once('=') {
        Some((_, level)) => is_level(level.trim()),
        None => is_level(directive) || directive.starts_with("resourcelock"),
    }
}

/// `-v` shows info, `-vv` debug; `RESOURCELOCK_LOG` (as in env_logger: `debug`, `resourcelock=info`) wins.
pub fn set_up(common: &Common) {
    let mut builder = match (filters(common), common.verbose) {
        (Some(filters), _) => {
            let mut builder = Builder::new();
            builder.parse_filters(&filters);
            builder
        }
        (_, 0) => {
            if !common.quiet && log::set_logger(&Warnings).is_ok() {
                log::set_max_level(LevelFilter::Warn);
            }
            return;
        }
        (_, verbose) => {
            let mut builder = Builder::new();
            builder.filter_level(if verbose == 1 {
                LevelFilter::Info
            } else {
                LevelFilter::Debug
            });
            builder
        }
    };
    let logger = builder.format_timestamp_micros().build();
    let level = logger.filter();
    if log::set_boxed_logger(Box::new(Chosen(logger))).is_ok() {
        log::set_max_level(level);
    }
}
