//! What an engine on another machine stores about a request, so that others can be shown it. JSON.

use crate::lock::shm::clock::NoteClock;
use crate::lock::shm::process;
use crate::lock::sys;
use crate::lock::system::{self, printable};
#[cfg(feature = "postgres")]
use crate::lock::types::LastDone;
use crate::lock::types::{GetOptions, Holder, Host, LockName, Mode, Requester, State, Waiter};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

/// The end of the year 9999, in µs: a stored number may be anything, and is converted to a date.
const LATEST: u64 = 253_402_300_799_999_999;

/// The longest note and command line that are stored, in bytes.
const LONGEST: usize = 1024;

/// A request, as it is stored. Any field may be missing: requests of other programs have none. What is not known is empty
/// or 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredRequest {
    pub(crate) host: String,
    pub(crate) pid: u32,
    /// Where `pid` means that process: the machine's boot and the PID namespace.
    pub(crate) space: String,
    pub(crate) uid: u32,
    pub(crate) user: String,
    pub(crate) command: String,
    pub(crate) message: String,
    /// `exclusive`, `shared` or `slots:N`.
    pub(crate) mode: String,
    /// When the request was made: wall clock of its host, µs since 1970.
    pub(crate) asked: u64,
    /// When it was granted after a wait, likewise; 0 = it did not wait, or is still waiting.
    pub(crate) granted: u64,
    /// No process renews it.
    pub(crate) detached: bool,
    /// When a detached hold ends by itself, likewise; 0 = never.
    pub(crate) expires: u64,
    /// What ran under a detached hold has ended.
    pub(crate) lingers: bool,
}

impl StoredRequest {
    /// Reads what is stored. Anybody may have written it: it is cut to the bounds of what this program stores.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut request: Self = serde_json::from_str(text).ok()?;
        for time in [&mut request.asked, &mut request.granted, &mut request.expires] {
            *time = (*time).min(LATEST);
        }
        for text in [
            &mut request.host,
            &mut request.user,
            &mut request.command,
            &mut request.message,
        ] {
            *text = cut(text);
        }
        Some(request)
    }

    /// A request of this process, made now.
    pub(crate) fn new(options: &GetOptions<'_>) -> Self {
        let uid = nix::unistd::getuid().as_raw();
        Self {
            host: host().to_owned(),
            pid: std::process::id(),
            space: space().to_owned(),
            uid,
            user: system::user_name(uid),
            command: cut(options.command.as_deref().unwrap_or_else(|| process::own_command())),
            message: cut(&options.lock_info),
            mode: options.mode.to_string(),
            asked: sys::realtime() / 1000,
            ..Self::default()
        }
    }

    /// The same request, detached now.
    #[cfg(feature = "etcd")]
    pub(crate) fn detached_now(&self, ttl: Option<Duration>) -> Self {
        let us = |ttl: Duration| u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        Self {
            detached: true,
            expires: ttl.map_or(0, |ttl| (sys::realtime() / 1000).saturating_add(us(ttl))),
            ..self.clone()
        }
    }

    /// The same request, left to this time now.
    #[cfg(feature = "etcd")]
    pub(crate) fn lingering_now(&self, time: Duration) -> Self {
        Self {
            lingers: true,
            ..self.detached_now(Some(time))
        }
    }

    /// The same request, granted now.
    pub(crate) fn granted_now(&self) -> Self {
        Self {
            granted: sys::realtime() / 1000,
            ..self.clone()
        }
    }

    /// True if it is another program's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.pid == 0 && self.host.is_empty()
    }

    pub(crate) fn mode(&self) -> Mode {
        // What is not understood excludes everything else.
        self.mode.parse().unwrap_or_default()
    }

    /// The request as a holder. `number` is both its token and its place in the order.
    pub(crate) fn holder(&self, number: u64) -> Holder {
        let granted = if self.granted == 0 { self.asked } else { self.granted };
        Holder {
            token: (number != 0).then_some(number),
            mode: self.mode(),
            ticket: number,
            requester: self.requester(),
            bound_pid: None,
            bound_start: None,
            detached: self.detached,
            lingers: self.detached && self.lingers,
            alive: true,
            presumed: false,
            kept_by: None,
            since: known(granted),
            held: age(granted),
            waited: known(granted).map(|_| Duration::from_micros(granted.saturating_sub(self.asked))),
            expires_in: (self.expires != 0)
                .then(|| Duration::from_micros(self.expires.saturating_sub(sys::realtime() / 1000))),
        }
    }

    /// The request as a waiter.
    pub(crate) fn waiter(&self, number: u64) -> Waiter {
        Waiter {
            ticket: number,
            mode: self.mode(),
            requester: self.requester(),
            since: known(self.asked),
            waited: age(self.asked),
            stalled: false,
            alive: true,
        }
    }

    /// A run that this request recorded as done; the times are the engine's.
    #[cfg(feature = "postgres")]
    pub(crate) fn last_done(&self, began: Duration, now: Duration) -> LastDone {
        let Requester { pid, host, .. } = self.requester();
        LastDone { began, now, pid, host }
    }

    fn requester(&self) -> Requester {
        let text = |text: &str| (!text.is_empty()).then(|| printable(text));
        let user = text(&self.user);
        Requester {
            pid: (self.pid != 0).then_some(self.pid),
            uid: user.as_ref().map(|_| self.uid), // both are stored, or neither
            user,
            host: text(&self.host).map_or(Host::Unknown, Host::Named),
            command: text(&self.command),
            same_pid_namespace: self.space == space(),
        }
    }
}

/// The state of a lock with these holders and waiters. Its note is that of the first holder, if it is one of ours, in the
/// form that it has on this machine's locks.
pub(crate) fn state(
    name: &LockName,
    holders: Vec<Holder>,
    waiters: Vec<Waiter>,
    first: Option<&StoredRequest>,
) -> State {
    let note = first
        .filter(|request| !request.is_foreign())
        .map_or_else(String::new, |request| {
            let granted = if request.granted == 0 {
                request.asked
            } else {
                request.granted
            };
            let mut clock = NoteClock::default();
            let note = clock.note(granted, &request.message, &AtomicU64::new(0));
            String::from_utf8_lossy(note).into_owned()
        });
    let slots = holders.iter().find_map(|holder| match holder.mode {
        Mode::Slots(slots) => Some(slots),
        _ => None,
    });
    let last_grant = holders.iter().filter_map(|holder| holder.since).max();
    State {
        name: name.clone(),
        owner: None,
        trusted: true,
        locked: !holders.is_empty(),
        value: u32::from(holders.is_empty()),
        foreign: false,
        note: printable(&note),
        holders,
        holders_left_out: 0,
        waiters,
        waiters_left_out: 0,
        foreign_waiters: 0,
        slots,
        abandoned: None,
        last_grant,
        last_success: None,
        inside: None,
        counters: None,
        read_at: SystemTime::now(),
    }
}

/// This machine's name.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(system::host_name)
}

/// The name of this process's user.
#[cfg(feature = "postgres")]
pub(crate) fn user_name() -> String {
    system::user_name(nix::unistd::geteuid().as_raw())
}

/// See [`StoredRequest::space`].
fn space() -> &'static str {
    static SPACE: OnceLock<String> = OnceLock::new();
    SPACE.get_or_init(|| format!("{}:{}", system::boot_id(), process::pid_namespace()))
}

fn cut(text: &str) -> String {
    let whole = (0..=LONGEST.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    text[..whole.unwrap_or(0)].to_owned()
}

/// A stored time, in µs; `None` = it is not known.
fn known(us: u64) -> Option<SystemTime> {
    (us != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(us))
}

/// How long ago that was by this host's clock; 0 if this clock is behind.
fn age(us: u64) -> Option<Duration> {
    (us != 0).then(|| Duration::from_micros((sys::realtime() / 1000).saturating_sub(us)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let options = GetOptions::new().mode(Mode::Slots(3)).lock_info("scan").command("x");
        let request = StoredRequest::new(&options);
        let read = StoredRequest::parse(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(read, request);
        assert_eq!(read.mode(), Mode::Slots(3));
        assert_eq!(read.holder(7).token, Some(7));
    }

    #[test]
    fn what_others_wrote_is_exclusive_and_harmless() {
        for text in [
            "{}",
            r#"{"mode":"slots:many"}"#,
            r#"{"mode":"slots:0"}"#,
            r#"{"mode":"slots:-1"}"#,
            r#"{"mode":"?","unknown":1}"#,
        ] {
            let request = StoredRequest::parse(text).unwrap();
            assert_eq!(request.mode(), Mode::Exclusive);
        }
        let evil = StoredRequest {
            command: "\u{1b}[31m".to_owned(),
            ..StoredRequest::default()
        };
        assert!(!evil.waiter(1).requester.command.unwrap().contains('\u{1b}'));
    }

    #[test]
    fn no_number_or_length_is_too_much() {
        let most = u64::MAX;
        let text = format!(
            r#"{{"asked":{most},"granted":{most},"expires":{most},"command":"{}"}}"#,
            "ä".repeat(9999)
        );
        let request = StoredRequest::parse(&text).unwrap();
        assert_eq!(
            (request.asked, request.granted, request.expires),
            (LATEST, LATEST, LATEST)
        );
        assert!(request.command.len() <= LONGEST);
        assert_eq!(StoredRequest::parse(r#"{"asked":-1,"host":"h"}"#), None);
    }
}
