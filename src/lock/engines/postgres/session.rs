//! One request, from its connection to its end: a thread that keeps the connection, and the handle to it.

use super::connect::Link;
use super::target::Target;
use super::{sql, views};
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::engines::validity::TrackedValidity;
use crate::lock::engines::{Held, Lease, PEEK_TIMEOUT, Validity, needs_renewal};
use crate::lock::sys;
use crate::{Cancel, Error, GetOptions, LockName, Mode, Result, State, Wait};
use log::Level;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{timeout, timeout_at};

/// How long a holder waits whose predecessor's session has ended without a release.
const SETTLE: Duration = Duration::from_millis(50);

/// How much longer than a wait the news of its end may take.
const GRACE: Duration = Duration::from_secs(1);

/// How long the server has to hear that nothing is waited for any more. The connection's end says it, too.
const BRIEF: Duration = Duration::from_millis(500);

/// Between looks at a server that did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// How far the request has come.
enum Phase {
    Asking,
    Granted {
        token: u64,
        validity: Arc<TrackedValidity>,
        socket: OwnedFd,
    },
    NotHad,
    Failed(Error),
    /// The thread is at its end: whether the lock was held until its release.
    Ended(Result<bool>),
}

struct Shared {
    phase: Mutex<Phase>,
    news: Event,
    /// The server answers, and the request is in its queue.
    queued: Event,
}

impl Shared {
    fn new() -> Self {
        Self {
            phase: Mutex::new(Phase::Asking),
            news: Event::default(),
            queued: Event::default(),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, phase: Phase) {
        *self.phase() = phase;
        self.news.set();
    }
}

/// Tells of a thread that ends without having told anything, by a mistake of this program's.
struct LastWord {
    shared: Arc<Shared>,
    target: Arc<Target>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "this program has failed at it, which is a mistake of its own";
            self.shared.tell(Phase::Failed(self.target.refused(what)));
        }
    }
}

/// What is asked for.
struct Request {
    target: Arc<Target>,
    name: LockName,
    mode: Mode,
    wait: Wait,
    ttl: Duration,
    who: StoredRequest,
    /// There is a table that tells others of it.
    told: bool,
}

/// The handle. Dropping it releases, or gives up.
pub(super) struct Session {
    /// Dropped or sent to: the thread comes to its end.
    orders: Option<UnboundedSender<()>>,
    shared: Arc<Shared>,
    target: Arc<Target>,
    /// Set once it is granted.
    hold: Option<Hold>,
    /// How long its release may take.
    leave_within: Duration,
}

struct Hold {
    token: u64,
    validity: Arc<TrackedValidity>,
    socket: OwnedFd,
}

impl Session {
    /// Starts asking.
    pub(super) fn start(
        target: &Arc<Target>,
        name: &LockName,
        mode: Mode,
        wait: Wait,
        ttl: Duration,
        who: StoredRequest,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::new());
        let request = Request {
            target: target.clone(),
            name: name.clone(),
            mode,
            wait,
            ttl,
            who,
            told: false,
        };
        let (orders, inbox) = unbounded_channel();
        let told = shared.clone();
        let word = LastWord {
            shared: shared.clone(),
            target: target.clone(),
        };
        background::spawn("postgres", move || {
            let _word = word;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(request.live(&told, inbox)),
                Err(error) => told.tell(Phase::Failed(request.target.unreachable(error.to_string()))),
            }
        })?;
        Ok(Self {
            orders: Some(orders),
            shared,
            target: target.clone(),
            hold: None,
            leave_within: ANSWER_TIMEOUT + ANSWER_TIMEOUT,
        })
    }

    /// Waits for the answer: whether it was granted.
    pub(super) fn wait(&mut self, options: &mut GetOptions<'_>, look: impl Fn() -> Option<State>) -> Result<bool> {
        let begun = sys::monotonic();
        loop {
            self.shared.news.clear();
            let mut phase = self.shared.phase();
            match std::mem::replace(&mut *phase, Phase::Asking) {
                Phase::Asking => {}
                Phase::Granted {
                    token,
                    validity,
                    socket,
                } => {
                    self.hold = Some(Hold {
                        token,
                        validity,
                        socket,
                    });
                    return Ok(true);
                }
                Phase::NotHad => {
                    self.orders = None; // the thread has come to its end
                    return Ok(false);
                }
                // It was granted and lost again before this thread could see it.
                Phase::Ended(_) => {
                    self.orders = None;
                    return Err(self.target.unreachable("the connection has ended"));
                }
                Phase::Failed(error) => {
                    self.orders = None;
                    return Err(error);
                }
            }
            drop(phase);
            if options.cancel.is_some_and(Cancel::is_cancelled) {
                // Granted in the same instant or not: it is given up.
                let _ = self.end(BRIEF + BRIEF);
                return Err(Error::Cancelled);
            }
            // Before that a look would only wait for the same answer.
            let to_tell = options.on_wait.as_ref().filter(|_| self.shared.queued.is_set());
            let tell_at = to_tell.map_or(u64::MAX, |(after, _)| background::later(begun, *after));
            if sys::monotonic() >= tell_at {
                if let Some((_, mut tell)) = options.on_wait.take()
                    && let Some(state) = look()
                {
                    tell(&state);
                }
                continue;
            }
            background::sleep(&[&self.shared.news], options.cancel, tell_at);
        }
    }

    /// Has the thread come to its end, and waits so long for that.
    fn end(&mut self, patience: Duration) -> Result<bool> {
        if self.orders.take().is_none() {
            return Ok(false);
        }
        if let Some(hold) = &self.hold {
            hold.validity.silence();
        }
        let until = background::later(sys::monotonic(), patience);
        loop {
            self.shared.news.clear();
            let mut phase = self.shared.phase();
            match std::mem::replace(&mut *phase, Phase::Asking) {
                Phase::Ended(result) => return result,
                Phase::NotHad => return Ok(false),
                Phase::Failed(error) => return Err(error),
                Phase::Asking | Phase::Granted { .. } => {}
            }
            drop(phase);
            if sys::monotonic() >= until {
                return Err(self.target.no_answer());
            }
            background::sleep(&[&self.shared.news], None, until);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The thread goes on if it takes longer, or the connection's end tells the server.
        if let Err(error) = self.end(BRIEF + BRIEF) {
            log::debug!("{error}");
        }
    }
}

impl Held for Session {
    fn token(&self) -> u64 {
        self.hold.as_ref().map_or(0, |hold| hold.token)
    }

    fn validity(&self) -> Validity {
        let hold = self.hold.as_ref();
        hold.map_or(Validity::Lost, |hold| hold.validity.now())
    }

    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>) {
        if let Some(hold) = &self.hold {
            hold.validity.on_change(tell);
        }
    }

    fn keep_open(&self) -> Option<BorrowedFd<'_>> {
        self.hold.as_ref().map(|hold| hold.socket.as_fd())
    }

    fn shorten_release(&mut self) {
        self.leave_within = PEEK_TIMEOUT;
    }

    fn let_lapse(&self) -> Result<()> {
        Err(needs_renewal("postgres"))
    }

    fn release(mut self: Box<Self>, _repaired: bool) -> Result<bool> {
        let certain = self.validity().is_certain();
        Ok(self.end(self.leave_within)? && certain)
    }
}

impl Request {
    /// The thread's life.
    async fn live(mut self, shared: &Shared, mut orders: UnboundedReceiver<()>) {
        let asked = Instant::now();
        let link = tokio::select! {
            link = self.ready() => link,
            _ = orders.recv() => return shared.tell(Phase::NotHad),
        };
        let (link, had) = match link {
            Ok((link, told, had)) => {
                self.told = told;
                (link, had)
            }
            Err(error) => return shared.tell(Phase::Failed(error)),
        };
        let had = if had {
            Ok(true)
        } else {
            self.ask(&link, asked, shared, &mut orders).await
        };
        match had {
            Ok(true) => {}
            Ok(false) => {
                self.restore(&link).await;
                return shared.tell(Phase::NotHad);
            }
            Err(error) => return shared.tell(Phase::Failed(error)),
        }
        let (token, validity) = match self.granted(&link).await {
            Ok(granted) => granted,
            Err(error) => return shared.tell(Phase::Failed(error)),
        };
        let socket = match link.socket().try_clone_to_owned() {
            Ok(socket) => socket,
            Err(error) => return shared.tell(Phase::Failed(self.target.unreachable(error.to_string()))),
        };
        shared.tell(Phase::Granted {
            token,
            validity: validity.clone(),
            socket,
        });
        let result = self.hold(link, &validity, &mut orders).await;
        shared.tell(Phase::Ended(result));
    }

    /// What a pooler gives to others next is as it was.
    async fn restore(&self, link: &Link) {
        if !link.direct {
            let _ = timeout(BRIEF, sql::restore(&self.target, &link.client)).await;
        }
    }

    /// A session in which the lock can be asked for, whether there is a table, and whether the lock was free and
    /// has been taken.
    async fn ready(&self) -> Result<(Link, bool, bool)> {
        let target = &self.target;
        let until = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        let ready = async {
            let (before, after) = self.application();
            let link = target.connect_until(until, &(before + &after)).await?;
            target.refuse_pooler(&link).await?;
            let wanted = (sql::key(&self.name), self.mode);
            let (told, had) = sql::settle(target, &link.client, self.ttl, !link.direct, wanted).await?;
            Ok((link, told, had))
        };
        match timeout_at(until, ready).await {
            Ok(link) => link,
            Err(_) => Err(target.no_answer()),
        }
    }

    /// What others see of the connection, of which the server takes 63 bytes; once it is granted, the token stands
    /// between these.
    fn application(&self) -> (String, String) {
        let StoredRequest { pid, host, command, .. } = &self.who;
        let plain = |text: String| {
            let plain = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
            plain.take(63).collect()
        };
        (
            plain(format!("resourcelock {pid}")),
            plain(format!("@{host} {command}")),
        )
    }

    /// Waits for it, where it was not free: whether it was had.
    async fn ask(
        &mut self,
        link: &Link,
        asked: Instant,
        shared: &Shared,
        orders: &mut UnboundedReceiver<()>,
    ) -> Result<bool> {
        let target = &self.target;
        let key = sql::key(&self.name);
        let left = |time: Duration| time.saturating_sub(asked.elapsed());
        let time = match self.wait {
            Wait::No => return Ok(false),
            Wait::For(time) if left(time).is_zero() => return Ok(false),
            Wait::For(time) => Some(left(time)),
            Wait::Forever => None,
        };
        if self.told {
            sql::announce(target, &link.client, &self.name, &self.who).await;
        }
        shared.queued.set();
        shared.news.set();
        // The server ends the wait in time, unless it has stopped; or it is too long for the server to count.
        let limit = time.filter(|time| *time <= sql::LONGEST);
        let patience = time.map_or(Duration::MAX, |time| time.saturating_add(GRACE));
        let locked = tokio::select! {
            locked = timeout(patience, sql::lock(target, &link.client, key, self.mode, limit)) => Some(locked),
            error = self.silence(link) => return Err(error),
            _ = orders.recv() => None,
        };
        match locked {
            Some(Ok(Ok(true))) => {
                self.who = self.who.granted_now();
                Ok(true)
            }
            Some(Ok(Ok(false))) => {
                sql::forget(target, &link.client, &self.name, self.told).await;
                Ok(false)
            }
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) | None => {
                // The server would go on waiting on our behalf.
                let leave = async {
                    target.cancel(link).await;
                    sql::forget(target, &link.client, &self.name, self.told).await;
                };
                let mut leave = std::pin::pin!(leave);
                if timeout(BRIEF, &mut leave).await.is_err() {
                    // Nobody need wait for it; but while this program runs it is tried: a server that does not look
                    // whether its clients are there would keep the request.
                    shared.tell(Phase::NotHad);
                    let _ = timeout(ANSWER_TIMEOUT, leave).await;
                }
                Ok(false)
            }
        }
    }

    /// While the lock is waited for nothing comes from the server. Ends when it has not served others either for the
    /// TTL.
    async fn silence(&self, link: &Link) -> Error {
        let mut failing_since = None;
        loop {
            tokio::time::sleep(if failing_since.is_none() { self.ttl } else { PAUSE }).await;
            let since = failing_since.unwrap_or_else(Instant::now);
            // The last look ends with the TTL, or it is a short one.
            let time = self.ttl.saturating_sub(since.elapsed()).clamp(BRIEF, ANSWER_TIMEOUT);
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

    async fn granted(&mut self, link: &Link) -> Result<(u64, Arc<TrackedValidity>)> {
        let begun = sys::boottime();
        let request = (&self.name, self.mode, &self.who);
        let (before, after) = self.application();
        let grant = sql::grant(&self.target, &link.client, request, (&before, &after), self.told).await?;
        self.told = !grant.bare;
        if grant.backend != link.backend {
            return Err(self.target.pooler());
        }
        link.last_for(self.ttl);
        if grant.abandoned {
            tokio::time::sleep(SETTLE).await;
        }
        if !grant.left.is_empty() {
            sql::sweep(&self.target, &link.client, &self.name, &grant.left).await;
        }
        log::debug!(
            "<{}> granted with token {} by {}",
            self.name,
            grant.token,
            self.target.place()
        );
        if link.ended.is_finished() {
            return Err(self.target.unreachable("the connection has ended"));
        }
        let validity = Arc::new(TrackedValidity::new(Lease { begun, ttl: self.ttl }));
        Ok((grant.token.unsigned_abs(), validity))
    }

    /// Holds until it is told to release: whether it was held until then.
    async fn hold(
        &self,
        mut link: Link,
        validity: &TrackedValidity,
        orders: &mut UnboundedReceiver<()>,
    ) -> Result<bool> {
        let (target, key) = (&self.target, sql::key(&self.name));
        let third = self.ttl / 3;
        let mut next = tokio::time::Instant::now() + third;
        // The server did not answer the last time, and that was told.
        let mut outage = false;
        let ended = || {
            validity.lost(); // before the program's logger has its turn
            let place = target.place();
            log::warn!(
                "<{}> {place}: the connection has ended, and the lock with it",
                self.name
            );
            Ok(false)
        };
        loop {
            tokio::select! {
                biased;
                _ = orders.recv() => return self.release(link).await,
                _ = &mut link.ended => return ended(),
                () = tokio::time::sleep_until(next) => {}
            }
            let begun = sys::boottime();
            let answer = tokio::select! {
                biased;
                _ = orders.recv() => return self.release(link).await,
                _ = &mut link.ended => return ended(),
                answer = timeout(third, sql::still_held(target, &link.client, key)) => answer,
            };
            match answer.unwrap_or_else(|_| Err(target.no_answer())) {
                Ok(true) => {
                    validity.renewed(begun);
                    outage = false;
                    next = tokio::time::Instant::now() + third;
                }
                Ok(false) => {
                    validity.lost();
                    let place = target.place();
                    log::warn!("<{}> {place}: the session does not hold the lock any more", self.name);
                    return Ok(false);
                }
                Err(error) => {
                    let level = if outage { Level::Debug } else { Level::Warn };
                    log::log!(level, "<{}> {error}", self.name);
                    outage = true;
                    next = tokio::time::Instant::now() + Duration::from_millis(200);
                }
            }
            if !validity.now().is_certain() {
                validity.lost();
                return Ok(false);
            }
        }
    }

    async fn release(&self, mut link: Link) -> Result<bool> {
        let unlocked = sql::unlock(&self.target, &link.client, &self.name, self.mode, self.told).await;
        self.restore(&link).await;
        match unlocked {
            // The server's last word may come before the connection's end. Nobody else closes it: the session has ended,
            // before this or in the same instant.
            Err(error) if timeout(BRIEF, &mut link.ended).await.is_ok() => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_fails_is_not_waited_for() {
        let target = Arc::new(Target::new("postgres://u@127.0.0.1/d").unwrap());
        let shared = Arc::new(Shared::new());
        let word = LastWord {
            shared: shared.clone(),
            target: target.clone(),
        };
        let thread = background::spawn("postgres", move || {
            let _word = word;
            panic!("on purpose");
        });
        let mut session = Session {
            orders: None,
            shared,
            target,
            hold: None,
            leave_within: ANSWER_TIMEOUT + ANSWER_TIMEOUT,
        };
        let told = session.wait(&mut GetOptions::new(), || None);
        assert!(matches!(told, Err(Error::Refused { .. })));
        assert!(thread.unwrap().join().is_err());
    }
}
