//! The manual page is generated from the definitions and committed; this test compares them.
//! `BLESS=1 cargo test generated` writes them anew.

use super::words::Command;
use std::fs;
use std::path::Path;

#[test]
fn the_committed_page_is_what_the_definitions_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let page = folder.join("resourcelock.1");
    let generated = manual(&folder.join("sections.roff"));
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

/// The page: the hand-written sections, with title, synopsis and a section for each command from the definitions.
fn manual(sections: &Path) -> String {
    let by_hand = fs::read_to_string(sections).expect("the hand-written sections can be read");
    let (before, after) = by_hand
        .split_once(".\\\" COMMANDS\n")
        .expect("the place of the commands is marked");
    let about = super::tree().get_about().expect("the tool has one").to_string();
    let about = about.trim_end_matches('.').replacen("Named", "named", 1);
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
    text.push_str(before);
    text.push_str(".SH COMMANDS\n");
    for command in Command::ALL {
        text.push_str(&command_section(command));
    }
    text.push_str(after);
    text
}

fn command_section(command: Command) -> String {
    let definition = super::definition(command);
    let about = definition.get_about().expect("every command has one").to_string();
    let operands = match command {
        Command::Run => " [\\fIOPTIONS\\fR] [\\fB\\-\\-\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]",
        Command::Completions => " \\fISHELL\\fR",
        _ => " [\\fIOPTIONS\\fR]",
    };
    let name = if command.wants_name() { "\\fINAME\\fR " } else { "" };
    let mut text = format!(".SS {name}\\fB{}\\fR{operands}\n{}.\n", command.word(), roff(&about));
    // Options of every command stand once, in a section of their own.
    let common = super::common();
    for arg in definition
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && arg.get_long().is_some())
    {
        if !common.iter().any(|other| other.get_id() == arg.get_id()) {
            text.push_str(&option(arg));
        }
    }
    text
}

/// An option with all its spellings, its value and its help.
fn option(arg: &clap::Arg) -> String {
    let shorts = arg.get_short_and_visible_aliases().unwrap_or_default();
    let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
    let shorts = shorts.iter().map(|letter| format!("\\fB\\-{letter}\\fR"));
    let longs = longs.iter().map(|long| format!("\\fB\\-\\-{}\\fR", roff(long)));
    let spellings: Vec<String> = shorts.chain(longs).collect();
    let value = match arg.get_value_names() {
        Some([value]) if arg.get_action().takes_values() => format!(" \\fI{value}\\fR"),
        _ => String::new(),
    };
    let help = arg.get_help().expect("every option has one").to_string();
    format!(".TP\n{}{value}\n{}.\n", spellings.join(", "), roff(help.trim_end()))
}

/// Text for roff: dashes that can be copied, no line that looks like a request.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace("\n.", "\n\\&.")
        .replace("\n'", "\n\\&'")
}
