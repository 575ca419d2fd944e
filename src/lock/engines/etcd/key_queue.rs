//! The queue as etcd keeps it: keys below the lock's name, in the order of their create revisions. No I/O.
//!
//! Not every key below a lock's name is a request: other programs keep keys of their own there, and so do locks, with
//! another prefix in the URL. A request's key is the name and one hexadecimal number, its lease; only such keys are
//! considered, waited for, or deleted. `etcdctl lock` waits for all that is below the name, so for all of ours as well.

use super::gateway_messages::KeyValue;
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::types::Mode;

/// One request: a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) key: String,
    /// The revision that created it: its place in the order, and its token.
    pub(crate) created: u64,
    /// The lease it hangs on; 0 = none.
    pub(crate) lease: i64,
    pub(crate) stored: StoredRequest,
}

impl Request {
    /// Reads a key. A value that is not ours (but of `etcdctl lock`, say) requests an exclusive hold.
    pub(crate) fn read(kv: &KeyValue) -> Self {
        let lease = kv.lease.0;
        let mut stored = StoredRequest::parse(&kv.value.text()).unwrap_or_default();
        if stored.is_foreign() {
            stored.command = format!("etcdctl lock?, lease {lease:x}");
        }
        Self {
            key: kv.key.text(),
            created: kv.create_revision.0.unsigned_abs(),
            lease,
            stored,
        }
    }

    /// True if it is a request for the lock whose keys begin with `directory`, and not somebody else's key: it is named
    /// after the lease it hangs on, or is a detached hold of ours, on another lease or none.
    pub(crate) fn is_in(&self, directory: &str) -> bool {
        let named = self.key.strip_prefix(directory).and_then(lease_named);
        named.is_some_and(|named| named == self.lease || (self.stored.detached && !self.stored.host.is_empty()))
    }

    fn mode(&self) -> Mode {
        self.stored.mode()
    }
}

/// The lease that the last part of a key names: a hexadecimal number without leading zeros.
pub(crate) fn lease_named(part: &str) -> Option<i64> {
    let number = u64::from_str_radix(part, 16).ok()?;
    (format!("{number:x}") == part).then_some(number as i64)
}

/// The requests among these keys for the lock whose keys begin with `directory`, in order.
pub(crate) fn requests(kvs: &[KeyValue], directory: &str) -> Vec<Request> {
    let mut requests: Vec<Request> = kvs.iter().map(Request::read).collect();
    requests.retain(|request| request.is_in(directory));
    requests.sort_by_key(|request| request.created);
    requests
}

/// True if one of these keys was created at this revision.
pub(crate) fn contains(kvs: &[KeyValue], created: u64) -> bool {
    kvs.iter().any(|kv| kv.create_revision.0.unsigned_abs() == created)
}

/// What a request has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is granted.
    Granted,
    /// Until this key goes.
    Behind(String),
    /// Until any key of the queue goes.
    BehindAny,
    /// The lock is in use with this number of slots.
    SlotsDiffer(u32),
    /// It is not in the queue any more.
    Gone,
}

/// Decides for the request that was created at revision `own`, when it joins the queue.
///
/// A request is granted when it is compatible with all before it. `etcdctl lock` and etcd's Go mutex wait until nothing
/// is before them, so they exclude all of ours, and all of ours exclude them.
///
/// The first request for slots says how many there are. Those behind it that say something else are refused and about to
/// go.
pub(crate) fn verdict(requests: &[Request], own: u64) -> Verdict {
    let before = requests.iter().take_while(|request| request.created != own);
    let in_use = before.map(Request::mode).find(|mode| matches!(mode, Mode::Slots(_)));
    let mine = requests.iter().find(|request| request.created == own);
    match (in_use, mine.map(Request::mode)) {
        (Some(Mode::Slots(in_use)), Some(Mode::Slots(mine))) if in_use != mine => Verdict::SlotsDiffer(in_use),
        _ => turn(requests, own),
    }
}

/// The same for a request that has been in the queue before, and was not refused: a request that says something else
/// about the slots has come later than one that it agreed with, and is about to go. Until then it takes a place.
pub(crate) fn turn(requests: &[Request], own: u64) -> Verdict {
    let Some(at) = requests.iter().position(|request| request.created == own) else {
        return Verdict::Gone;
    };
    let (before, mine) = requests.split_at(at);
    let Some(mode) = mine.first().map(Request::mode) else {
        return Verdict::Gone;
    };
    match mode {
        Mode::Exclusive => before
            .last()
            .map_or(Verdict::Granted, |last| Verdict::Behind(last.key.clone())),
        Mode::Shared => before
            .iter()
            .rev()
            .find(|request| request.mode() != Mode::Shared)
            .map_or(Verdict::Granted, |last| Verdict::Behind(last.key.clone())),
        Mode::Slots(slots) => {
            let other = before
                .iter()
                .rev()
                .find(|request| !matches!(request.mode(), Mode::Slots(_)));
            match other {
                Some(other) => Verdict::Behind(other.key.clone()),
                None if before.len() < slots as usize => Verdict::Granted,
                None => Verdict::BehindAny,
            }
        }
    }
}

/// Splits requests into holders and waiters.
pub(crate) fn split(requests: &[Request]) -> (Vec<&Request>, Vec<&Request>) {
    requests
        .iter()
        .partition(|request| verdict(requests, request.created) == Verdict::Granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(modes: &[&str]) -> Vec<Request> {
        let request = |(i, mode): (usize, &&str)| Request {
            key: format!("n/{i}"),
            created: i as u64,
            lease: 1,
            stored: StoredRequest {
                mode: (*mode).to_owned(),
                ..StoredRequest::default()
            },
        };
        modes.iter().enumerate().map(request).collect()
    }

    fn holders(modes: &[&str]) -> Vec<u64> {
        let requests = queue(modes);
        split(&requests).0.iter().map(|request| request.created).collect()
    }

    #[test]
    fn who_holds() {
        assert_eq!(holders(&[]), [0; 0]);
        assert_eq!(holders(&["", "exclusive", "shared"]), [0]);
        assert_eq!(
            holders(&["shared", "shared", "", "shared"]),
            [0, 1],
            "nobody overtakes one who is alone"
        );
        assert_eq!(holders(&["slots:2", "slots:2", "slots:2"]), [0, 1]);
        assert_eq!(holders(&["exclusive", "slots:2"]), [0]);
        assert_eq!(holders(&["slots:3", "shared"]), [0]);
    }

    #[test]
    fn whom_to_wait_for() {
        let behind = |key: &str| Verdict::Behind(key.to_owned());
        assert_eq!(verdict(&queue(&["", "", ""]), 2), behind("n/1"));
        assert_eq!(verdict(&queue(&["", "shared", "shared"]), 2), behind("n/0"));
        assert_eq!(verdict(&queue(&["slots:1", "slots:1"]), 1), Verdict::BehindAny);
        assert_eq!(verdict(&queue(&["slots:1", "slots:2"]), 1), Verdict::SlotsDiffer(1));
        assert_eq!(verdict(&queue(&["", ""]), 7), Verdict::Gone);
    }

    #[test]
    fn the_first_says_how_many_slots() {
        let requests = queue(&["slots:2", "slots:3", "slots:2", "slots:3"]);
        assert_eq!(verdict(&requests, 1), Verdict::SlotsDiffer(2));
        assert_eq!(verdict(&requests, 2), Verdict::BehindAny);
        assert_eq!(verdict(&requests, 3), Verdict::SlotsDiffer(2));
        // The first has gone before the one that it refused.
        assert_eq!(turn(&requests[1..], 2), Verdict::Granted);
    }
}
