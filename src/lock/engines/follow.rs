//! Following a lock that an engine keeps.

use crate::{Cancel, Change, Result};

/// Tells what happens to a lock, in order. See [`Engine::watch`](super::Engine::watch).
pub trait Follow: Send {
    /// The next change; blocks until there is one, or until `cancel` ends it (then `None`).
    ///
    /// # Errors
    /// As [`Engine::acquire`](super::Engine::acquire).
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>>;
}

#[cfg(feature = "remote")]
pub(crate) use looks::Looks;

#[cfg(feature = "remote")]
mod looks {
    use super::Change;
    use crate::lock::api::records::{Ended, HistoryRecord, Holder, Waiter};
    use crate::{Mode, State};
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    /// Changes, from one look at a lock to the next.
    #[derive(Debug, Default)]
    pub(crate) struct Looks {
        waiters: BTreeMap<u64, Waiter>,
        holders: BTreeMap<u64, Holder>,
        ended: u64,
    }

    impl Looks {
        /// The first look: what is there has been before.
        pub(crate) fn first(state: &State) -> Self {
            let mut looks = Self::default();
            looks.next(state);
            looks
        }

        /// What has changed since the last look: ends first, as they made room for
        /// grants, and these before those who now wait for them. Requests are told apart by
        /// their tickets.
        pub(crate) fn next(&mut self, state: &State) -> Vec<Change> {
            let holders: BTreeMap<u64, Holder> = state.holders.iter().map(|h| (h.ticket, h.clone())).collect();
            let waiters: BTreeMap<u64, Waiter> = state.waiters.iter().map(|w| (w.ticket, w.clone())).collect();
            let mut changes = Vec::new();
            for (ticket, holder) in &self.holders {
                if !holders.contains_key(ticket) {
                    let held = age(holder.since);
                    changes.push(Change::Ended(record(
                        &mut self.ended,
                        Ended::Released,
                        &(holder.into()),
                        held,
                    )));
                }
            }
            for (ticket, waiter) in &self.waiters {
                if !waiters.contains_key(ticket) && !holders.contains_key(ticket) {
                    let gone = waiter.into();
                    changes.push(Change::Ended(record(
                        &mut self.ended,
                        Ended::TimedOut,
                        &gone,
                        Duration::ZERO,
                    )));
                }
            }
            let new_holders = holders.values().filter(|h| !self.holders.contains_key(&h.ticket));
            changes.extend(new_holders.cloned().map(Change::Granted));
            let new_waiters = waiters.values().filter(|w| !self.waiters.contains_key(&w.ticket));
            changes.extend(new_waiters.cloned().map(Change::Queued));
            (self.holders, self.waiters) = (holders, waiters);
            changes
        }
    }

    /// How long ago that was; none if it is not known (another program's request).
    fn age(time: SystemTime) -> Duration {
        match time {
            SystemTime::UNIX_EPOCH => Duration::ZERO,
            time => SystemTime::now().duration_since(time).unwrap_or_default(),
        }
    }

    /// What a holder's and a waiter's end have in common.
    struct Gone<'a> {
        ticket: u64,
        token: u64,
        mode: Mode,
        pid: u32,
        uid: u32,
        command: &'a str,
        since: SystemTime,
        waited: Duration,
        host: &'a Option<String>,
        user: &'a Option<String>,
    }

    impl<'a> From<&'a Holder> for Gone<'a> {
        fn from(holder: &'a Holder) -> Self {
            Self {
                ticket: holder.ticket,
                token: holder.token,
                mode: holder.mode,
                pid: holder.pid,
                uid: holder.uid,
                command: &holder.command,
                since: holder.since.checked_sub(holder.waited).unwrap_or(holder.since),
                waited: holder.waited,
                host: &holder.host,
                user: &holder.user,
            }
        }
    }

    impl<'a> From<&'a Waiter> for Gone<'a> {
        fn from(waiter: &'a Waiter) -> Self {
            Self {
                ticket: waiter.ticket,
                token: 0,
                mode: waiter.mode,
                pid: waiter.pid,
                uid: waiter.uid,
                command: &waiter.command,
                since: waiter.since,
                waited: age(waiter.since),
                host: &waiter.host,
                user: &waiter.user,
            }
        }
    }

    fn record(ended: &mut u64, how: Ended, gone: &Gone<'_>, held: Duration) -> HistoryRecord {
        let sequence = *ended;
        *ended += 1;
        HistoryRecord {
            sequence,
            ticket: gone.ticket,
            token: gone.token,
            mode: gone.mode,
            pid: gone.pid,
            uid: gone.uid,
            command: gone.command.to_owned(),
            queued: gone.since,
            waited: gone.waited,
            held,
            ended: SystemTime::now(),
            how,
            host: gone.host.clone(),
            user: gone.user.clone(),
        }
    }
}
