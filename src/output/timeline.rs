//! A picture of who waited and who held, over time: SVG, alone or in an HTML page.
//!
//! A lane for each lock, with a heading if there are several. In it, one row for each process, or for each command and user if there are many. It can be read in black and white: waiting is
//! hatched, each mode of holding has its pattern, and what did not end as usual has a mark. [`Scale`] places everything;
//! [`escape`] escapes text.

mod marks;
mod rows;
mod scale;
mod spans;

use super::past::{Past, PastLock};
use chrono::{DateTime, Local};
use marks::Mark;
use resourcelock::system::disturbs;
use resourcelock::{Ended, Mode};
use rows::{Place, Row};
use scale::Scale;
use spans::Span;
use std::fmt::{Display, Write};
use std::time::SystemTime;

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 230.0;
/// Longer labels are cut.
const LABEL_LENGTH: usize = 34;
/// Room for a mark beside a bar that ends last.
const RIGHT: f64 = 24.0;
const BAR: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// The height of a line of the legend, and where the first one begins.
const LEGEND: f64 = 20.0;
const LEGEND_TOP: f64 = 56.0;
/// The height of the band with a lock's name, where there are several.
const HEADING: f64 = 26.0;
/// More locks are not drawn.
const MOST_LOCKS: usize = 12;
/// Shorter bars would be invisible.
const THINNEST: f64 = 1.0;
/// A mark's distance from its bar's end.
const BESIDE: f64 = 8.0;

/// The picture of the last requests for a lock, or for several, including those that still hold or wait.
pub struct Timeline {
    title: String,
    groups: Vec<Group>,
    /// Locks for which there is no space.
    left_out: usize,
}

/// A lock's part of the picture.
struct Group {
    name: String,
    /// How its requests ended, in words.
    summary: String,
    spans: Vec<Span>,
    places: Vec<Place>,
    rows: Vec<Row>,
    /// Where it begins, below the top of the first one; and its first row.
    top: f64,
    first_row: f64,
}

impl Group {
    fn bottom(&self) -> f64 {
        self.first_row + self.rows.last().map_or(0.0, |row| row.top + row.height())
    }
}

impl Timeline {
    /// Of these locks: `name` names one, else it is about all.
    pub fn new(name: Option<&str>, past: &Past) -> Self {
        let of_lock = |place: usize| {
            let records = past.records.iter().filter(move |(of, _)| *of == place);
            records.map(|(_, record)| record)
        };
        let locks = past.locks.iter().enumerate();
        let mut locks: Vec<(&PastLock, Vec<Span>)> = locks
            .map(|(place, lock)| (lock, spans::all(of_lock(place), lock.state.as_ref())))
            .filter(|(_, spans)| name.is_some() || !spans.is_empty())
            .collect();
        let all = locks.len();
        if all > MOST_LOCKS {
            // Those with the most requests, in the order of their names.
            locks.sort_by_key(|(_, spans)| std::cmp::Reverse(spans.len()));
            locks.truncate(MOST_LOCKS);
            locks.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        }
        let most = rows::most_of_each(locks.len());
        let heading = if name.is_some() { 0.0 } else { HEADING };
        let mut groups: Vec<Group> = Vec::with_capacity(locks.len());
        for (lock, spans) in locks {
            let (rows, places) = rows::arrange(&spans, most);
            let top = groups.last().map_or(0.0, Group::bottom);
            groups.push(Group {
                name: lock.name.clone(),
                summary: summary(&spans),
                spans,
                places,
                rows,
                top,
                first_row: top + heading,
            });
        }
        Self {
            title: name.map_or_else(|| format!("{all} locks"), str::to_owned),
            left_out: all - groups.len(),
            groups,
        }
    }

    fn spans(&self) -> impl Iterator<Item = &Span> + Clone {
        self.groups.iter().flat_map(|group| &group.spans)
    }

    /// A standalone picture.
    pub fn svg(&self) -> String {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", self.picture())
    }

    /// A self-contained page.
    pub fn html(&self) -> String {
        let mut rows = String::new();
        for group in &self.groups {
            for span in &group.spans {
                let _ = writeln!(
                    rows,
                    "<li>{}</li>",
                    escape(&group.describe(span, self.groups.len() > 1))
                );
            }
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}: who waited, who held</title>\n\
             <style>body{{font:15px/1.4 sans-serif;margin:2em auto;max-width:1060px;padding:0 1em}}\
             svg{{width:100%;height:auto}}li{{font-size:13px}}g.request:hover rect{{stroke:#000;stroke-width:1.5}}\
             g.other{{opacity:.12}}li.other{{display:none}}</style>\n\
             <p><label>Show only: <input id=\"only\" type=\"search\" placeholder=\"command, user, crashed, refused\"/></label> \
             <output id=\"found\"></output></p>\n\
             {picture}\n<details><summary>{count} requests as text</summary>\n<ol>\n{rows}</ol>\n</details>\n{SCRIPT}</html>\n",
            name = escape(&self.title),
            picture = self.picture(),
            count = self.spans().count(),
        )
    }

    fn picture(&self) -> String {
        let (legend, lines) = self.legend();
        let top = LEGEND_TOP + LEGEND * lines as f64;
        let height = top + self.height().max(BAR) + BOTTOM;
        let scale = Scale::of(self.spans());
        let period = scale.as_ref().map(Scale::period).unwrap_or_default();
        let more = match self.groups.as_slice() {
            [group] if group.first_row == group.top => group.summary.clone(),
            _ if self.left_out > 0 => format!("{} more locks are not shown", self.left_out),
            _ => String::new(),
        };
        let beside = 12.0 + period.chars().count() as f64 * 6.7 + 18.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
             <title>{name}: who waited, who held</title>\n{PATTERNS}\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"12\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{name}</text>\n\
             <text x=\"12\" y=\"42\" fill=\"#333\">{period}</text>\n\
             <text x=\"{beside:.1}\" y=\"42\" fill=\"#333\">{more}</text>\n{legend}",
            name = escape(&self.title),
            period = escape(&period),
            more = escape(&more),
        );
        match scale {
            Some(scale) => {
                self.axis(&mut svg, &scale, top);
                for group in &self.groups {
                    group.heading(&mut svg, top);
                    group.labels(&mut svg, top);
                }
                for group in &self.groups {
                    for (span, place) in group.spans.iter().zip(&group.places) {
                        group.request(&mut svg, &scale, span, *place, top, self.groups.len() > 1);
                    }
                }
            }
            None => {
                let y = top + BAR;
                let _ = writeln!(svg, "<text x=\"12\" y=\"{y}\">nothing has happened yet</text>");
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn height(&self) -> f64 {
        self.groups.last().map_or(0.0, Group::bottom)
    }

    fn axis(&self, svg: &mut String, scale: &Scale, top: f64) {
        let bottom = top + self.height();
        for tick in scale.ticks() {
            let (x, label, anchor) = (tick.x, escape(&tick.label), tick.anchor);
            let y = bottom + 16.0;
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ccc\"/>\
                 <text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"#333\">{label}</text>"
            );
        }
        let _ = writeln!(
            svg,
            "<line x1=\"{LABELS}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\" stroke=\"#333\"/>",
            WIDTH - RIGHT
        );
    }

    /// What is in the picture, and on how many lines.
    fn legend(&self) -> (String, usize) {
        let mut bars = vec![(WAITING, "waiting")];
        let holds = || self.spans().filter(|span| span.granted.is_some());
        let is = |mode: fn(Mode) -> bool| holds().any(|span| mode(span.mode));
        let (shared, slots) = (
            is(|mode| mode == Mode::Shared),
            is(|mode| matches!(mode, Mode::Slots(_))),
        );
        if is(|mode| mode == Mode::Exclusive) || !(shared || slots) {
            bars.push((EXCLUSIVE, "holding"));
        }
        if shared {
            bars.push((SHARED, "holding (shared)"));
        }
        if slots {
            bars.push((SLOT, "holding (a slot)"));
        }
        let mut marks: Vec<Mark> = Vec::new();
        for mark in self.spans().filter_map(marks::of) {
            if marks.iter().all(|other| other.meaning != mark.meaning) {
                marks.push(mark);
            }
        }
        marks.sort_by_key(|mark| mark.meaning);
        let mut svg = String::new();
        let (mut x, mut line) = (12.0, 0);
        let mut next = |symbol_width: f64, text: &str| {
            let width = symbol_width + 6.0 + text.chars().count() as f64 * 6.6 + 18.0;
            if x + width > WIDTH {
                (x, line) = (12.0, line + 1);
            }
            let at = (x, LEGEND_TOP + LEGEND * f64::from(line));
            x += width;
            at
        };
        for (paint, text) in bars {
            let (x, y) = next(28.0, text);
            svg.push_str(&bar(x, x + 28.0, y, BAR, paint));
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", x + 34.0, y + 11.0);
        }
        for mark in marks {
            let (x, y) = next(10.0, mark.meaning);
            svg.push_str(&mark.at(x + 5.0, y + 7.0));
            let text = mark.meaning;
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", x + 16.0, y + 11.0);
        }
        (svg, line as usize + 1)
    }
}

impl Group {
    /// A request in words; `named`: of which lock.
    fn describe(&self, span: &Span, named: bool) -> String {
        match named {
            true => format!("{}: {}", self.name, span.description()),
            false => span.description(),
        }
    }

    /// The lock's name and how its requests ended, on a band above its rows.
    fn heading(&self, svg: &mut String, top: f64) {
        if self.first_row == self.top {
            return;
        }
        let (top, text) = (top + self.top + 3.0, top + self.top + 16.0);
        let height = HEADING - 4.0;
        let _ = writeln!(
            svg,
            "<rect x=\"0\" y=\"{top}\" width=\"{WIDTH}\" height=\"{height}\" fill=\"#e3e7ee\"/>\
             <text class=\"lock\" x=\"12\" y=\"{text}\" font-weight=\"bold\">{}</text>\
             <text x=\"{LABELS}\" y=\"{text}\" fill=\"#333\">{}</text>",
            escape(&cut(&self.name)),
            escape(&self.summary)
        );
    }

    fn labels(&self, svg: &mut String, top: f64) {
        for (number, row) in self.rows.iter().enumerate() {
            let (top, height) = (top + self.first_row + row.top, row.height());
            if number % 2 == 1 {
                let _ = write!(
                    svg,
                    "<rect x=\"0\" y=\"{top}\" width=\"{WIDTH}\" height=\"{height}\" fill=\"#000\" fill-opacity=\"0.04\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<text class=\"row\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                LABELS - 12.0,
                top + height / 2.0 + 4.0,
                escape(&cut(&row.label))
            );
        }
    }

    fn request(&self, svg: &mut String, scale: &Scale, span: &Span, place: Place, top: f64, named: bool) {
        let Some(row) = self.rows.get(place.row) else { return };
        let (y, height) = (top + self.first_row + row.lane_top(place.lane), row.bar());
        let (queued, end) = (scale.x(span.queued), scale.x(span.end));
        let granted = span.granted.map(|granted| scale.x(granted));
        let _ = write!(
            svg,
            "<g class=\"request\"><title>{}</title>",
            escape(&self.describe(span, named))
        );
        let wait_ends = granted.unwrap_or(end);
        let refused = span.how == Some(Ended::Refused);
        if !refused && (wait_ends - queued >= THINNEST || granted.is_none()) {
            svg.push_str(&bar(queued, wait_ends, y, height, WAITING));
        }
        if let Some(granted) = granted {
            svg.push_str(&bar(granted, end, y, height, fill(span)));
        }
        if let Some(mark) = marks::of(span) {
            // A refusal takes no time: its mark is all that there is.
            let x = if refused {
                end
            } else {
                end.max(wait_ends + THINNEST) + BESIDE
            };
            svg.push_str(&mark.at(x, y + height / 2.0));
        }
        svg.push_str("</g>\n");
    }
}

/// How requests ended, in words: the usual first, then what went wrong.
fn summary(spans: &[Span]) -> String {
    let count = |is: &dyn Fn(&Span) -> bool| spans.iter().filter(|span| is(span)).count();
    let mut parts = Vec::new();
    let mut add = |number: usize, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    let holds = count(&|span| span.granted.is_some() && span.how.is_some());
    add(holds, if holds == 1 { "hold" } else { "holds" });
    add(
        count(&|span| span.granted.is_some() && span.how.is_none()),
        "still holding",
    );
    add(
        count(&|span| span.granted.is_none() && span.how.is_none()),
        "still waiting",
    );
    let failed = |span: &Span| span.how == Some(Ended::Released) && marks::of(span).is_some();
    add(count(&failed), "failed");
    for how in [
        Ended::Crashed,
        Ended::Limit,
        Ended::Abandoned,
        Ended::Forced,
        Ended::Expired,
        Ended::Refused,
        Ended::TimedOut,
        Ended::Cancelled,
    ] {
        let what = if how == Ended::Limit {
            "ended at the limit"
        } else {
            how.as_str()
        };
        add(count(&|span| span.how == Some(how)), what);
    }
    parts.join(", ")
}

/// The field of the page above: what does not contain its text fades.
const SCRIPT: &str = "<script>\n\
    const requests = [...document.querySelectorAll('g.request')], items = [...document.querySelectorAll('li')];\n\
    document.getElementById('only').addEventListener('input', event => {\n\
    const text = event.target.value.trim().toLowerCase();\n\
    const fits = element => element.textContent.toLowerCase().includes(text);\n\
    for (const element of [...requests, ...items]) element.classList.toggle('other', !fits(element));\n\
    const found = requests.filter(fits).length;\n\
    document.getElementById('found').textContent = text ? `${found} of ${requests.length} requests` : '';\n\
    });\n</script>\n";

/// What the bars are painted with.
const PATTERNS: &str = "<defs>\
    <pattern id=\"waiting\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect width=\"6\" height=\"6\" fill=\"#fdf0d5\"/><rect width=\"2\" height=\"6\" fill=\"#d98e04\"/></pattern>\
    <pattern id=\"shared\" width=\"6\" height=\"4\" patternUnits=\"userSpaceOnUse\">\
    <rect width=\"6\" height=\"4\" fill=\"#bcd9ec\"/><rect width=\"6\" height=\"1.5\" fill=\"#1f4e79\"/></pattern>\
    <pattern id=\"slot\" width=\"5\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
    <rect width=\"5\" height=\"6\" fill=\"#bfe3cf\"/><rect width=\"1.5\" height=\"6\" fill=\"#14663a\"/></pattern></defs>\n";

/// Fill and edge of a bar.
type Paint = (&'static str, &'static str);
const WAITING: Paint = ("url(#waiting)", "#a86a00");
const EXCLUSIVE: Paint = ("#1f4e79", "#1f4e79");
const SHARED: Paint = ("url(#shared)", "#1f4e79");
const SLOT: Paint = ("url(#slot)", "#14663a");

fn fill(span: &Span) -> Paint {
    match span.mode {
        Mode::Exclusive => EXCLUSIVE,
        Mode::Shared => SHARED,
        Mode::Slots(_) => SLOT,
    }
}

fn bar(from: f64, to: f64, y: f64, height: f64, (fill, edge): Paint) -> String {
    let width = (to - from).max(THINNEST);
    format!(
        "<rect x=\"{from:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{fill}\" stroke=\"{edge}\" \
         stroke-width=\"0.5\"/>"
    )
}

/// A label that fits.
fn cut(label: &str) -> String {
    if label.chars().count() <= LABEL_LENGTH {
        return label.to_owned();
    }
    // The end tells more: the process, or how many there are.
    let (beginning, end) = label.rsplit_once(' ').unwrap_or((label, ""));
    let room = LABEL_LENGTH.saturating_sub(end.chars().count() + 2);
    format!("{}\u{2026} {end}", beginning.chars().take(room).collect::<String>())
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
