//! A fork without exec: what the child inherits refuses, and what is held stays its parent's, on every engine.

use crate::common::Worker;
use crate::common::worker::{Hands, Skill};
#[cfg(feature = "etcd")]
use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::lock_name;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use resourcelock::engines;
use resourcelock::{Cancel, GetOptions, LockName, ResourceLock, Result, UngetOptions, Wait};
use serde_json::{Value, json};
use std::io::{PipeWriter, Read, Write};
use std::sync::Mutex;
use std::time::Duration;

/// What only this file's workers know.
pub const SKILLS: &[(&str, Skill)] = &[("inherit", inherit), ("fork_while_waiting", fork_while_waiting)];

enum Side {
    /// It is over; what it has said.
    Parent(Value),
    /// Where to say it.
    Child(PipeWriter),
}

/// Forks, and waits in the parent for the child's end.
fn fork_and_wait() -> Side {
    let (mut said, say) = std::io::pipe().expect("a pipe");
    // SAFETY: the harness's other thread is asleep, the library's threads may be anywhere, as in any program, and the
    // child does no more than any forked program: it uses the library, writes to a pipe, and exits without returning
    // into the harness.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            set_pdeathsig(Some(Signal::SIGKILL)).expect("a signal can be asked for");
            Side::Child(say)
        }
        ForkResult::Parent { child } => {
            drop(say);
            let mut text = String::new();
            said.read_to_string(&mut text).expect("the child speaks");
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)), "{text}");
            Side::Parent(serde_json::from_str(&text).expect("the child says JSON"))
        }
    }
}

/// The child ends, as a program that returns from main.
fn end_with(told: &Value, mut say: PipeWriter) -> ! {
    let _ = write!(say, "{told}");
    std::process::exit(0)
}

/// Does it in a child.
fn in_child(work: impl FnOnce() -> Value) -> Value {
    match fork_and_wait() {
        Side::Parent(told) => told,
        Side::Child(say) => end_with(&work(), say),
    }
}

/// How a lock is opened by a worker that was given its URL and its name.
fn opener(arguments: &[Value]) -> impl Fn() -> ResourceLock {
    let [url, name] = [0, 1].map(|i| arguments[i].as_str().expect("a text").to_owned());
    move || ResourceLock::builder(&name).backend(&url).open().expect("it opens")
}

fn at_once<'a>() -> GetOptions<'a> {
    GetOptions::new().wait(Wait::No)
}

fn refusal<R>(result: Result<R>) -> Value {
    json!(result.err().map(|error| error.to_string()))
}

/// Holds a lock, by a guard or in the Python module's words, while children try what they have inherited, and drop it.
fn inherit(_: &mut Hands, arguments: &[Value]) -> Value {
    let open = opener(arguments);
    let by_guard = arguments[2] == json!(true);
    let url = arguments[0].as_str().expect("a text");
    let engine = engines::open(url).expect("a good URL");
    let lock = open();
    let name = lock.name().clone();
    let mut watch = lock.watch().expect("it answers");
    let mut guard = by_guard.then(|| lock.acquire().expect("it answers"));
    assert!(by_guard || lock.get_lock(&at_once()).expect("it answers"));
    let own = UngetOptions::new();
    let asked = in_child(|| {
        let cancel = Cancel::new();
        let mut refused = json!({
            "acquire": refusal(lock.try_acquire()),
            "get": refusal(lock.get_lock(&at_once())),
            "get_again": refusal(lock.get_lock(&at_once().same_process_ok(true))),
            "unget": refusal(lock.unget_lock(own)),
            "force": refusal(lock.unget_lock(own.force(true))),
            "recovered": refusal(lock.mark_recovered()),
            "repair": refusal(lock.repair()),
        });
        let mut refused_on_engines = json!({
            "acquire_on": refusal(engine.acquire(&name, &at_once())),
            "state": refusal(lock.state()),
            "list": refusal(engine.list()),
            "last_done": refusal(engine.last_done(&name, &cancel)),
            "watch": refusal(lock.watch()),
            "watch_on": refusal(engine.watch(&name, &cancel)),
        });
        if engine.capabilities().remote {
            // On this machine it would be told of the grant.
            refused_on_engines["next"] = refusal(watch.next(&cancel));
        }
        if let Some(mut guard) = guard.take() {
            refused["mark_recovered"] = refusal(guard.mark_recovered());
            refused["mark_done"] = refusal(guard.mark_done(Duration::ZERO, Duration::ZERO));
            refused["reset_skips"] = refusal(guard.reset_skips());
            refused["bind"] = refusal(guard.bind(std::process::id()));
            refused["begin"] = refusal(guard.begin("here"));
            refused["linger"] = refusal(guard.linger(Duration::from_secs(1)));
            refused_on_engines["confirm"] = refusal(guard.confirm());
            assert!(!engine.capabilities().remote || guard.lost().is_some() && !guard.validity().is_certain());
            refused["release"] = refusal(guard.release());
        }
        json!({
            "refused": refused,
            "refused on engines": refused_on_engines,
            "have": [json!(lock.have_the_lock()), json!(lock.token())],
            "afresh": open().try_acquire().map_err(|error| error.to_string()).map(|guard| guard.is_some()),
        })
    });
    let mut inherited = Some((guard.take(), lock, engine, watch));
    in_child(|| {
        drop(inherited.take());
        Value::Null
    });
    let (guard, lock, ..) = inherited.expect("the child had a copy");
    let held = match &guard {
        Some(guard) => guard.confirm().expect("it answers").is_none(),
        None => lock.have_the_lock(),
    };
    let refused = open().try_acquire().expect("it answers").is_none();
    let released = match guard {
        Some(guard) => guard.release(),
        None => lock.unget_lock(own),
    };
    json!({
        "asked": asked,
        "held": held,
        "others are refused": refused,
        "released": released.expect("it answers"),
        "free": open().try_acquire().expect("it answers").is_some(),
    })
}

/// Forks when it is told that it waits, and the child returns to its copy of the request.
fn fork_while_waiting(_: &mut Hands, arguments: &[Value]) -> Value {
    let open = opener(arguments);
    let (holder, waiter) = (open(), open());
    let held = Mutex::new(Some(holder.acquire().expect("it answers")));
    let (child, seen) = (Mutex::new(None), Mutex::new(Value::Null));
    let options = GetOptions::new().wait(Wait::Forever).on_wait(Duration::ZERO, |_| {
        match fork_and_wait() {
            Side::Child(say) => *child.lock().unwrap() = Some(say),
            Side::Parent(told) => {
                // It is still in the queue.
                let waiters = holder.state().expect("it answers").waiters.len();
                *seen.lock().unwrap() = json!([told, waiters]);
                held.lock().unwrap().take();
            }
        }
    });
    let acquired = waiter.acquire_with(&options);
    if let Some(say) = child.lock().unwrap().take() {
        end_with(&refusal(acquired), say);
    }
    let acquired = acquired.expect("it answers").is_some();
    let seen = seen.lock().unwrap();
    json!([seen[0], seen[1], acquired])
}

fn is_forked(said: &Value) -> bool {
    said.as_str().is_some_and(|text| text.contains("before a fork"))
}

fn conforms(url: &str) {
    let is_remote = engines::open(url).expect("a good URL").capabilities().remote;
    let mut worker = Worker::start();
    for by_guard in [true, false] {
        let lock = Lock::new();
        let told = worker.ask(json!(["inherit", url, lock.0.as_str(), by_guard]));
        let asked = &told["asked"];
        for (call, said) in asked["refused"].as_object().expect("some were tried") {
            assert!(is_forked(said), "{url} {call}: {told}");
        }
        for (call, said) in asked["refused on engines"].as_object().expect("some were tried") {
            assert_eq!(is_forked(said), is_remote, "{url} {call}: {told}");
        }
        assert_eq!(asked["have"], json!([false, null]), "{url}: {told}");
        assert_eq!(asked["afresh"], json!({ "Ok": false }), "{url}: {told}");
        for what in ["held", "others are refused", "released", "free"] {
            assert_eq!(told[what], json!(true), "{url} {what}: {told}");
        }
    }
    let lock = Lock::new();
    let told = worker.ask(json!(["fork_while_waiting", url, lock.0.as_str()]));
    assert!(is_forked(&told[0]), "{url}: {told}");
    assert_eq!((&told[1], &told[2]), (&json!(1), &json!(true)), "{url}: {told}");
}

/// A lock of its own; it is removed from this machine.
struct Lock(LockName);

impl Lock {
    fn new() -> Self {
        Self(LockName::new(lock_name("forks")).expect("a good name"))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = resourcelock::remove(self.0.as_str(), true);
    }
}

#[test]
fn local() {
    conforms("local:");
}

#[cfg(feature = "etcd")]
#[test]
fn etcd() {
    for version in Version::ALL {
        conforms(&Etcd::shared(version).url());
    }
}

#[cfg(feature = "postgres")]
#[test]
fn postgres() {
    conforms(&crate::engine_common::postgres::Postgres::shared().url());
}
