//! The manual page is generated from the definitions and committed; this test compares it.
//! `BLESS=1 cargo test generated` writes it anew.

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

/// The page: the hand-written sections, with title, synopsis and the lists of options from the definitions. A line
/// `.\" OPTIONS run` stands for the options of `run`.
fn manual(sections: &Path) -> String {
    let by_hand = fs::read_to_string(sections).expect("the hand-written sections can be read");
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

/// The options of a command that it does not share with all (`common`), or with the other that asks for a lock
/// (`request`).
fn options(whose: &str) -> String {
    let (common, request) = (super::common().to_vec(), super::request());
    let args: Vec<clap::Arg> = match whose {
        "common" => common,
        "request" => request,
        word => {
            let command = Command::ALL.into_iter().find(|command| command.word() == word);
            let definition = super::definition(command.unwrap_or_else(|| panic!("there is no command {word}")));
            let shared: Vec<_> = if matches!(word, "run" | "get") {
                common.into_iter().chain(request).collect()
            } else {
                common
            };
            let is_shared = |arg: &clap::Arg| shared.iter().any(|other| other.get_id() == arg.get_id());
            definition
                .get_arguments()
                .filter(|arg| !is_shared(arg))
                .cloned()
                .collect()
        }
    };
    args.iter()
        .filter(|arg| !arg.is_hide_set() && arg.get_long().is_some())
        .map(option)
        .collect()
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
