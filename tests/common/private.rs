//! A private /dev/shm, for tests that look at all locks on the machine.

use super::lock::binary;
use std::process::{Command, Output};

/// `sh -c SCRIPT` in a mount namespace with an empty /dev/shm. `$RL` is the real binary.
pub fn private_shm(script: &str) -> Command {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = format!("mount -t tmpfs -o mode=1777 tmpfs /dev/shm || exit 99\n{script}");
    command
        .args(["--mount", "sh", "-c", &script])
        .env("RL", binary().get_program());
    command
}

/// Runs such a script.
pub fn in_private_shm(script: &str) -> Output {
    let output = private_shm(script).output().expect("unshare runs");
    assert_ne!(
        output.status.code(),
        Some(99),
        "cannot make a private /dev/shm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What such a script printed.
pub fn printed_in_private_shm(script: &str) -> String {
    let output = in_private_shm(script);
    String::from_utf8(output.stdout).expect("UTF-8")
}
