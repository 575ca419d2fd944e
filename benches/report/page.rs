//! Writes `docs/benchmarks.md` and its pictures.

use crate::curve;
use crate::figures::{Report, Row, Target, shown};
use crate::machine;
use crate::missed;
use std::fmt::Write as _;
use std::path::Path;

const HEAD: &str = "\
# Figures

What the lock costs, beside what else one could use. `scripts/benchmarks.sh` measures all of it in one run and writes this
page and its pictures. The ratios depend on the machine, and the absolute figures even more. What is compared is
measured in turn, so that other load affects both alike. Figures are medians. *Ratio* is the median of ours by the median of the peer's; in
parentheses, the ratios of what was measured one after the other, without the lowest and the highest tenth.
";

/// The rows of some parts as a table.
fn table(page: &mut String, rows: &[&Row]) {
    page.push_str("| | ours | peer | the peer's | ratio | target | |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let (name, theirs) = row.peer.as_ref().map_or(("–", "–".to_owned()), |peer| {
            (peer.name.as_str(), shown(peer.theirs, row.unit))
        });
        let verdict = match row.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        let _ = writeln!(
            page,
            "| {} | {} | {name} | {theirs} | {} | {} | {verdict} |",
            row.what,
            shown(row.ours, row.unit).trim_end(),
            row.ratio(),
            row.aim().trim_end()
        );
    }
    page.push('\n');
}

/// Writes both; what cannot be written is said.
pub fn write(report: &Report, root: &Path) {
    let mut page = HEAD.to_owned();
    let elsewhere = |row: &&Row| row.part != PYTHON;
    let (aimed, others): (Vec<&Row>, Vec<&Row>) = report
        .rows
        .iter()
        .filter(elsewhere)
        .partition(|row| !matches!(row.target, Target::None));
    let missed = aimed.iter().filter(|row| row.is_met() == Some(false)).count();
    let _ = write!(
        page,
        "\n## Targets\n\n{} of {} are met.\n\n",
        aimed.len() - missed,
        aimed.len()
    );
    table(&mut page, &aimed);
    let reasons = missed::reasons(&aimed);
    if !reasons.is_empty() {
        let _ = write!(page, "Why some are missed:\n\n{}\n\n", reasons.join("\n"));
    }
    page.push_str("## Beside other peers\n\n");
    table(&mut page, &others);
    if !report.left_out.is_empty() {
        page.push_str("Left out of this run:\n\n");
        for (what, why) in &report.left_out {
            let _ = writeln!(page, "- {what}: {why}");
        }
        page.push('\n');
    }
    page.push_str(&python(report));
    page.push_str("## How cost grows\n\n");
    for picture in &report.pictures {
        let _ = write!(
            page,
            "{}.{}\n\n![{}]({}.svg)\n\n",
            picture.caption,
            picture.note.map_or_else(String::new, |note| format!(" {note}")),
            picture.caption,
            picture.file
        );
    }
    calls(&mut page, report);
    page.push_str("## Machine and versions\n\n| | |\n|---|---|\n");
    for (what, fact) in machine::facts() {
        let _ = writeln!(page, "| {what} | {fact} |");
    }
    let _ = writeln!(
        page,
        "\nThe measurements took {:.0} s{}.",
        report.begun.elapsed().as_secs_f64(),
        if report.quick {
            ", with few repetitions (`--quick`)"
        } else {
            ""
        }
    );
    // Last: until here, the checkout is as it was built.
    for picture in &report.pictures {
        save(
            &root.join("docs").join(format!("{}.svg", picture.file)),
            &curve::svg(picture),
        );
    }
    save(&root.join("docs/benchmarks.md"), &page);
}

/// The part with a section of its own.
const PYTHON: &str = "python";
const PYTHON_TITLE: &str = "## Python packages\n";

/// A fact about the machine, which says how busy it was.
const LOAD: &str = "load average, processes";

/// The section about Python; empty if that was not measured.
fn python(report: &Report) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.part == PYTHON).collect();
    if rows.is_empty() {
        return String::new();
    }
    let facts: Vec<String> = machine::facts()
        .into_iter()
        .filter(|(what, _)| ["date", "processor", LOAD, "Python"].contains(what))
        .map(|(what, fact)| match what {
            LOAD => format!("load average {}", fact.split(' ').take(3).collect::<Vec<_>>().join(" ")),
            _ => fact,
        })
        .collect();
    let mut section = format!(
        "{PYTHON_TITLE}\nThe Python package ([python.md](python.md)) beside others, each with its defaults. Only ours serves requests in \
         order and knows who holds the lock. filelock, fasteners and portalocker ask again and again while they wait; cjnfuncs \
         and posix_ipc keep the lock of a process that was killed. Measured: {}.\n\n",
        facts.join("; ")
    );
    table(&mut section, &rows);
    section
}

/// Replaces the section about Python, or adds it.
pub fn update_python(report: &Report, root: &Path) {
    let (path, section) = (root.join("docs/benchmarks.md"), python(report));
    if section.is_empty() {
        return println!("{}: nothing that was measured has a section of its own", path.display());
    }
    let page = match std::fs::read_to_string(&path) {
        Ok(page) => page,
        Err(error) => return println!("cannot read {}: {error}", path.display()),
    };
    // Without one, it comes before the pictures.
    let title = [PYTHON_TITLE, "## How cost grows\n"]
        .into_iter()
        .find_map(|title| Some((page.find(title)?, title == PYTHON_TITLE)));
    let (at, replaces) = title.unwrap_or((page.len(), false));
    let (before, rest) = page.split_at(at);
    let after = if replaces {
        rest[PYTHON_TITLE.len()..]
            .find("\n## ")
            .map_or("", |end| &rest[PYTHON_TITLE.len() + end + 1..])
    } else {
        rest
    };
    save(&path, &format!("{before}{section}{after}"));
}

fn calls(page: &mut String, report: &Report) {
    if report.calls.is_empty() {
        return;
    }
    let all: usize = report.calls.iter().map(|call| call.times).sum();
    let _ = write!(
        page,
        "## What a run does\n\nThe {all} system calls of `resourcelock NAME run -- true` on a lock that exists, in order; those of the \
         same reason that follow each other are one line.\n\n| | times | why |\n|---|---|---|\n"
    );
    let mut rest = report.calls.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|call| call.reason == first.reason).count();
        let (these, others) = rest.split_at(same);
        let times: usize = these.iter().map(|call| call.times).sum();
        let mut names: Vec<&str> = these.iter().filter_map(|call| call.shown.split('(').next()).collect();
        names.dedup();
        let reason = first.reason.unwrap_or("**no reason is known**");
        let _ = writeln!(page, "| `{}` | {times} | {reason} |", names.join("`, `"));
        rest = others;
    }
    page.push('\n');
}

fn save(path: &Path, text: &str) {
    match std::fs::write(path, text) {
        Ok(()) => println!("wrote {}", path.display()),
        Err(error) => println!("cannot write {}: {error}", path.display()),
    }
}
