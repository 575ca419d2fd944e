//! Knows all locks, in a thread of its own, so that an engine that does not answer keeps nobody from quitting.
//!
//! | what happens | how it is noticed |
//! |---|---|
//! | a lock changes | a thread per lock sleeps until it does ([`Engine::watch`]), for the first [`FOLLOWED`] of the list |
//! | a lock comes, or goes | the kernel tells of files that come and go (`arrivals.rs`) |
//! | anything else: other locks change, on an engine all of them | a look at all of them, every second or two |
//!
//! On an engine only the lock that is shown alone is followed: each view of all of them is one request, and each lock that
//! is followed costs the server more than that.

use super::arrivals;
use crate::commands::{Failure, list};
use crate::output::top::{Board, Detail, Row};
use nix::sys::resource::{Resource, getrlimit};
use resourcelock::engines::{Engine, Listing};
use resourcelock::{Cancel, Change, HistoryRecord, LockName, State};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many locks are followed at most: each costs a thread, a few descriptors, and four looks a second.
const FOLLOWED: usize = 64;
/// How many descriptors that takes, for each of them.
const DESCRIPTORS: u64 = 6;
/// How many are left for everything else.
const OTHER_DESCRIPTORS: u64 = 40;
/// Between two looks at all locks: what is not followed is seen within this time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same on an engine, where nothing is followed.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Looks take no more than this part of the time, however many locks there are.
const SHARE: u32 = 10;
/// Between two views of the lock that is shown alone: its times are those of the view.
const VIEW_EVERY: Duration = Duration::from_secs(1);
/// Between two rounds: what happens meanwhile is seen together.
const PAUSE: Duration = Duration::from_millis(50);
/// How many ended requests are remembered, on an engine that does not.
const REMEMBERED: usize = 200;
/// Threads that only wait need no more.
const STACK: usize = 256 * 1024;

/// Something to act on.
pub enum News {
    /// A lock that is followed has changed, or is followed from now on, so that it has to be looked at once more; what has
    /// ended, if that is it.
    Changed(LockName, Option<Box<HistoryRecord>>),
    /// It cannot be followed any more.
    NotFollowed(LockName),
    /// A lock may have come or gone.
    Files,
    /// This lock is to be shown alone.
    Show(Option<String>),
}

/// A lock that a thread follows, or is about to.
#[derive(Clone)]
struct Followed {
    name: LockName,
    cancel: Arc<Cancel>,
    /// Nothing that happens to it is missed any more.
    from_now_on: Arc<AtomicBool>,
}

/// What has happened and was not acted on yet.
#[derive(Default)]
pub struct Inbox {
    news: Mutex<Vec<News>>,
    filled: Condvar,
}

impl Inbox {
    fn news(&self) -> MutexGuard<'_, Vec<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, news: News) {
        self.news().push(news);
        self.filled.notify_one();
    }

    /// What has come until now, or comes until then.
    fn take(&self, until: Instant) -> Vec<News> {
        let left = until.saturating_duration_since(Instant::now());
        let waited = self
            .filled
            .wait_timeout_while(self.news(), left, |news| news.is_empty());
        let (mut news, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut news)
    }
}

/// Starts it. `publish` is called with all that is known whenever that has changed; false ends it.
pub fn start(engine: &'static dyn Engine, publish: Box<dyn Fn(Board) -> bool + Send>) -> std::io::Result<Arc<Inbox>> {
    let inbox = Arc::new(Inbox::default());
    if engine.capabilities().files {
        let inbox = inbox.clone();
        spawn(Box::new(move || arrivals::follow(&|| inbox.put(News::Files))))?;
    }
    let collector = Collector {
        engine,
        inbox: inbox.clone(),
        states: Vec::new(),
        unreadable: Vec::new(),
        followed: Vec::new(),
        shown: None,
        seen: Vec::new(),
        trouble: None,
        next_look: Instant::now(),
        earliest_look: Instant::now(),
        next_view: Instant::now(),
    };
    spawn(Box::new(move || collector.run(&*publish)))?;
    Ok(inbox)
}

fn spawn(work: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
    thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

struct Collector {
    engine: &'static dyn Engine,
    inbox: Arc<Inbox>,
    /// Each with the time at which it was read.
    states: Vec<(State, Instant)>,
    unreadable: Vec<Arc<Row>>,
    /// Those whose threads run, with what ends them.
    followed: Vec<Followed>,
    shown: Option<LockName>,
    /// What has ended of the lock that is shown, on an engine that does not keep that; oldest first.
    seen: Vec<HistoryRecord>,
    trouble: Option<String>,
    next_look: Instant,
    /// Not before that, whatever happens.
    earliest_look: Instant,
    next_view: Instant,
}

impl Collector {
    fn run(mut self, publish: &dyn Fn(Board) -> bool) {
        self.look();
        while publish(self.board()) {
            let until = if self.shown.is_some() {
                self.next_look.min(self.next_view)
            } else {
                self.next_look
            };
            let mut news = self.inbox.take(until);
            if !news.is_empty() {
                // What comes at the same time is seen together.
                thread::sleep(PAUSE);
                news.append(&mut self.inbox.news());
                self.hear(news);
            }
            if self.next_look <= Instant::now() {
                self.look();
            } else if self.next_view <= Instant::now() {
                self.view_shown();
            }
        }
    }

    /// Acts on what has happened.
    fn hear(&mut self, news: Vec<News>) {
        let mut changed: Vec<LockName> = Vec::new();
        let mut add = |name: LockName| {
            if !changed.contains(&name) {
                changed.push(name);
            }
        };
        for news in news {
            match news {
                News::Changed(name, ended) => {
                    if let Some(record) = ended
                        && self.shown.as_ref() == Some(&name)
                    {
                        self.seen.push(*record);
                        self.seen.drain(..self.seen.len().saturating_sub(REMEMBERED));
                    }
                    add(name);
                }
                News::NotFollowed(name) => self.followed.retain(|followed| followed.name != name),
                News::Files => self.next_look = self.next_look.min(self.earliest_look),
                News::Show(name) => {
                    self.shown = name.and_then(|name| LockName::new(name).ok());
                    self.seen.clear();
                    self.choose_followed();
                    self.shown.iter().cloned().for_each(&mut add);
                }
            }
        }
        changed.iter().for_each(|name| self.view(name));
    }

    /// Reads one lock anew.
    fn view(&mut self, name: &LockName) {
        let place = self.states.iter().position(|(state, _)| state.name == *name);
        match (self.engine.state(name, &Cancel::new()), place) {
            (Ok(Some(state)), Some(place)) => self.states[place] = (state, Instant::now()),
            (Ok(Some(state)), None) => self.states.push((state, Instant::now())),
            (Ok(None), Some(place)) => _ = self.states.swap_remove(place),
            // If something is wrong, the next look says so.
            (Ok(None), None) | (Err(_), _) => {}
        }
    }

    /// Reads the lock that is shown alone.
    fn view_shown(&mut self) {
        if let Some(name) = self.shown.clone() {
            self.view(&name);
        }
        self.next_view = Instant::now() + VIEW_EVERY;
    }

    /// Reads all locks anew.
    fn look(&mut self) {
        let began = Instant::now();
        match self.engine.list() {
            Ok(Listing { states, unreadable, .. }) => {
                let now = Instant::now();
                self.states = states.into_iter().map(|state| (state, now)).collect();
                let unreadable = list::with_reasons(&unreadable);
                self.unreadable = unreadable
                    .iter()
                    .map(|unreadable| Arc::new(Row::unreadable(unreadable, now)))
                    .collect();
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(Failure::engine(error).to_string()),
        }
        self.choose_followed();
        // Of this one, a list does not tell everything.
        self.view_shown();
        let every = if self.engine.capabilities().remote {
            ASK_EVERY
        } else {
            LOOK_EVERY
        };
        self.earliest_look = Instant::now() + began.elapsed() * SHARE;
        self.next_look = self.earliest_look.max(Instant::now() + every);
    }

    /// Follows those that matter most: the one that is shown, those in use, those that were used last.
    fn choose_followed(&mut self) {
        let is_shown = |state: &State| self.shown.as_ref() == Some(&state.name);
        let is_used = |state: &State| state.locked || !state.waiters.is_empty();
        let mut left: Vec<&State> = self.states.iter().map(|(state, _)| state).collect();
        if self.engine.capabilities().remote {
            left.retain(|state| is_shown(state));
        }
        let most = most_followed();
        let mut wanted: Vec<LockName> = Vec::new();
        while wanted.len() < most
            && let Some((place, state)) = left
                .iter()
                .enumerate()
                .max_by_key(|(_, state)| (is_shown(state), is_used(state), state.last_grant))
        {
            wanted.push(state.name.clone());
            left.swap_remove(place);
        }
        self.followed.retain(|followed| {
            let stays = wanted.contains(&followed.name);
            if !stays {
                followed.cancel.cancel();
            }
            stays
        });
        for name in wanted {
            if self.followed.iter().any(|followed| followed.name == name) {
                continue;
            }
            let followed = Followed {
                name,
                cancel: Arc::new(Cancel::new()),
                from_now_on: Arc::default(),
            };
            let (engine, inbox, thread) = (self.engine, self.inbox.clone(), followed.clone());
            // If there are too many threads, the looks at all locks have to do.
            if spawn(Box::new(move || follow(engine, &thread, &inbox))).is_ok() {
                self.followed.push(followed);
            }
        }
    }

    fn board(&self) -> Board {
        let mut board = Board {
            place: self.engine.place(),
            trouble: self.trouble.clone(),
            detail: self.shown.as_ref().map(|name| self.detail(name)),
            ..Board::default()
        };
        let rows = self.states.iter().map(|(state, read)| Arc::new(Row::new(state, *read)));
        rows.chain(self.unreadable.iter().cloned())
            .for_each(|row| board.add(row));
        board
    }

    fn detail(&self, name: &LockName) -> Detail {
        let state = self
            .states
            .iter()
            .map(|(state, _)| state)
            .find(|state| state.name == *name);
        let (past, gap) = if self.engine.capabilities().history {
            match self.engine.history(name) {
                Ok(past) => (past.unwrap_or_default(), None),
                Err(error) => (Vec::new(), Some(Failure::engine(error).to_string())),
            }
        } else {
            let followed = self.followed.iter().find(|followed| followed.name == *name);
            let since = if followed.is_some_and(|followed| followed.from_now_on.load(Relaxed)) {
                "what has ended since this view was opened"
            } else {
                "what ends is seen in a moment"
            };
            let kept = format!("{} keeps no history: {since}", self.engine.kind());
            (self.seen.clone(), Some(kept))
        };
        Detail::new(name.as_str(), state, past, gap)
    }
}

/// How many locks can be followed, with the descriptors that this process may open.
fn most_followed() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    let most = soft.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS;
    usize::try_from(most).unwrap_or(FOLLOWED).min(FOLLOWED)
}

/// Tells of each change of one lock, until it is cancelled.
fn follow(engine: &dyn Engine, followed: &Followed, inbox: &Inbox) {
    let (name, cancel) = (&followed.name, &*followed.cancel);
    if let Ok(mut watch) = engine.watch(name, cancel) {
        followed.from_now_on.store(true, Relaxed);
        inbox.put(News::Changed(name.clone(), None));
        while let Ok(Some(change)) = watch.next(cancel) {
            let ended = match change {
                Change::Ended(record) => Some(Box::new(record)),
                _ => None,
            };
            inbox.put(News::Changed(name.clone(), ended));
            // However fast the lock changes hands, this reads on as slowly as it is shown.
            thread::sleep(PAUSE / 4);
        }
    }
    if !cancel.is_cancelled() {
        inbox.put(News::NotFollowed(name.clone()));
    }
}
