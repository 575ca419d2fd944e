//! A sandbox in which the kernel refuses one system call.

use super::run::behind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The launcher that installs the sandbox, built once.
fn launcher() -> &'static str {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("deny-{}", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/deny.c");
        let status = Command::new("cc")
            .args(["-O1", "-o"])
            .arg(&program)
            .arg(source)
            .status();
        assert!(status.expect("cc runs").success(), "{source} does not compile");
        program
    });
    built.to_str().expect("UTF-8")
}

/// A system call, maybe only with a certain argument (its index, a mask, a value).
pub struct Call {
    pub name: &'static str,
    number: libc::c_long,
    only: (u32, u32, u32),
}

impl Call {
    /// The call with any arguments.
    pub const fn any(name: &'static str, number: libc::c_long) -> Self {
        Self::with(name, number, (0, 0, 0))
    }

    /// The call only with this argument.
    pub const fn with(name: &'static str, number: libc::c_long, only: (u32, u32, u32)) -> Self {
        Self { name, number, only }
    }

    /// `command`, for which this call fails with `errno`. If it hangs, it is killed after a minute.
    pub fn denied(&self, errno: i32, command: &Command) -> Command {
        let (argument, mask, value) = self.only;
        let numbers = [
            self.number.to_string(),
            errno.to_string(),
            mask.to_string(),
            argument.to_string(),
            value.to_string(),
        ];
        let mut words = vec!["timeout", "-s", "KILL", "60", launcher()];
        words.extend(numbers.iter().map(String::as_str));
        behind(&words, command)
    }
}
