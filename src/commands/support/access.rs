//! Whose locks are used: `--owner`, `--group` and `--mode`, as numbers.

use crate::cli;
use crate::commands::Failure;
use crate::exec;
use nix::unistd::geteuid;
use resourcelock::engines::Local;
use resourcelock::system;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// `--owner` by another way: names or numbers, separated by commas.
const VARIABLE: &str = "RESOURCELOCK_OWNER";

/// Shells, where /etc/shells does not list them.
const SHELLS: [&str; 4] = ["/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"];

/// The same for this machine.
#[derive(Debug, Default)]
pub struct Access {
    owners: Vec<u32>,
    /// Who has typed this command, with sudo.
    sudo_user: Option<u32>,
    group: Option<u32>,
    mode: Option<u32>,
}

impl Access {
    /// Looks the names up.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn new(asked: &cli::Access) -> Result<Self, Failure> {
        let mut owners = Vec::new();
        for user in &asked.owners {
            owners.push(user_number(user, "--owner")?);
        }
        // A variable that root's jobs inherit by accident must not open them.
        if let Some(users) = exec::variable(VARIABLE).filter(|_| !geteuid().is_root()) {
            let users = users.to_string_lossy();
            for user in users.split(',').map(str::trim).filter(|user| !user.is_empty()) {
                owners.push(user_number(user, VARIABLE)?);
            }
        }
        let group = match &asked.group {
            None => None,
            Some(group) => Some(system::group_number(group).ok_or_else(|| {
                let group = group.escape_debug();
                Failure::general(format!("--group: there is no group '{group}'"))
            })?),
        };
        Ok(Self {
            owners,
            sudo_user: sudo_user().filter(|_| geteuid().is_root()),
            group,
            mode: asked.mode,
        })
    }

    /// True if the user acts for this owner: it is the user, or one given with `--owner`.
    pub fn acts_for(&self, owner: u32) -> bool {
        owner == geteuid().as_raw() || self.owners.contains(&owner)
    }

    /// The engine of this machine.
    pub fn engine(&self) -> Local {
        let mut local = Local::new();
        for owner in &self.owners {
            local = local.owner(*owner);
        }
        if let Some(user) = self.sudo_user {
            local = local.accept(user);
        }
        if let Some(group) = self.group {
            local = local.group(group);
        }
        if let Some(mode) = self.mode {
            local = local.mode(mode);
        }
        local
    }
}

fn user_number(user: &str, option: &str) -> Result<u32, Failure> {
    let number = system::user_number(user);
    number.ok_or_else(|| Failure::general(format!("{option}: there is no user '{}'", user.escape_debug())))
}

/// The user who has typed this very command with sudo, or a shell to type it in: his locks count as his own. One who
/// started a script has not chosen what it does.
fn sudo_user() -> Option<u32> {
    let user = exec::variable("SUDO_UID")?.into_string().ok()?.parse().ok()?;
    let command = exec::variable("SUDO_COMMAND")?.into_string().ok()?;
    (is_this_program(&command) || is_shell(&command)).then_some(user)
}

/// True if it executes the file that this process executes. sudo names it by its path, with its arguments behind.
fn is_this_program(command: &str) -> bool {
    let file = |path: &str| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let path = command.split(' ').next().unwrap_or_default();
    path.starts_with('/') && file(path).is_some_and(|named| file("/proc/self/exe") == Some(named))
}

/// True if it is a shell without arguments.
fn is_shell(command: &str) -> bool {
    let listed = fs::read_to_string("/etc/shells").unwrap_or_default();
    let listed = listed.lines().map(str::trim).filter(|line| line.starts_with('/'));
    SHELLS.into_iter().chain(listed).any(|shell| shell == command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_without_arguments() {
        assert!(is_shell("/bin/sh") && is_shell("/bin/bash"));
        for other in [
            "",
            "sh",
            "/bin/bash /usr/local/bin/nightly",
            "/bin/bash -c x",
            "/usr/local/bin/nightly",
        ] {
            assert!(!is_shell(other), "{other}");
        }
    }

    #[test]
    fn this_program_by_its_path() {
        let own = std::env::current_exe().unwrap();
        let own = own.to_str().unwrap();
        assert!(is_this_program(own) && is_this_program(&format!("{own} nightly run -- backup")));
        for other in ["", "resourcelock", "/bin/sh", "/nonexistent", &format!("/bin/sh {own}")] {
            assert!(!is_this_program(other), "{other}");
        }
    }
}
