//! The texts of help that are not the definitions' own: usage, templates, two examples for each command.

pub const USAGE: &str = "resourcelock [OPTIONS] NAME COMMAND [OPTIONS]
       resourcelock [OPTIONS] NAME run [OPTIONS] [--] COMMAND [ARG...]
       resourcelock list | doctor | completions SHELL | help COMMAND";

pub const TEMPLATE: &str = "{about}

Usage: {usage}

Commands (list, doctor and completions without NAME; a lock of that name: /list):
{subcommands}

Options:
{options}{after-help}";

pub const EXAMPLES: &str = "Examples:
  resourcelock i2c run -- read_sensor.sh      one at a time, the others wait
  resourcelock backup run -n -E 0 -- backup   skip this run if one is under way";

pub const RUN: &str = "Examples:
  resourcelock i2c run -t 10 -- i2cget -y 1 0x48   wait 10 s, else status 75
  resourcelock nightly run -n -E 0 --limit 2h -- nightly.sh";

pub const GET: &str = "Examples:
  resourcelock i2c get --pid $$ || exit       in a script: held until the script ends
  resourcelock i2c get -t 5 -m 'bus scan'     held until 'resourcelock i2c unget'";

pub const UNGET: &str = "Examples:
  resourcelock i2c unget                      release it, whoever has it
  trap 'resourcelock i2c unget --pid $$ || :' EXIT";

pub const STATE: &str = "Examples:
  resourcelock i2c state
  resourcelock nightly state -q --mine || exec resourcelock nightly run -n -- \"$0\" \"$@\"";

pub const TRACE: &str = "Examples:
  resourcelock i2c trace -u 1                 a line a second
  resourcelock i2c trace -f --json            a line for each change";

pub const HISTORY: &str = "Examples:
  resourcelock i2c history
  resourcelock i2c history --svg i2c.svg";

pub const REMOVE: &str = "Examples:
  resourcelock i2c remove
  resourcelock i2c remove --force             also if it is held or waited for";

pub const LIST: &str = "Examples:
  resourcelock list
  resourcelock list --prometheus > /var/lib/node_exporter/resourcelock.prom";

pub const DOCTOR: &str = "Examples:
  resourcelock doctor
  resourcelock doctor --fix";

pub const COMPLETIONS: &str = "Examples:
  source <(resourcelock completions bash)     in ~/.bashrc; with zsh in ~/.zshrc
  resourcelock completions fish > ~/.config/fish/completions/resourcelock.fish";
