//! A fork without exec: the child's copy of a handle refuses, and the parent's proof of life stays its own.

mod common;

use common::worker::Hands;
use common::{Ask, TestLock, Worker, wait_until};
use nix::unistd::{ForkResult, fork};
use resourcelock::{GetOptions, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// Forks. The child tries its inherited handle, opens the lock afresh, says what happened, and stays until the test
/// is over if it is told so. Answers the child's pid and what it said.
fn fork_and_try(hands: &mut Hands, arguments: &[Value]) -> Value {
    let child_stays = arguments[0] == json!(true);
    let (mut said, mut say) = std::io::pipe().expect("a pipe");
    // SAFETY: the harness's other thread is asleep, and the child does no more than any forked program: it uses the
    // library, writes to a pipe, and ends without returning into the harness.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let lock = hands.lock();
            let get = lock.get_lock(GetOptions::new().wait(Wait::No));
            let unget = lock.unget_lock(UngetOptions::new().force(true));
            let name = lock.name().as_str();
            let afresh = ResourceLock::open(name).and_then(|own| own.get_lock(GetOptions::new().wait(Wait::No)));
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
            // What was inherited is dropped as in a program that returns from main.
            hands.guards.clear();
            let _ = writeln!(say, "{told}");
            drop(say);
            if child_stays {
                // Until the test closes its end, whether it has passed or not.
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

#[test]
fn worker() {
    common::worker::main(&[("fork", fork_and_try)]);
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
    // The child has ended, and dropped its copies of guard and handle before.
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
    assert_eq!(common::process_state(child), Some('S'), "the child is still there");
}
