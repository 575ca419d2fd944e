//! What was measured. Each figure is printed when it is known; the page is written from all of them.

use std::time::Instant;

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Target {
    /// A peer shown for comparison.
    None,
    /// The ratio of ours to the peer's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// The figure itself.
    AtMost(f64),
    AtLeast(f64),
}

/// One figure, beside a peer's if there is one.
pub struct Row {
    /// What part of the report it belongs to.
    pub part: &'static str,
    pub what: String,
    pub unit: &'static str,
    pub ours: f64,
    pub peer: Option<Peer>,
    pub target: Target,
}

pub struct Peer {
    pub name: String,
    pub theirs: f64,
    /// The median of ours by the median of theirs.
    pub ratio: f64,
    /// The ratios of what was measured one after the other: a tenth is below, a tenth above.
    pub spread: Option<[f64; 2]>,
}

impl Row {
    /// If it is as it should be. `None`: it has no target.
    pub fn is_met(&self) -> Option<bool> {
        let ratio = self.peer.as_ref().map(|peer| peer.ratio);
        match self.target {
            Target::None => None,
            Target::RatioAtMost(most) => Some(ratio.is_some_and(|ratio| round(ratio) <= most)),
            Target::RatioAtLeast(least) => Some(ratio.is_some_and(|ratio| round(ratio) >= least)),
            Target::AtMost(most) => Some(self.ours <= most),
            Target::AtLeast(least) => Some(self.ours >= least),
        }
    }

    /// The target, as it is written.
    pub fn aim(&self) -> String {
        match self.target {
            Target::None => String::new(),
            Target::RatioAtMost(most) => format!("≤ {most:.2} ×"),
            Target::RatioAtLeast(least) => format!("≥ {least:.2} ×"),
            Target::AtMost(most) => format!("≤ {most} {}", self.unit),
            Target::AtLeast(least) => format!("≥ {least} {}", self.unit),
        }
    }

    pub fn ratio(&self) -> String {
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.theirs != 0.0) else {
            return String::new();
        };
        let spread = peer.spread.map(|[low, high]| format!(" ({low:.2}–{high:.2})"));
        format!("{:.2}{}", peer.ratio, spread.unwrap_or_default())
    }
}

/// As it is shown.
fn round(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// A figure with its unit, as many digits as mean something.
pub fn shown(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        value if value == 0.0 || value >= 100.0 || unit.is_empty() => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {unit}")
}

/// A curve's values, by the number of processes, waiters or locks.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One diagram; both axes are logarithmic.
pub struct Diagram {
    pub title: String,
    pub across: &'static str,
    pub unit: &'static str,
    pub lines: Vec<Line>,
}

/// A picture of one or more diagrams.
pub struct Picture {
    /// The file's name, without `.svg`.
    pub file: &'static str,
    pub caption: &'static str,
    /// What in it needs a word.
    pub note: Option<&'static str>,
    pub diagrams: Vec<Diagram>,
}

/// A system call of a run, and why it is made.
pub struct Call {
    pub times: usize,
    pub shown: String,
    pub reason: Option<&'static str>,
}

pub struct Report {
    pub quick: bool,
    pub begun: Instant,
    /// The part that is being measured.
    part: &'static str,
    pub rows: Vec<Row>,
    /// What could not be measured, and why.
    pub left_out: Vec<(String, String)>,
    pub pictures: Vec<Picture>,
    pub calls: Vec<Call>,
}

impl Report {
    pub fn new(quick: bool) -> Self {
        Self {
            quick,
            begun: Instant::now(),
            part: "",
            rows: Vec::new(),
            left_out: Vec::new(),
            pictures: Vec::new(),
            calls: Vec::new(),
        }
    }

    pub fn begin(&mut self, part: &'static str) {
        self.part = part;
        println!("\n{part} ({:.0} s)", self.begun.elapsed().as_secs_f64());
    }

    /// `full` repetitions, or some of them if this is to be quick.
    pub fn times(&self, full: usize) -> usize {
        if self.quick { (full / 8).max(2) } else { full }
    }

    /// Compares figures that were measured in turn.
    pub fn compare(
        &mut self,
        what: &str,
        unit: &'static str,
        ours: &[f64],
        (name, theirs): (&str, &[f64]),
        target: Target,
    ) {
        let (middle, peer) = (median(ours), median(theirs));
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        self.add(Row {
            part: self.part,
            what: what.to_owned(),
            unit,
            ours: middle,
            peer: Some(Peer {
                name: name.to_owned(),
                theirs: peer,
                ratio: middle / peer,
                spread: (ratios.len() > 2).then(|| [quantile(&ratios, 0.1), quantile(&ratios, 0.9)]),
            }),
            target,
        });
    }

    /// A figure without a peer.
    pub fn alone(&mut self, what: &str, unit: &'static str, ours: f64, target: Target) {
        self.add(Row {
            part: self.part,
            what: what.to_owned(),
            unit,
            ours,
            peer: None,
            target,
        });
    }

    fn add(&mut self, row: Row) {
        let verdict = match row.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        let peer = row.peer.as_ref();
        println!(
            "{:<58} {:>11} {:>11}  {:<18} {:<9} {verdict:<7} {}",
            row.what,
            shown(row.ours, row.unit),
            peer.map_or(String::new(), |peer| shown(peer.theirs, row.unit)),
            row.ratio(),
            row.aim(),
            peer.map_or("", |peer| &peer.name),
        );
        self.rows.push(row);
    }

    pub fn left_out(&mut self, what: &str, why: &str) {
        let why = why.lines().next().unwrap_or_default();
        println!("{what}: left out: {why}");
        self.left_out.push((what.to_owned(), why.to_owned()));
    }
}

/// The value below which `share` (0 to 1) of the values lie.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}
