//! Which other programs this machine runs.

use super::{Finding, Remedy};
use crate::output::view::Level;
use std::path::Path;

/// glibc's dynamic loaders of one kind of processor: of 64-bit and of 32-bit programs.
struct Loaders {
    wide: &'static str,
    narrow: &'static [&'static str],
}

const LOADERS: Loaders = if cfg!(target_arch = "aarch64") {
    Loaders {
        wide: "/lib/ld-linux-aarch64.so.1",
        narrow: &["/lib/ld-linux-armhf.so.3", "/lib/ld-linux.so.3"],
    }
} else if cfg!(target_arch = "x86_64") {
    Loaders {
        wide: "/lib64/ld-linux-x86-64.so.2",
        narrow: &["/lib/ld-linux.so.2"],
    }
} else {
    Loaders { wide: "", narrow: &[] }
};

/// True of a 32-bit system with a 64-bit kernel, such as many a Raspberry Pi has: this program runs, but Python is a
/// 32-bit program.
pub fn findings() -> Option<Finding> {
    let exists = |path: &&str| Path::new(path).exists();
    let narrow = LOADERS.narrow.iter().copied().find(exists)?;
    (!exists(&LOADERS.wide)).then(|| Finding {
        level: Level::Note,
        kind: "32-bit",
        lock: None,
        what: format!(
            "other programs here are 32-bit: there is {narrow}, but no {}",
            LOADERS.wide
        ),
        why: "a 32-bit program that uses a lock's name through the Python module or sem_open(3) is not excluded",
        mend: "do not use the module there, but: resourcelock NAME run -- COMMAND; or install a 64-bit system"
            .to_owned(),
        remedy: Remedy::None,
    })
}
