//! What a request that did not end as usual has beside its bar. Each has a shape of its own, to be told apart in black and
//! white.

use super::spans::Span;
use resourcelock::{CommandEnd, Ended};

/// A shape around (0, 0), 10 wide.
pub struct Mark {
    /// What it means, for the legend.
    pub meaning: &'static str,
    path: &'static str,
    fill: &'static str,
    stroke: &'static str,
}

/// The mark of a request that ended like this; `None`: as it should, or not yet.
pub fn of(span: &Span) -> Option<Mark> {
    let mark = |meaning, path, fill, stroke| {
        Some(Mark {
            meaning,
            path,
            fill,
            stroke,
        })
    };
    const RED: &str = "#b3261e";
    const RING: &str = "M0 -4.5A4.5 4.5 0 1 0 0.01 -4.5Z";
    match span.how? {
        Ended::Released if matches!(span.command_end, Some(end) if end != CommandEnd::Exited(0)) => {
            mark("failed: status other than 0", "M-3.5 -3.5H3.5V3.5H-3.5Z", RED, RED)
        }
        Ended::Released | Ended::WithProcess => None,
        Ended::Limit => mark(
            "ended at its limit",
            "M-5 0H2M-1 -3L2 0L-1 3M4.5 -5V5",
            "none",
            "#7a4d00",
        ),
        Ended::Abandoned => mark("abandoned: its process died", "M-4 -4L4 4M-4 4L4 -4", "none", RED),
        Ended::Crashed => mark("crashed", "M-5 0H5M-2.5 -4.3L2.5 4.3M-2.5 4.3L2.5 -4.3", "none", RED),
        Ended::Expired => mark(
            "expired",
            "M0 -4.5A4.5 4.5 0 1 0 0.01 -4.5ZM0 -2.5V0H2.5",
            "#fff",
            "#1f4e79",
        ),
        Ended::Forced => mark("released by force", "M-4.5 4L0 -4.5L4.5 4Z", "#6a1b9a", "#6a1b9a"),
        Ended::TimedOut => mark("timed out", "M-4 -4.5H4L-4 4.5H4Z", "#d98e04", "#7a4d00"),
        Ended::Refused => mark("refused", "M0 -5L5 0L0 5L-5 0Z", "#fff", RED),
        Ended::Cancelled => mark("cancelled", RING, "#ddd", "#555"),
        _ => mark("ended otherwise", RING, "none", "#555"),
    }
}

impl Mark {
    /// Drawn around this point, with a white edge that sets it off from what is below.
    pub fn at(&self, x: f64, y: f64) -> String {
        let Self { path, fill, stroke, .. } = self;
        format!(
            "<g transform=\"translate({x:.1} {y:.1})\"><path d=\"{path}\" fill=\"#fff\" stroke=\"#fff\" \
             stroke-width=\"4\"/><path d=\"{path}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.8\"/></g>"
        )
    }
}
