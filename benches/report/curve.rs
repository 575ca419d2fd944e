//! Draws curves: SVG, both axes logarithmic.

use crate::figures::{Diagram, Line, Picture};
use std::fmt::Write as _;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 340.0;
/// Around the area that is drawn in, within each diagram.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const LEGEND_LINE: f64 = 18.0;

/// Ours is the first; can be told apart without seeing colours, by the dashes as well.
const STYLES: [(&str, &str); 6] = [
    ("#0b5fa5", ""),
    ("#c8501e", "7 4"),
    ("#3c8d40", "2 3"),
    ("#7a4ea3", "9 3 2 3"),
    ("#8a6d1d", "4 2"),
    ("#555555", "1 2"),
];

/// Maps values to places on one axis, from one power of ten to another.
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value.log10()), high.max(value.log10()));
        }
        let low = low.floor() as i32;
        Self {
            low,
            high: (high.ceil() as i32).max(low + 1),
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }
}

/// 1000 is written 1,000 and 10^6 1 M.
fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{},000", value / 1e3),
        value if value >= 1.0 => format!("{value}"),
        value => format!("{value:.*}", (-value.log10()).ceil() as usize),
    }
}

/// What is 0 has no logarithm: it is drawn at the lower edge, which is called 0 then.
fn drawn(line: &Line, least: f64, edge: f64) -> impl Iterator<Item = (f64, f64)> {
    line.points
        .iter()
        .map(move |(x, y)| (*x, if *y > 0.0 { y.max(least) } else { edge }))
}

fn diagram(svg: &mut String, left: f64, diagram: &Diagram) {
    let values = || diagram.lines.iter().flat_map(|line| &line.points);
    let positive = values().map(|(_, y)| *y).filter(|y| *y > 0.0);
    // What is hardly anything would press everything else together.
    let most = values().map(|(_, y)| *y).fold(0.001, f64::max);
    let least = positive.fold(most, f64::min).max(most / 1e5);
    let x = Axis::new(values().map(|(x, _)| *x), left + LEFT, left + WIDTH - RIGHT);
    let mut y = Axis::new(values().map(|(_, y)| y.max(least)), HEIGHT - BOTTOM, TOP);
    let has_zero = values().any(|(_, y)| *y <= 0.0);
    y.low -= i32::from(has_zero);
    let edge = 10f64.powi(y.low);
    let unit = if diagram.unit.is_empty() {
        String::new()
    } else {
        format!(", {}", diagram.unit)
    };
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"24\" class=\"title\">{}{unit}</text>",
        left + LEFT,
        diagram.title
    );
    for power in y.powers() {
        let at = y.place(power);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {at:.1}H{:.1}\" class=\"grid\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"end\">{}</text>",
            x.from,
            x.to,
            x.from - 8.0,
            at + 4.0,
            if has_zero && power <= edge {
                "0".to_owned()
            } else {
                label(power)
            }
        );
    }
    for power in x.powers() {
        let at = x.place(power);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{:.1}\" class=\"grid\"/><text x=\"{at:.1}\" y=\"{:.1}\" class=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0,
            label(power)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" class=\"middle\">{}</text>",
        (x.from + x.to) / 2.0,
        HEIGHT - BOTTOM + 38.0,
        diagram.across
    );
    for (index, (line, (colour, dashes))) in diagram.lines.iter().zip(STYLES).enumerate() {
        let points: Vec<String> = drawn(line, least, edge)
            .map(|(across, up)| format!("{:.1},{:.1}", x.place(across), y.place(up)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\"/>",
            points.join(" ")
        );
        for point in &points {
            let (across, up) = point.split_once(',').expect("two numbers");
            let _ = writeln!(svg, "<circle cx=\"{across}\" cy=\"{up}\" r=\"2.6\" fill=\"{colour}\"/>");
        }
        let at = HEIGHT + index as f64 * LEGEND_LINE;
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}h34\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\"/><text x=\"{:.1}\" y=\"{at:.1}\">{}</text>",
            left + LEFT,
            at - 4.0,
            left + LEFT + 42.0,
            line.name
        );
    }
}

/// The picture as SVG.
pub fn svg(picture: &Picture) -> String {
    let width = WIDTH * picture.diagrams.len() as f64;
    let lines = picture.diagrams.iter().map(|diagram| diagram.lines.len()).max();
    let height = HEIGHT + lines.unwrap_or_default() as f64 * LEGEND_LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{}</title>\n<style>text{{fill:#222}}\
         .title{{font-weight:bold;font-size:14px}}.end{{text-anchor:end}}.middle{{text-anchor:middle}}\
         .grid{{stroke:#ddd}}path,polyline{{fill:none;stroke-width:2}}.grid{{stroke-width:1}}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n",
        picture.caption.replace('`', "")
    );
    for (index, each) in picture.diagrams.iter().enumerate() {
        diagram(&mut svg, WIDTH * index as f64, each);
    }
    svg.push_str("</svg>\n");
    svg
}
