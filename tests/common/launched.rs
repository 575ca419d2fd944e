//! Commands that are started through a launcher.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code)]

use std::process::Command;

/// `command`, started through a launcher.
pub fn behind(launcher: &[&str], command: &Command) -> Command {
    let mut launched = Command::new(launcher[0]);
    launched.args(&launcher[1..]);
    launched.arg(command.get_program()).args(command.get_args());
    same_variables(&mut launched, command);
    launched
}

/// Gives a command the environment variables that another one was given.
pub fn same_variables(command: &mut Command, other: &Command) {
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}
