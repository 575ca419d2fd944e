//! Fault 23: what only looks, or ends what does not exist, creates nothing. (What else the fault names is in `misuse.rs`, in
//! the list of the public interface, and held to by lints.)

use crate::common::TestLock;
use resourcelock::engines::{Engine, Local};
use resourcelock::{Cancel, Error, GetOptions, UngetOptions, Viewer, Wait};

#[test]
fn looking_creates_nothing() {
    let lock = TestLock::new("f23");
    let (name, never) = (lock.paths(), Cancel::new());
    let here = Local::new();
    assert!(here.state(name, &never).unwrap().is_none());
    assert!(here.peek(name).unwrap().is_none());
    assert!(here.history(name).unwrap().is_none());
    assert!(!here.is_held(name, 1).unwrap());
    here.check_trust(name).unwrap();
    assert!(matches!(here.watch(name, &never), Err(Error::NotFound { .. })));
    for target in [
        UngetOptions::new().force(true),
        UngetOptions::new().token(1),
        UngetOptions::new().bound_to(std::process::id()),
    ] {
        assert!(!here.break_hold(name, target).unwrap());
    }
    assert!(matches!(Viewer::open(lock.name()), Err(Error::NotFound { .. })));
    assert!(lock.objects().is_empty());
}

/// Nor does a handle whose lock was removed, until it asks for it.
#[test]
fn a_handle_whose_lock_was_removed_looks_only() {
    let lock = TestLock::new("f23");
    let handle = lock.open();
    resourcelock::remove(lock.name(), false).unwrap();
    assert!(!handle.state().unwrap().locked && handle.history().unwrap().is_empty());
    assert!(!handle.is_held(1).unwrap());
    assert!(matches!(handle.watch(), Err(Error::NotFound { .. })));
    assert!(lock.objects().is_empty());
    let now = GetOptions::new().wait(Wait::No);
    assert!(handle.acquire_with(&now).unwrap().is_some());
    assert!(!lock.objects().is_empty());
}
