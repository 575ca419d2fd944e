//! The manual page is generated from the definitions and committed; this test compares it.
//! `BLESS=1 cargo test generated` rewrites it.

use super::command::Command;
use super::help;
use super::options::{CREATE_NOTHING, LOCAL, OPTIONS, OptionDef, Preset};
use std::fs;
use std::path::Path;

#[test]
fn the_committed_page_is_what_the_definitions_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let page = directory.join("resourcelock.1");
    let generated = manual(&directory.join("sections.roff"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&page, generated).expect("the page can be written");
    } else {
        let committed = fs::read_to_string(&page).unwrap_or_default();
        assert!(
            committed == generated,
            "{} is stale: BLESS=1 cargo test generated",
            page.display()
        );
    }
}

/// The page: the hand-written sections, with the title, the synopsis and the lists of options from the definitions. A
/// line `.\" OPTIONS run` stands for the options of `run`.
fn manual(sections: &Path) -> String {
    let by_hand = fs::read_to_string(sections).expect("the hand-written sections can be read");
    let about = help::ABOUT.replacen("Named", "named", 1);
    let mut text = format!(
        ".\\\" Generated from the definitions of the command line and man/sections.roff.\n\
         .TH RESOURCELOCK 1 2026-11-24 \"resourcelock {}\" \"User Commands\"\n\
         .SH NAME\nresourcelock \\- {}\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION"),
        roff(&about),
    );
    let synopses = [
        "[\\fIOPTIONS\\fR] \\fINAME\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]",
        "[\\fIOPTIONS\\fR] \\fINAME\\fR \\fBrun\\fR [\\fIOPTIONS\\fR] [\\fB\\-\\-\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]",
        "\\fBlist\\fR | \\fBdoctor\\fR | \\fBcompletions\\fR \\fISHELL\\fR | \\fBhelp\\fR [\\fICOMMAND\\fR]",
    ];
    text.push_str(
        &synopses
            .map(|synopsis| format!(".B resourcelock\n{synopsis}\n"))
            .join(".br\n"),
    );
    let mut listed = Vec::new();
    for line in by_hand.lines() {
        match line.strip_prefix(".\\\" OPTIONS ") {
            Some(whose) => {
                text.push_str(&options(whose));
                listed.push(whose);
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    for command in Command::ALL {
        let has_options = !options(command.word()).is_empty();
        assert_eq!(has_options, listed.contains(&command.word()), "{command:?}");
    }
    text
}

/// A command's own options; `common`: those of every command; `request`: those that `run` and `get` share; `trust`: those
/// that say whose locks are used.
fn options(whose: &str) -> String {
    let is_common = |option: &OptionDef| option.commands.len() == Command::ALL.len();
    let is_request = |option: &OptionDef| *option.commands == [Command::Run, Command::Get];
    let is_trust = |option: &OptionDef| [LOCAL, CREATE_NOTHING].contains(&option.commands);
    let listed: Box<dyn Fn(&OptionDef) -> bool> = match whose {
        "common" => Box::new(is_common),
        "request" => Box::new(is_request),
        "trust" => Box::new(is_trust),
        word => {
            let command = Command::from_word(word.as_ref()).unwrap_or_else(|| panic!("there is no command {word}"));
            let is_shared = move |option: &OptionDef| is_common(option) || is_request(option) || is_trust(option);
            Box::new(move |option| option.commands.contains(&command) && !is_shared(option))
        }
    };
    OPTIONS
        .iter()
        .filter(|option| !option.hidden && listed(option))
        .map(entry)
        .collect()
}

/// An option with all its spellings, its value, and everything that is said about it.
fn entry(option: &OptionDef) -> String {
    let letters = option.letters.iter().map(|letter| format!("\\fB\\-{letter}\\fR"));
    let names = option
        .names_for(None)
        .map(|name| format!("\\fB\\-\\-{}\\fR", roff(name)));
    let spellings: Vec<String> = letters.chain(names).collect();
    let value = option.value.map(|(name, _)| format!(" \\fI{name}\\fR"));
    let mut text = match option.preset {
        Preset::ValueFor(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|(command, value)| format!("{value} for {}", command.word()))
                .collect();
            format!("{} (default: {})", option.help, values.join(", "))
        }
        _ => option.help_for(option.commands[0]),
    };
    text.push_str(".\n");
    let conflicts = option.conflicts.as_ref().map(|conflict| {
        let others: Vec<String> = conflict.with.iter().map(|other| format!("--{other}")).collect();
        let list = match others.as_slice() {
            [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            others => others.concat(),
        };
        format!("Cannot be combined with {list}.")
    });
    let refines = option.refines.map(|main| format!("Only together with --{main}."));
    let where_met = option.needs.map(|needs| needs.need.where_met().to_owned());
    let more = Some(option.more.to_owned()).filter(|more| !more.is_empty());
    for sentences in [more, conflicts, refines, where_met].into_iter().flatten() {
        text.push_str(&sentences);
        text.push('\n');
    }
    format!(
        ".TP\n{}{}\n{}",
        spellings.join(", "),
        value.unwrap_or_default(),
        roff(&text)
    )
}

/// Text for roff: dashes that can be copied, no line that looks like a request.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace("\n.", "\n\\&.")
        .replace("\n'", "\n\\&'")
}
