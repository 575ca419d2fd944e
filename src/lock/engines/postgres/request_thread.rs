//! One request, from its connection to its end: the thread that keeps the connection.

use super::advisory::{LONGEST_WAIT, Ready};
use super::connect::Link;
use super::grant::Granted;
use super::request_handle::{Phase, Shared};
use super::sql::{self, Sql};
use super::target::Target;
use super::views;
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::engines::validity::TrackedValidity;
use crate::lock::engines::{ANSWER_TIMEOUT, Lease, Validity};
use crate::lock::sys;
use crate::lock::types::{Error, LockName, Mode, Result, Wait};
use log::Level;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// How long a holder waits whose predecessor's session has ended without a release.
const SETTLE: Duration = Duration::from_millis(50);

/// How much later than the end of a wait the server may say so.
const GRACE: Duration = Duration::from_secs(1);

/// How long the server has to hear that nothing is waited for any more. The connection's end says it, too.
pub(super) const PARTING_TIMEOUT: Duration = Duration::from_millis(500);

/// Between checks of a server that did not answer, while it is waited for.
const CHECK_PAUSE: Duration = Duration::from_millis(500);

/// Between a renewal that failed and the next one.
const RENEWAL_PAUSE: Duration = Duration::from_millis(200);

const NOT_HELD: &str = "the session does not hold the lock any more";

/// What is asked for.
pub(super) struct Request {
    pub(super) target: Arc<Target>,
    pub(super) name: LockName,
    pub(super) mode: Mode,
    pub(super) wait: Wait,
    pub(super) ttl: Duration,
    pub(super) stored: StoredRequest,
    /// There is a table that tells others of it.
    pub(super) has_table: bool,
}

/// A run that is to be recorded as done.
pub(super) struct Done {
    pub(super) began_ago: Duration,
    pub(super) answer: Sender<Result<()>>,
}

/// How a request ends without a hold.
enum NoHold {
    /// The time is up, or it was cancelled.
    NotGranted,
    Failed(Error),
}

impl From<Error> for NoHold {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Request {
    /// What the thread does. The end of `orders` ends the request or the hold.
    pub(super) async fn run(mut self, shared: &Shared, mut orders: UnboundedReceiver<Done>) {
        let end = match self.acquire(shared, &mut orders).await {
            Ok((link, validity)) => Phase::Ended(self.hold(link, &validity, &mut orders).await),
            Err(NoHold::NotGranted) => Phase::NotGranted,
            Err(NoHold::Failed(error)) => Phase::Failed(error),
        };
        shared.tell(end);
    }

    /// From the connection to the grant.
    async fn acquire(
        &mut self,
        shared: &Shared,
        orders: &mut UnboundedReceiver<Done>,
    ) -> Result<(Link, Arc<TrackedValidity>), NoHold> {
        let asked = Instant::now();
        let (link, ready) = tokio::select! {
            ready = self.ready() => ready?,
            _ = orders.recv() => return Err(NoHold::NotGranted),
        };
        self.has_table = ready.has_objects;
        if !ready.acquired && !self.wait(&link, asked, shared, orders).await? {
            self.restore(&link).await;
            return Err(NoHold::NotGranted);
        }
        let (token, validity) = self.granted(&link).await?;
        let socket = link.socket().try_clone_to_owned();
        shared.tell(Phase::Granted {
            token,
            validity: validity.clone(),
            socket: socket.map_err(|error| self.target.unreachable(error.to_string()))?,
        });
        Ok((link, validity))
    }

    /// A session in which the lock was tried.
    async fn ready(&self) -> Result<(Link, Ready)> {
        let target = &self.target;
        let until = Instant::now() + ANSWER_TIMEOUT;
        let ready = async {
            let (before, after) = self.application();
            let link = target.connect_until(until, &(before + &after)).await?;
            target.refuse_pooler(&link).await?;
            let sql = link.sql(target);
            let ready = sql.settle(&link, self.ttl, sql::key(&self.name), self.mode).await?;
            Ok((link, ready))
        };
        match timeout_at(until, ready).await {
            Ok(ready) => ready,
            Err(_) => Err(target.no_answer()),
        }
    }

    /// What others see of the connection, of which the server takes 63 bytes. Once it is granted, the token stands between
    /// the two.
    fn application(&self) -> (String, String) {
        let StoredRequest { pid, host, command, .. } = &self.stored;
        let plain = |text: String| {
            let plain = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
            plain.take(63).collect()
        };
        (
            plain(format!("resourcelock {pid}")),
            plain(format!("@{host} {command}")),
        )
    }

    /// A pooler gives the session to others as it was.
    async fn restore(&self, link: &Link) {
        if !link.direct {
            let _ = timeout(PARTING_TIMEOUT, link.sql(&self.target).restore()).await;
        }
    }

    async fn forget(&self, link: &Link) {
        if self.has_table {
            link.sql(&self.target).forget(&self.name).await;
        }
    }

    /// Waits for a lock that was not free; false = not granted. `asked`: when the wait began.
    async fn wait(
        &mut self,
        link: &Link,
        asked: Instant,
        shared: &Shared,
        orders: &mut UnboundedReceiver<Done>,
    ) -> Result<bool> {
        let left = |time: Duration| time.saturating_sub(asked.elapsed());
        let time = match self.wait {
            Wait::No => return Ok(false),
            Wait::For(time) if left(time).is_zero() => return Ok(false),
            Wait::For(time) => Some(left(time)),
            Wait::Forever => None,
        };
        let sql = link.sql(&self.target);
        if self.has_table {
            sql.announce(&self.name, &self.stored).await;
        }
        shared.set_queued();
        // The server ends the wait in time, unless it has stopped, or the wait is too long for it to count.
        let limit = time.filter(|time| *time <= LONGEST_WAIT);
        let at_most = time.map_or(Duration::MAX, |time| time.saturating_add(GRACE));
        let locked = tokio::select! {
            locked = timeout(at_most, sql.lock(sql::key(&self.name), self.mode, limit)) => locked.ok(),
            error = self.server_failed(link) => return Err(error),
            _ = orders.recv() => None,
        };
        match locked {
            Some(Ok(true)) => self.stored = self.stored.granted_now(),
            Some(Ok(false)) => self.forget(link).await,
            Some(Err(error)) => return Err(error),
            None => self.leave(link, shared).await,
        }
        Ok(matches!(locked, Some(Ok(true))))
    }

    /// Leaves the queue: the server would go on waiting on our behalf.
    async fn leave(&self, link: &Link, shared: &Shared) {
        let leave = async {
            self.target.cancel(link).await;
            self.forget(link).await;
        };
        let mut leave = std::pin::pin!(leave);
        if timeout(PARTING_TIMEOUT, &mut leave).await.is_err() {
            // Nobody need wait for it; but while this program runs it is tried: a server that does not check whether its
            // clients are there would keep the request.
            shared.tell(Phase::NotGranted);
            let _ = timeout(ANSWER_TIMEOUT, leave).await;
        }
    }

    /// While the lock is waited for, nothing comes from the server. Returns when it has not served others either for the
    /// TTL.
    async fn server_failed(&self, link: &Link) -> Error {
        let mut failing_since = None;
        loop {
            sleep(if failing_since.is_none() { self.ttl } else { CHECK_PAUSE }).await;
            let since = failing_since.unwrap_or_else(Instant::now);
            // The last check ends with the TTL, or it is a short one.
            let time = self.ttl.saturating_sub(since.elapsed());
            let time = time.clamp(PARTING_TIMEOUT, ANSWER_TIMEOUT);
            match self.target.still_serves(link, views::APPLICATION, time).await {
                Ok(()) => failing_since = None,
                Err(error) if since.elapsed() >= self.ttl => return error,
                Err(error) => {
                    failing_since = Some(since);
                    log::debug!("{error}");
                }
            }
        }
    }

    /// The lock is acquired: what has to be written down, and what the holder is told.
    async fn granted(&mut self, link: &Link) -> Result<(u64, Arc<TrackedValidity>)> {
        let begun = sys::boottime();
        let (before, after) = self.application();
        let granted = Granted {
            name: &self.name,
            mode: self.mode,
            stored: &self.stored,
            application: (&before, &after),
            epoch: link.epoch.as_deref(),
        };
        let sql = link.sql(&self.target);
        let grant = sql.grant(granted, self.has_table).await?;
        self.has_table = grant.has_table;
        if grant.backend != link.backend {
            return Err(self.target.pooler());
        }
        link.last_for(self.ttl);
        if grant.abandoned {
            sleep(SETTLE).await;
        }
        if !grant.left.is_empty() {
            sql.sweep(&self.name, &grant.left).await;
        }
        let (name, token, place) = (&self.name, grant.token, self.target.place());
        log::debug!("<{name}> granted with token {token} by {place}");
        if link.ended.is_finished() {
            return Err(self.target.unreachable("the connection has ended"));
        }
        let mut lease = Lease { begun, ttl: self.ttl };
        let third = self.ttl / 3;
        if lease.left_of(third).is_zero() {
            // The grant was slow (somebody had locked the table): what runs under it would soon be asked to end.
            lease.begun = sys::boottime();
            let answer = timeout(third, sql.still_held(sql::key(&self.name))).await;
            let why = match answer.unwrap_or_else(|_| Err(self.target.no_answer())) {
                Ok(true) => None,
                Ok(false) => Some(self.target.unreachable(NOT_HELD)),
                Err(error) => Some(error),
            };
            if let Some(error) = why {
                // Or the next holder would take it for a holder that died.
                let _ = timeout(PARTING_TIMEOUT, self.forget(link)).await;
                return Err(error);
            }
        }
        Ok((grant.token.unsigned_abs(), Arc::new(TrackedValidity::new(lease))))
    }

    /// Holds until it is told to release; false = it was lost before.
    async fn hold(
        &self,
        mut link: Link,
        validity: &TrackedValidity,
        orders: &mut UnboundedReceiver<Done>,
    ) -> Result<bool> {
        let third = self.ttl / 3;
        let key = sql::key(&self.name);
        // Counted from when the lease began, as its end is: not from when the answer has come.
        let next = || {
            let left = match validity.now() {
                Validity::Until(lease) => lease.left_of(third),
                Validity::Unlimited | Validity::Lost => Duration::ZERO,
            };
            Instant::now() + left
        };
        let mut due = next();
        // The server did not answer the last time, and that was logged.
        let mut outage = false;
        loop {
            let ask = async {
                sleep_until(due).await;
                let begun = sys::boottime();
                let sql = Sql {
                    target: &self.target,
                    client: &link.client,
                };
                (begun, timeout(third, sql.still_held(key)).await)
            };
            let (begun, answer) = tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some(done) = order else {
                        return self.release(link).await;
                    };
                    self.record_done(&link, validity, done).await;
                    continue;
                }
                _ = &mut link.ended => return self.lost(validity, "the connection has ended, and the lock with it"),
                asked = ask => asked,
            };
            match answer.unwrap_or_else(|_| Err(self.target.no_answer())) {
                Ok(true) => {
                    validity.renewed(begun);
                    outage = false;
                    due = next();
                }
                Ok(false) => return self.lost(validity, NOT_HELD),
                Err(error) => {
                    let level = if outage { Level::Debug } else { Level::Warn };
                    log::log!(level, "<{}> {error}", self.name);
                    outage = true;
                    due = Instant::now() + RENEWAL_PAUSE;
                }
            }
            if !validity.now().is_certain() {
                validity.lost();
                return Ok(false);
            }
        }
    }

    async fn record_done(&self, link: &Link, validity: &TrackedValidity, done: Done) {
        let begun = sys::boottime();
        let sql = link.sql(&self.target);
        let recorded = match sql.record_done(&self.name, done.began_ago, &self.stored).await {
            Ok(true) => {
                validity.renewed(begun);
                Ok(())
            }
            Ok(false) => Err(Error::NotHeld),
            Err(error) => Err(error),
        };
        let _ = done.answer.send(recorded);
    }

    fn lost(&self, validity: &TrackedValidity, why: &str) -> Result<bool> {
        validity.lost(); // before the program's logger has its turn
        log::warn!("<{}> {}: {why}", self.name, self.target.place());
        Ok(false)
    }

    async fn release(&self, mut link: Link) -> Result<bool> {
        let sql = link.sql(&self.target);
        let unlocked = sql.unlock(&self.name, self.mode, self.has_table).await;
        self.restore(&link).await;
        match unlocked {
            // The server's last word may come before the connection's end. Nobody else closes it: the session has ended,
            // before this or in the same instant.
            Err(error) if timeout(PARTING_TIMEOUT, &mut link.ended).await.is_ok() => {
                log::warn!("<{}> {error}: the lock has ended with it", self.name);
                Ok(false)
            }
            unlocked => {
                log::debug!("<{}> released", self.name);
                unlocked
            }
        }
    }
}
