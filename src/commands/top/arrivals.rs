//! Locks of this machine that come and go.

use crate::commands::support::advice::SHM;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Calls `tell` whenever files come or go where locks are. Returns if the system does not tell of them.
pub fn follow(tell: &dyn Fn()) {
    let Ok(inotify) = Inotify::init(InitFlags::IN_CLOEXEC) else {
        return;
    };
    let flags =
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_ONLYDIR;
    if inotify.add_watch(SHM, flags).is_err() {
        return;
    }
    loop {
        match inotify.read_events() {
            Ok(_) => tell(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
