//! A fork without exec: the child's copy of a handle refuses, and the proof of life remains the parent's alone.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker, wait_until};
use nix::unistd::{ForkResult, fork};
use resourcelock::{GetOptions, Mode, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Forks. The child tries its inherited handle, opens the lock afresh, reports what happened, and, if told to, stays
/// until the test is over. Answers with the child's PID and report.
fn fork_and_try(hands: &mut Hands, arguments: &[Value]) -> Value {
    let child_stays = arguments[0] == json!(true);
    let (mut said, mut say) = std::io::pipe().expect("a pipe");
    // SAFETY: the harness's other thread is asleep, and the child does no more than any forked program: it uses the
    // library, writes to a pipe, and exits without returning into the harness.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let lock = hands.lock();
            let get = lock.get_lock(&GetOptions::new().wait(Wait::No));
            let unget = lock.unget_lock(UngetOptions::new().force(true));
            let name = lock.name().as_str();
            let afresh = ResourceLock::open(name).and_then(|own| own.get_lock(&GetOptions::new().wait(Wait::No)));
            let release = hands
                .guards
                .pop()
                .map(|guard| guard.release().map_err(|error| error.to_string()));
            let told = json!({
                "release": release,
                "get": get.err().map(|error| error.to_string()),
                "unget": unget.err().map(|error| error.to_string()),
                "have": lock.have_the_lock(),
                "afresh": afresh.map_err(|error| error.to_string()),
            });
            // Drop what was inherited, as a program that returns from main does.
            hands.guards.clear();
            let _ = writeln!(say, "{told}");
            drop(say);
            if child_stays {
                // Stay until the test closes its end of the pipe, whether it has passed or not.
                let _ = nix::unistd::read(std::io::stdin(), &mut [0]);
            }
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).ok();
            unreachable!("killed");
        }
        ForkResult::Parent { child } => {
            drop(say);
            let mut text = String::new();
            said.read_to_string(&mut text).expect("the child speaks");
            if !child_stays {
                nix::sys::wait::waitpid(child, None).expect("the child ends");
            }
            json!([
                child.as_raw(),
                serde_json::from_str::<Value>(&text).expect("the child says JSON")
            ])
        }
    }
}

/// When pulled, blocks a thread in the middle of `get_lock`, where that thread has the handle to itself.
struct Brake {
    pulled: AtomicBool,
    reached: Mutex<Option<Sender<()>>>,
}

static BRAKE: Brake = Brake {
    pulled: AtomicBool::new(false),
    reached: Mutex::new(None),
};

impl log::Log for Brake {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("lock request successful") && self.pulled.swap(false, SeqCst) {
            let reached = self.reached.lock().expect("nobody panicked").take();
            reached.expect("told once").send(()).expect("somebody listens");
            loop {
                std::thread::park();
            }
        }
    }

    fn flush(&self) {}
}

/// Forks while another thread is in the middle of `get_lock`. The child looks at the lock through its copy of the
/// handle and reports what it sees.
fn fork_while_busy(hands: &mut Hands, _: &[Value]) -> Value {
    let lock = hands.lock();
    lock.set_lock_info("a note").unwrap();
    log::set_logger(&BRAKE).expect("the first one");
    log::set_max_level(log::LevelFilter::Debug);
    let (reached, is_reached) = channel();
    *BRAKE.reached.lock().expect("nobody panicked") = Some(reached);
    BRAKE.pulled.store(true, SeqCst);
    std::thread::spawn(|| lock.get_lock(&GetOptions::new().wait(Wait::No)));
    is_reached.recv().expect("it gets there");
    let (mut said, mut say) = std::io::pipe().expect("a pipe");
    // SAFETY: as above; the blocked thread has none of the allocator's locks.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).expect("a signal can be asked for");
            let state = lock.state().unwrap();
            lock.set_lock_info("by the child").unwrap();
            let told = json!({
                "locked": [lock.is_locked().unwrap(), state.locked, lock.lock_value().unwrap() == 0],
                "held": state.holders.iter().map(|holder| lock.is_held(holder.token.unwrap()).unwrap()).collect::<Vec<_>>(),
                "history": lock.history().unwrap().len(),
                "note": lock.get_lock_info().unwrap(),
                "own": [json!(lock.have_the_lock()), json!(lock.token())],
            });
            let _ = writeln!(say, "{told}");
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).ok();
            unreachable!("killed");
        }
        ForkResult::Parent { child } => {
            drop(say);
            let mut text = String::new();
            said.read_to_string(&mut text).expect("the child speaks");
            nix::sys::wait::waitpid(child, None).expect("the child ends");
            serde_json::from_str(&text).expect("the child says JSON")
        }
    }
}

/// Opens handles in one thread, each with a hold, while another one forks children that stay until the test is over.
fn open_and_fork(hands: &mut Hands, arguments: &[Value]) -> Value {
    let forks = arguments[0].as_u64().expect("a number");
    let name = hands.lock().name().as_str();
    let (stop, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) && opened.fetch_add(1, SeqCst) < 1000 {
                let lock = Box::leak(Box::new(ResourceLock::open(name).expect("the lock opens")));
                let shared = GetOptions::new().mode(Mode::Shared);
                std::mem::forget(lock.acquire_with(&shared).unwrap().expect("shared with the others"));
            }
        });
        for n in 0..forks {
            std::thread::sleep(Duration::from_micros(20 * (n % 5)));
            // SAFETY: the child makes system calls only.
            #[allow(unsafe_code)]
            if let ForkResult::Child = unsafe { fork() }.expect("fork") {
                let _ = nix::unistd::read(std::io::stdin(), &mut [0]);
                nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
        stop.store(true, SeqCst);
    });
    json!(opened.load(SeqCst))
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[
    ("fork", fork_and_try),
    ("fork_while_busy", fork_while_busy),
    ("open_and_fork", open_and_fork),
];

#[test]
fn a_child_may_look_though_a_thread_of_its_parent_was_busy_with_the_handle() {
    let lock = TestLock::new("fork");
    let mut parent = Worker::open(&lock);
    assert_eq!(
        parent.ask(json!(["fork_while_busy"])),
        json!({
            "locked": [true, true, true],
            "held": [true],
            "history": 0,
            "note": "by the child",
            "own": [false, null],
        })
    );
}

/// If a process forks at any point while another thread opens the lock, nothing in the child keeps the parent's holds.
#[test]
fn forks_while_the_lock_is_opened_keep_nothing() {
    let lock = TestLock::new("fork");
    let [mut parent, mut other] = [0; 2].map(|_| Worker::open(&lock));
    assert!(parent.ask(json!(["open_and_fork", 100])).as_u64() > Some(1));
    parent.kill();
    assert!(other.get(Ask::default()).is_some_and(|grant| grant.abandoned));
}

#[test]
fn the_childs_copy_refuses_and_the_parent_keeps_its_hold() {
    let lock = TestLock::new("fork");
    let [mut parent, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let grant = parent.get(Ask::default()).unwrap();
    let answer = parent.ask(json!(["fork", false]));
    let child = &answer[1];
    for call in ["get", "unget"] {
        let text = child[call]
            .as_str()
            .unwrap_or_else(|| panic!("{call} was not refused: {answer}"));
        assert!(text.contains("fork"), "it says why: {text}");
    }
    assert_eq!(child["have"], json!(false), "the hold is the parent's");
    assert!(
        child["release"]["Err"]
            .as_str()
            .is_some_and(|text| text.contains("fork")),
        "a copied guard does not release the parent's hold: {answer}"
    );
    assert_eq!(
        child["afresh"],
        json!({ "Ok": false }),
        "opened afresh it works, and finds the lock taken"
    );
    // The child has dropped its copies of guard and handle, and exited.
    assert_eq!(parent.ask(json!(["lost"])), json!("held"));
    assert_eq!(other.ask(json!(["is_held", grant.token])), json!(true));
    assert_eq!(other.get(Ask::now()), None);
    assert!(parent.release());
    assert!(other.get(Ask::now()).is_some_and(|grant| !grant.abandoned));
}

/// A child that lives on must not make its dead parent look alive.
#[test]
fn a_surviving_child_does_not_keep_its_dead_parents_hold() {
    let lock = TestLock::new("fork");
    let [mut parent, mut other] = [0; 2].map(|_| Worker::open(&lock));
    assert!(parent.get(Ask::default()).is_some());
    other.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    let answer = parent.ask(json!(["fork", true]));
    let child = answer[0].as_u64().unwrap() as u32;
    assert_eq!(other.try_granted(), None);
    parent.kill();
    assert!(other.granted().is_some_and(|grant| grant.abandoned));
    assert_eq!(
        crate::common::process_state(child),
        Some('S'),
        "the child is still there"
    );
}
