//! A sandbox in which the kernel refuses one system call, or leaves it out.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code)]

use super::launched::behind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The launcher that installs the sandbox, built once.
fn launcher() -> &'static str {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let new = tempfile::tempdir_in(folder).expect("a folder");
        let program = folder.join("deny");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/deny.c");
        let status = Command::new("cc")
            .args(["-O1", "-o"])
            .arg(new.path().join("deny"))
            .arg(source)
            .status();
        assert!(status.expect("cc runs").success(), "{source} does not compile");
        // Other test programs may be at it, too, or be starting it.
        std::fs::rename(new.path().join("deny"), &program).expect("it can be put in place");
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
        behind(&["timeout", "-s", "KILL", "60"], &self.answered(errno, command))
    }

    /// `command`, for which this call does nothing and succeeds.
    pub fn left_out(&self, command: &Command) -> Command {
        self.answered(0, command)
    }

    fn answered(&self, errno: i32, command: &Command) -> Command {
        let (argument, mask, value) = self.only;
        let numbers = [
            self.number.to_string(),
            errno.to_string(),
            mask.to_string(),
            argument.to_string(),
            value.to_string(),
        ];
        let mut words = vec![launcher()];
        words.extend(numbers.iter().map(String::as_str));
        behind(&words, command)
    }
}
