//! Help: the table of options and the commands' own lines, laid out by clap.

use super::command::{Command, Named};
use super::options::{OPTIONS, OptionDef, options_of};
use clap::builder::StyledStr;
use clap::{Arg, ArgAction};

/// The first line of the help, and the manual page's title.
pub const ABOUT: &str = "Named locks for processes: run a command under a lock, see who holds it and who is waiting";

const USAGE: &str = "resourcelock [OPTIONS] NAME COMMAND [OPTIONS]
       resourcelock [OPTIONS] NAME run [OPTIONS] [--] COMMAND [ARG...]
       resourcelock list | top | history | prune | doctor | completions SHELL | help COMMAND";

const TEMPLATE: &str = "{about}

Usage: {usage}

Commands (prune, list, top, doctor and completions take no NAME, history may; a lock of that name: /list):
{subcommands}

Options:
{options}{after-help}";

const EXAMPLES: [&str; 2] = [
    "resourcelock i2c run -- read_sensor.sh      one at a time; the others wait",
    "resourcelock backup run -n -E 0 -- backup   skip this run if one is in progress",
];

/// The width of help. (clap can find out the terminal's, but not without further packages.)
const COLUMNS: usize = 80;

/// `-V`.
pub fn version() -> StyledStr {
    tree().render_version().into()
}

/// `--help`.
pub fn overview() -> StyledStr {
    tree().render_help()
}

/// `help COMMAND`.
pub fn of(command: Command) -> StyledStr {
    definition(command).render_help()
}

/// The whole program. NAME comes before the command, which clap cannot express.
fn tree() -> clap::Command {
    let every_command = OPTIONS
        .iter()
        .filter(|option| option.commands.len() == Command::ALL.len());
    clap::Command::new("resourcelock")
        .version(env!("CARGO_PKG_VERSION"))
        .about(format!("{ABOUT}."))
        .override_usage(USAGE)
        .help_template(TEMPLATE)
        .after_help(examples(EXAMPLES))
        .disable_help_subcommand(true)
        .args(every_command.map(|option| arg(option, Command::Run)))
        .subcommands(Command::ALL.map(definition))
}

fn definition(command: Command) -> clap::Command {
    let def = command.def();
    let name = match def.name {
        Named::One => "NAME ",
        Named::OneOrAll => "[NAME] ",
        Named::None => "",
    };
    let operand = match command {
        Command::Run => Some(
            Arg::new("COMMAND")
                .help("The command and its arguments; passed on unchanged")
                .num_args(0..),
        ),
        Command::Completions => Some(Arg::new("SHELL").help("bash, zsh or fish").required(true)),
        Command::Remove => Some(
            Arg::new("NAME")
                .help("More locks; *, ? and [a-z] stand for other characters")
                .num_args(0..),
        ),
        Command::Prune => Some(
            Arg::new("PATTERN")
                .help("Only these locks: names, or patterns as of files")
                .num_args(0..),
        ),
        _ => None,
    };
    clap::Command::new(def.word)
        .about(def.about)
        .override_usage(format!("resourcelock {name}{} {}", def.word, def.operands))
        .after_help(examples(def.examples))
        .args(operand)
        .args(options_of(Some(command)).map(|option| arg(option, command)))
}

fn examples(lines: [&str; 2]) -> String {
    format!("Examples:\n  {}\n  {}", lines[0], lines[1])
}

/// How `command` shows the option.
fn arg(option: &OptionDef, command: Command) -> Arg {
    let mut help = wrapped(&option.help_for(command), COLUMNS - text_column(command));
    let mut arg = Arg::new(option.name).long(option.name).hide(option.hidden);
    if let [first, others @ ..] = option.letters {
        arg = arg.short(*first).visible_short_aliases(others.to_vec());
    }
    if option.aliases.len() > 1 {
        help.push('\n'); // they get a line of their own
    }
    arg = arg.visible_aliases(option.aliases.to_vec()).help(help);
    match option.value {
        Some((name, _)) if option.repeats => arg.action(ArgAction::Append).value_name(name),
        Some((name, _)) => arg.action(ArgAction::Set).value_name(name),
        None if option.counted => arg.action(ArgAction::Count),
        None => arg.action(ArgAction::SetTrue),
    }
}

/// The column in which clap begins the texts of `command`'s options: two behind the longest of `  -t, --long <VALUE>`.
fn text_column(command: Command) -> usize {
    let shown = options_of(Some(command)).filter(|option| !option.hidden);
    let lengths = shown.map(|option| {
        let value = option.value.map_or(0, |(name, _)| name.len() + " <>".len());
        option.name.len() + value + if option.counted { "...".len() } else { 0 }
    });
    "  -t, --".len() + lengths.max().unwrap_or(0) + 2
}

/// Breaks a text into lines of at most `width` letters, but not within a default.
fn wrapped(text: &str, width: usize) -> String {
    const TOGETHER: &str = "(default:\u{a0}";
    let text = text.replace("(default: ", TOGETHER);
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > width {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += letters;
    }
    lines.replace(TOGETHER, "(default: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal() {
        for command in Command::ALL {
            let text = of(command).to_string();
            let (_, options) = text.split_once("Options:\n").expect("help lists options");
            for line in options.lines().take_while(|line| !line.is_empty()) {
                assert!(line.len() <= COLUMNS, "{line}");
                let text_begins = line
                    .as_bytes()
                    .get(text_column(command))
                    .is_none_or(|byte| *byte != b' ');
                assert!(text_begins || line.trim_start().starts_with("[aliases: "), "{line}");
            }
        }
    }
}
