//! The log on standard error, for those who ask for it; without that nothing is set up, which costs nothing.

use env_logger::Builder;
use log::LevelFilter;

/// `-v` shows info, `-vv` debug; `RESOURCELOCK_LOG` (as in env_logger: `debug`, `resourcelock=info`) wins.
pub fn set_up(verbose: u8) {
    let mut builder = match (std::env::var("RESOURCELOCK_LOG"), verbose) {
        (Ok(filters), _) if !filters.is_empty() => {
            let mut builder = Builder::new();
            builder.parse_filters(&filters);
            builder
        }
        (_, 0) => return,
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
