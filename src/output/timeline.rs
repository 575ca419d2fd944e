//! A picture of who waited and who held, over time: SVG, alone or in an HTML page.
//!
//! One row per process. Waiting is hatched and holding is solid, so that it can be read in black and white; what ended
//! badly has a mark. [`Scale`] places everything; [`escape`] escapes text.

use super::sentence::duration;
use super::{names, view};
use chrono::{DateTime, Local};
use resourcelock::system::disturbs;
use resourcelock::{Ended, HistoryRecord, Holder, Requester, State, Waiter};
use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 230.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Shorter bars would be invisible.
const THINNEST: f64 = 1.0;
/// The largest number of labels on the time axis.
const TICKS: u128 = 8;

/// One request in the picture.
struct Span {
    requester: Requester,
    mode: &'static str,
    token: Option<u64>,
    queued: SystemTime,
    /// `None`: never granted.
    granted: Option<SystemTime>,
    end: SystemTime,
    /// `None`: it has not ended yet.
    how: Option<Ended>,
}

impl Span {
    /// `None` if it is not known when the request was made: it has no place on the time axis.
    fn ended(record: &HistoryRecord) -> Option<Self> {
        Some(Self {
            requester: record.requester.clone(),
            mode: view::mode(record.mode),
            token: record.token,
            queued: record.queued?,
            granted: record.granted(),
            end: record.ended,
            how: Some(record.how),
        })
    }

    fn holds(holder: &Holder, now: SystemTime) -> Option<Self> {
        Some(Self {
            requester: holder.requester.clone(),
            mode: view::mode(holder.mode),
            token: holder.token,
            queued: holder.queued()?,
            granted: holder.since,
            end: now,
            how: None,
        })
    }

    fn waits(waiter: &Waiter, now: SystemTime) -> Option<Self> {
        Some(Self {
            requester: waiter.requester.clone(),
            mode: view::mode(waiter.mode),
            token: None,
            queued: waiter.since?,
            granted: None,
            end: now,
            how: None,
        })
    }

    /// Command and process ID: requests of one process are in one row.
    fn row(&self) -> (String, String) {
        let command = self.requester.command.clone().unwrap_or_default();
        (command, names::pid(&self.requester))
    }

    /// The text of the tooltip.
    fn description(&self) -> String {
        let (command, pid) = self.row();
        let user = names::user_of(&self.requester).unwrap_or_default();
        let mut text = format!("{command} {pid} ({user}), {}", self.mode);
        let waited = self
            .granted
            .unwrap_or(self.end)
            .duration_since(self.queued)
            .unwrap_or_default();
        let _ = write!(
            text,
            ", requested {}, waited {}",
            precise(self.queued),
            duration(waited)
        );
        if let Some(granted) = self.granted {
            let held = self.end.duration_since(granted).unwrap_or_default();
            let _ = write!(text, ", held {}", duration(held));
        }
        if let Some(token) = self.token {
            let _ = write!(text, ", token {token}");
        }
        let end = match self.how {
            Some(how) => how.as_str(),
            None if self.granted.is_some() => "still holding",
            None => "still waiting",
        };
        let _ = write!(text, ", {end}");
        text
    }

    /// The mark of a request that did not end well.
    fn mark(&self) -> Option<&'static str> {
        match self.how? {
            Ended::Released | Ended::WithProcess => None,
            Ended::Crashed => Some("\u{2715} crashed"),
            Ended::Abandoned => Some("\u{2715} abandoned"),
            Ended::Expired => Some("expired"),
            Ended::Forced => Some("forced"),
            _ => Some("gave up"),
        }
    }
}

/// The picture of a lock's last requests, including those that still hold or wait.
pub struct Timeline {
    name: String,
    spans: Vec<Span>,
    /// Command and process ID of each row, in the order of their first requests.
    rows: Vec<(String, String)>,
}

impl Timeline {
    /// For the lock `name`, which does not exist if `state` is `None`.
    pub fn new(name: &str, records: &[HistoryRecord], state: Option<&State>) -> Self {
        let mut spans: Vec<Span> = records.iter().filter_map(Span::ended).collect();
        if let Some(state) = state {
            let holders = state.holders.iter();
            spans.extend(holders.filter_map(|holder| Span::holds(holder, state.read_at)));
            let waiters = state.waiters.iter();
            spans.extend(waiters.filter_map(|waiter| Span::waits(waiter, state.read_at)));
        }
        spans.sort_by_key(|span| span.queued);
        let mut rows = Vec::new();
        for span in &spans {
            let row = span.row();
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        Self {
            name: name.to_owned(),
            spans,
            rows,
        }
    }

    /// A standalone picture.
    pub fn svg(&self) -> String {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", self.picture())
    }

    /// A self-contained page.
    pub fn html(&self) -> String {
        let mut rows = String::new();
        for span in &self.spans {
            let _ = writeln!(rows, "<li>{}</li>", escape(&span.description()));
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}: who waited, who held</title>\n\
             <style>body{{font:15px/1.4 sans-serif;margin:2em auto;max-width:1060px;padding:0 1em}}\
             svg{{width:100%;height:auto}}li{{font-size:13px}}g.request:hover rect{{stroke:#000;stroke-width:1.5}}</style>\n\
             {picture}\n<details><summary>{count} requests as text</summary>\n<ol>\n{rows}</ol>\n</details>\n</html>\n",
            name = escape(&self.name),
            picture = self.picture(),
            count = self.spans.len(),
        )
    }

    fn picture(&self) -> String {
        let height = TOP + ROW * self.rows.len().max(1) as f64 + BOTTOM;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
             <title>{name}: who waited, who held</title>\n\
             <defs><pattern id=\"waiting\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#fdf0d5\"/>\
             <rect width=\"2\" height=\"6\" fill=\"#d98e04\"/></pattern></defs>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"12\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{name}</text>\n",
            name = escape(&self.name),
        );
        svg.push_str(&legend());
        match self.scale() {
            Some(scale) => {
                self.axis(&mut svg, &scale);
                self.labels(&mut svg);
                for span in &self.spans {
                    self.request(&mut svg, &scale, span);
                }
            }
            None => {
                let _ = writeln!(
                    svg,
                    "<text x=\"12\" y=\"{}\">nothing has happened yet</text>",
                    TOP + BAR
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn scale(&self) -> Option<Scale> {
        let first = self.spans.iter().map(|span| span.queued).min()?;
        let last = self.spans.iter().map(|span| span.end).max()?;
        // A single instant is shown as a millisecond.
        let length = last
            .duration_since(first)
            .unwrap_or_default()
            .max(Duration::from_millis(1));
        Some(Scale { first, length })
    }

    fn axis(&self, svg: &mut String, scale: &Scale) {
        let bottom = TOP + ROW * self.rows.len() as f64;
        for (time, label) in scale.ticks() {
            let x = scale.x(time);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ccc\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#333\">{}</text>",
                bottom + 16.0,
                escape(&label)
            );
        }
        let _ = writeln!(
            svg,
            "<line x1=\"{LABELS}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\" stroke=\"#333\"/>",
            WIDTH - RIGHT
        );
    }

    fn labels(&self, svg: &mut String) {
        for (row, (command, pid)) in self.rows.iter().enumerate() {
            let top = TOP + ROW * row as f64;
            if row % 2 == 1 {
                let _ = write!(
                    svg,
                    "<rect x=\"0\" y=\"{top}\" width=\"{WIDTH}\" height=\"{ROW}\" fill=\"#000\" fill-opacity=\"0.04\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} {pid}</text>",
                LABELS - 10.0,
                top + ROW / 2.0 + 4.0,
                escape(command)
            );
        }
    }

    fn request(&self, svg: &mut String, scale: &Scale, span: &Span) {
        let row = self.rows.iter().position(|row| *row == span.row());
        let y = TOP + ROW * row.unwrap_or_default() as f64 + (ROW - BAR) / 2.0;
        let (queued, end) = (scale.x(span.queued), scale.x(span.end));
        let granted = span.granted.map(|granted| scale.x(granted));
        let _ = write!(
            svg,
            "<g class=\"request\"><title>{}</title>",
            escape(&span.description())
        );
        let wait_ends = granted.unwrap_or(end);
        if wait_ends - queued >= THINNEST || granted.is_none() {
            let width = (wait_ends - queued).max(THINNEST);
            let _ = write!(
                svg,
                "<rect x=\"{queued:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{BAR}\" fill=\"url(#waiting)\" \
                 stroke=\"#a86a00\" stroke-width=\"0.5\"/>"
            );
        }
        if let Some(granted) = granted {
            let width = (end - granted).max(THINNEST);
            let fill = if matches!(span.how, Some(Ended::Abandoned | Ended::Crashed)) {
                "#b3261e"
            } else {
                "#1f4e79"
            };
            let _ = write!(
                svg,
                "<rect x=\"{granted:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{BAR}\" fill=\"{fill}\"/>"
            );
        }
        if let Some(mark) = span.mark() {
            // Next to the bar's end, on the side where there is space.
            let (x, anchor) = if end > WIDTH - RIGHT - 90.0 {
                (queued - 4.0, "end")
            } else {
                (end + 4.0, "start")
            };
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"11\" font-weight=\"bold\" \
                 fill=\"#b3261e\">{mark}</text>",
                y + BAR - 3.0
            );
        }
        svg.push_str("</g>\n");
    }
}

fn legend() -> String {
    format!(
        "<rect x=\"{LABELS}\" y=\"37\" width=\"28\" height=\"{BAR}\" fill=\"url(#waiting)\" stroke=\"#a86a00\" \
         stroke-width=\"0.5\"/><text x=\"264\" y=\"48\">waiting</text>\
         <rect x=\"330\" y=\"37\" width=\"28\" height=\"{BAR}\" fill=\"#1f4e79\"/><text x=\"364\" y=\"48\">holding</text>\
         <text x=\"430\" y=\"48\" fill=\"#b3261e\" font-weight=\"bold\">\u{2715}</text>\
         <text x=\"446\" y=\"48\">its process or command died while holding</text>\n"
    )
}

/// Maps times to positions.
struct Scale {
    first: SystemTime,
    length: Duration,
}

impl Scale {
    fn x(&self, time: SystemTime) -> f64 {
        let since = time.duration_since(self.first).unwrap_or_default();
        LABELS + since.as_secs_f64() / self.length.as_secs_f64() * (WIDTH - RIGHT - LABELS)
    }

    /// Round times, with labels that are no more precise than necessary.
    fn ticks(&self) -> Vec<(SystemTime, String)> {
        const SECOND: u128 = 1_000_000;
        const STEPS: [u128; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600];
        let length = self.length.as_micros();
        let decimal = (0..6).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u128.pow(power)));
        let sexagesimal = STEPS.map(|step| step * SECOND);
        let daily = (0..20).map(|power| (2 * 3600 * SECOND) << power);
        let step = decimal
            .chain(sexagesimal)
            .chain(daily)
            .find(|step| length / step < TICKS)
            .unwrap_or(length);
        let format = match step {
            0..1000 => "%H:%M:%S%.6f",
            1000..SECOND => "%H:%M:%S%.3f",
            SECOND..60_000_000 => "%H:%M:%S",
            _ if length > 86_400 * SECOND => "%m-%d %H:%M",
            _ => "%H:%M",
        };
        let local = DateTime::<Local>::from(self.first);
        // Ticks are at round local times.
        let offset = i128::from(local.offset().local_minus_utc()) * SECOND as i128;
        let first = self
            .first
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as i128;
        let step = step as i128;
        let start = (first + offset).div_euclid(step) * step + step - offset;
        let mut ticks = Vec::new();
        let mut at = if start - step >= first { start - step } else { start };
        while at <= first + length as i128 {
            let time = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at).unwrap_or_default());
            ticks.push((time, DateTime::<Local>::from(time).format(format).to_string()));
            at += step;
        }
        ticks
    }
}

fn precise(time: SystemTime) -> impl Display {
    DateTime::<Local>::from(time).format("%Y-%m-%d %H:%M:%S%.6f")
}

/// Escapes text for XML and HTML. Control characters, which XML does not allow at all, become replacement characters;
/// what else disturbs is written as a number.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c if disturbs(c) => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}
