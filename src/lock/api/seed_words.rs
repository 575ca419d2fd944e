//! The Python module's words.

use crate::lock::api::resource_lock::{Opened, Own, ResourceLock, locked, remote_state};
use crate::lock::sys::OfThisProcess;
use crate::lock::types::{Error, GetOptions, Mode, Result, UngetOptions};
use std::sync::Mutex;

/// # The Python module's words
///
/// For programs that are ported from `cjnfuncs.resourcelock`: the same words for the same things. What was acquired by
/// [`get_lock`](Self::get_lock) belongs to the handle (to all its clones), not to a guard: it is released by
/// [`unget_lock`](Self::unget_lock), or when the last clone is dropped. That is an ordinary release, also if a panic drops
/// it: only a guard tells the next holder of a panic.
///
/// ```
/// use resourcelock::{GetOptions, ResourceLock, UngetOptions};
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-seed-{}", std::process::id());
/// # let name = name.as_str();
/// let lock = ResourceLock::open(name)?; // e.g. "i2c"
/// assert!(lock.get_lock(&GetOptions::new().lock_info("bus scan"))?);
/// assert!(lock.have_the_lock() && lock.is_locked()? && lock.lock_value()? == 0);
/// assert!(lock.get_lock_info()?.ends_with(" - bus scan"));
/// assert!(lock.unget_lock(UngetOptions::new().where_called("end of scan"))?);
/// assert!(!lock.unget_lock(UngetOptions::new())?); // nothing to release: false, and harmless
/// # lock.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
impl ResourceLock {
    /// Acquires the lock (Python: `get_lock`): true = this handle holds it now; false = it was not acquired in time.
    /// Blocks up to [`GetOptions::wait`] (1 s by default, as there).
    ///
    /// # Errors
    /// As [`acquire_with`](Self::acquire_with).
    #[must_use = "false means that the lock was not acquired"]
    pub fn get_lock(&self, options: &GetOptions<'_>) -> Result<bool> {
        match self.opened() {
            // Until `unget_lock`.
            Opened::Local(handle) => handle.get_for_itself(options),
            Opened::Remote { name, engine, own } => match options.detached {
                Some(detached) => Ok(engine.acquire_detached(name, options, detached)?.is_some()),
                None if options.same_process_ok && includes(own, options.mode)? => Ok(true),
                None => {
                    let guard = engine.acquire(name, options)?;
                    let acquired = guard.is_some();
                    locked(own)?.extend(guard.map(|guard| (options.mode, guard)));
                    Ok(acquired)
                }
            },
        }
    }

    /// Releases the lock (Python: `unget_lock`): true = released; false = it was free, or not this handle's (then it is
    /// left alone, which is logged). Without a [target](UngetOptions), it releases what [`get_lock`](Self::get_lock) has
    /// acquired; what a [`Guard`](crate::Guard) holds, only that guard releases. Waits up to 1 s for the table, never for a
    /// holder; or for an engine's answer.
    ///
    /// # Errors
    /// [`Error::Busy`] if somebody else's hold is to be released and the table stays busy; [`Error::Forked`]; on an engine
    /// those of [`Guard::release`](crate::Guard::release), and [`Error::Unsupported`] for a target that it does not know.
    #[must_use = "false means that nothing was released"]
    pub fn unget_lock(&self, options: UngetOptions<'_>) -> Result<bool> {
        match self.opened() {
            Opened::Local(handle) => handle.unget(options),
            Opened::Remote { own, .. } if options.is_own() => {
                let latest = locked(own)?.pop();
                latest.map_or(Ok(false), |(_, guard)| guard.release())
            }
            Opened::Remote { name, engine, .. } => engine.break_hold(name, options),
        }
    }

    /// True if this handle holds the lock, through a guard or by [`get_lock`](Self::get_lock) (Python:
    /// `I_have_the_lock`); on an engine, by `get_lock` alone. False in the child of a fork: the hold is its parent's.
    /// Does not block.
    pub fn have_the_lock(&self) -> bool {
        match self.opened() {
            Opened::Local(handle) => handle.check_fork().is_ok() && handle.latest_hold().is_some(),
            Opened::Remote { own, .. } => {
                locked(own).is_ok_and(|own| own.last().is_some_and(|(_, guard)| guard.lost().is_none()))
            }
        }
    }

    /// The token of this handle's latest hold, if it has one; on an engine, of the latest by [`get_lock`](Self::get_lock).
    /// `None` in the child of a fork: the hold is its parent's. Does not block.
    pub fn token(&self) -> Option<u64> {
        match self.opened() {
            Opened::Local(handle) => handle.token(),
            Opened::Remote { own, .. } => locked(own).ok()?.last().map(|(_, guard)| guard.token()),
        }
    }

    /// True if a previous holder died while it held the lock, as [`Guard::abandoned`](crate::Guard::abandoned) tells of
    /// this handle's latest hold; false without one. Does not block.
    pub fn abandoned(&self) -> bool {
        match self.opened() {
            Opened::Local(handle) => {
                handle.check_fork().is_ok() && handle.latest_hold().is_some_and(|(_, abandoned)| abandoned)
            }
            Opened::Remote { own, .. } => {
                locked(own).is_ok_and(|own| own.last().is_some_and(|(_, guard)| guard.abandoned()))
            }
        }
    }

    /// Says that what a dead holder may have left half done is in order again, as
    /// [`Guard::mark_recovered`](crate::Guard::mark_recovered) does, by this handle's latest hold.
    ///
    /// # Errors
    /// [`Error::NotHeld`], [`Error::Busy`], [`Error::Forked`].
    pub fn mark_recovered(&self) -> Result<()> {
        match self.opened() {
            Opened::Local(handle) => handle.mark_recovered(None),
            Opened::Remote { own, .. } => {
                let own = locked(own)?;
                own.last().ok_or(Error::NotHeld)?.1.mark_recovered()
            }
        }
    }

    /// True if the lock is taken (Python: `is_locked`), by anybody. Logged under a target of its own,
    /// `resourcelock::is_locked`, so that it may be called in a loop. Blocks as [`state`](Self::state).
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn is_locked(&self) -> Result<bool> {
        let locked = self.value()? == 0;
        if log::log_enabled!(target: "resourcelock::is_locked", log::Level::Debug) {
            log::debug!(
                target: "resourcelock::is_locked",
                "<{}> is currently locked?  <{}>  Prior info  <{}>",
                self.name(),
                if locked { "True" } else { "False" },
                self.get_lock_info()?
            );
        }
        Ok(locked)
    }

    fn value(&self) -> Result<u32> {
        match self.opened() {
            Opened::Local(handle) => handle.value(),
            Opened::Remote { name, engine, .. } => Ok(remote_state(&**engine, name)?.value),
        }
    }

    /// The semaphore's value (Python: `lock_value`): 0 = taken, 1 = free. Blocks as [`state`](Self::state).
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn lock_value(&self) -> Result<u32> {
        let value = self.value()?;
        log::debug!("<{}> semaphore = {value}", self.name());
        Ok(value)
    }

    /// The note (Python: `get_lock_info`): who last took the lock, and when; on an engine, who has it. Bytes that are not
    /// UTF-8 and control characters are escaped. Blocks as [`state`](Self::state).
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn get_lock_info(&self) -> Result<String> {
        match self.opened() {
            Opened::Local(handle) => handle.note(),
            Opened::Remote { name, engine, .. } => Ok(remote_state(&**engine, name)?.note),
        }
    }

    /// Writes the note (Python: `set_lock_info`). Text that does not fit is cut at a character boundary, with a warning
    /// in the log. Never blocks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on an engine, where the note is its holder's; in the child of a fork, those of
    /// [`state`](Self::state).
    pub fn set_lock_info(&self, text: &str) -> Result<()> {
        match self.opened() {
            Opened::Local(handle) => {
                if !handle.write_note(text)? {
                    log::warn!("<{}> the note is too long for its segment and was cut", self.name());
                }
                Ok(())
            }
            Opened::Remote { engine, .. } => Err(Error::Unsupported {
                engine: engine.kind(),
                what: "a note that is changed after the request".to_owned(),
            }),
        }
    }

    /// Turns the hold that this handle acquired by [`get_lock`](Self::get_lock) into a detached one: the lock stays taken,
    /// and this handle no longer holds it (in Python: `I_have_the_lock = False`). False = there was no such hold, or guards
    /// share it. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Busy`] if the table stayed busy: the hold is still this handle's;
    /// [`Error::Unsupported`] on an engine.
    #[must_use = "false means that nothing was left taken"]
    pub fn leave_taken(&self) -> Result<bool> {
        match self.opened() {
            Opened::Local(handle) => handle.leave_taken(),
            Opened::Remote { engine, .. } => Err(Error::Unsupported {
                engine: engine.kind(),
                what: "a hold that is detached later: ask for a detached one".to_owned(),
            }),
        }
    }

    /// Closes this clone of the handle (Python: `close`). With the last one, what was acquired by
    /// [`get_lock`](Self::get_lock) is released. Dropping it does the same without the log line.
    pub fn close(self) {
        log::debug!("<{}> semaphore closed", self.name());
    }
}

/// True if one of these holds allows what one in `mode` does.
fn includes(own: &OfThisProcess<Mutex<Own>>, mode: Mode) -> Result<bool> {
    let own = locked(own)?;
    let mut held = own.iter().filter(|(held, _)| held.includes(mode));
    Ok(held.any(|(_, guard)| guard.lost().is_none()))
}
