//! The log on standard error. Without `-v` only warnings are shown, as this program's own messages, by a logger that
//! costs nothing to set up.

use crate::cli::Common;
use crate::output;
use env_logger::Builder;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Shows warnings.
struct Warnings;

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // That a previous holder died, the commands say themselves, as far as it is wanted.
        metadata.level() <= Level::Warn && metadata.target() != "resourcelock::abandoned"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            output::message(&format!("resourcelock: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// `-v` shows info, `-vv` debug; `RESOURCELOCK_LOG` (as in env_logger: `debug`, `resourcelock=info`) wins.
pub fn set_up(common: &Common) {
    let mut builder = match (std::env::var("RESOURCELOCK_LOG"), common.verbose) {
        (Ok(filters), _) if !filters.is_empty() => {
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
    builder.format_timestamp_micros().init();
}
