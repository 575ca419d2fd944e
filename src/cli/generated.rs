//! The manual page, and the list of what is said about wrong command lines, are generated from the definitions and
//! committed; these tests compare them. `BLESS=1 cargo test generated` rewrites them.

use super::command::Command;
use super::help;
use super::options::{CREATE_NOTHING, Kind, LOCAL, OPTIONS, OptionDef, Preset};
use super::parse::parse;
use std::fs;
use std::path::Path;

/// Asserts that a committed file has this content.
fn committed(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, generated).expect("the file can be written");
    } else {
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "{file} is stale: BLESS=1 cargo test generated");
    }
}

#[test]
fn the_committed_page_is_what_the_definitions_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    committed("man/resourcelock.1", &manual(&directory.join("sections.roff")));
}

/// Whoever changes a message sees it in the difference of `src/cli/refusals.txt`, and reads it.
#[test]
fn the_committed_refusals_are_what_is_said() {
    let mut lines: Vec<Vec<String>> = REFUSED
        .iter()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    for option in OPTIONS {
        let command = option.commands[0];
        let line = |options: &[String]| {
            let name = command.takes_name().then(|| "bus".to_owned());
            name.into_iter()
                .chain([command.word().to_owned()])
                .chain(options.iter().cloned())
                .chain((command == Command::Run).then(|| "ls".to_owned()))
                .collect()
        };
        // As few words as it takes to give an option.
        let given = |name: &str| {
            let option = OPTIONS.iter().find(|other| other.name == name);
            let value = option
                .and_then(|option| option.value)
                .map(|(_, kind)| format!("={}", good(kind)));
            format!("--{name}{}", value.unwrap_or_default())
        };
        if option.value.is_some() {
            lines.push(line(&[format!("--{}=?", option.name)]));
        }
        for other in option.conflicts.iter().flat_map(|conflict| conflict.with) {
            lines.push(line(&[given(option.name), given(other)]));
        }
        if option.refines.is_some() {
            lines.push(line(&[given(option.name)]));
        }
    }
    let mut text = "What is said about wrong command lines. Rewritten by: BLESS=1 cargo test generated\n".to_owned();
    for line in lines {
        if let Err(usage) = parse(line.iter().map(Into::into)) {
            text.push_str(&format!("\nresourcelock {}\n    {usage}\n", line.join(" ")));
        }
    }
    committed("src/cli/refusals.txt", &text);
}

/// A valid value.
fn good(kind: Kind) -> &'static str {
    match kind {
        Kind::Permissions => "660",
        Kind::Signal => "INT",
        Kind::OneOf(words) => words[0],
        _ => "1",
    }
}

/// Wrong command lines beside those that the table of options gives rise to.
const REFUSED: [&str; 29] = [
    "",
    "bus",
    "get",
    "lst",
    "get bus",
    "sate bus",
    "bus gte",
    "bus unlock",
    "bus sleep 5",
    "bus list",
    "bus --mesage x",
    "bus get --mesage x",
    "bus get --nosuch",
    "bus get --limit 5",
    "bus get --ver",
    "bus get more",
    "list more",
    "help lits",
    "help nosuch",
    "completions",
    "completions csh",
    "bus run",
    "bus run -c ls ls",
    "bus run --replace -t 0 ls",
    "bus run --mode 777 ls",
    "bus run -j 0 ls",
    "bus get -E 256",
    "bus get -t",
    "bus get -n=1",
];

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
        "\\fBprune\\fR [\\fIOPTIONS\\fR] [\\fIPATTERN\\fR...]",
        "\\fBlist\\fR | \\fBtop\\fR | \\fBhistory\\fR | \\fBdoctor\\fR [\\fIOPTIONS\\fR]",
        "\\fBcompletions\\fR \\fISHELL\\fR | \\fBhelp\\fR [\\fICOMMAND\\fR]",
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
