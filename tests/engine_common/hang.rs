//! What users of a lock see while the server hangs, that is, neither answers nor closes connections. A command that is
//! told to exit, or whose time is up, does not wait as long as one that needs an answer, which gives up after 4 s. The
//! order in which commands exit shows that.

use super::journal::{Journal, Run, boottime};
use super::wait_until;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};

/// Starts a command that needs an answer.
fn asking(journal: &Journal) -> Run {
    Run::start(&mut journal.command(&["run", "-n", "true"]))
}

/// `stop` makes the server hang.
pub fn asked_to_end(url: &str, stop: impl Fn()) {
    let journal = Journal::new(url, "interrupt");
    let mut holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    let mut waiting = journal.run(&[], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    stop();
    let (mut first, mut other) = (asking(&journal), asking(&journal));
    // The holder's command exits; nobody waits for the release of the lock.
    for run in [&mut waiting, &mut first, &mut holder] {
        run.signal("INT");
        assert_eq!(run.wait().signal(), Some(2));
    }
    assert!(other.is_running(), "they waited for an answer");
    assert_eq!(other.status(), 69);
}

/// How long they wait, and when the server begins to hang: before that, but so late that until then nobody has given up
/// for want of an answer.
const LATE: &str = "6";
const LATE_NS: u64 = 6_000_000_000;
const HANGS_NS: u64 = 3_500_000_000;

/// `gets` is true if this engine supports `get`.
pub fn time_is_up(url: &str, gets: bool, stop: impl Fn()) {
    let journal = Journal::new(url, "late");
    let _holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    let start = |words: &[&str]| -> Child {
        let mut command = journal.command(words);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        command.spawn().expect("it starts")
    };
    let mut waiting = vec![
        start(&["run", "-t", LATE, "true"]),
        start(&["run", "-t", LATE, "-E", "0", "true"]),
    ];
    if gets {
        waiting.push(start(&["get", "-t", LATE, "--forever", "--json"]));
    }
    let started = boottime();
    wait_until("they wait", || journal.waiting() == waiting.len());
    wait_until("they have waited for a while", || boottime() > started + HANGS_NS);
    stop();
    wait_until("their time is up", || boottime() > started + LATE_NS);
    let mut other = asking(&journal);
    let outputs: Vec<_> = waiting
        .into_iter()
        .map(|child| child.wait_with_output().expect("it ends"))
        .collect();
    assert!(other.is_running(), "they waited for an answer");
    assert_eq!(other.status(), 69);
    for (output, status) in outputs.iter().zip([75, 0, 75]) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(
            said.contains("not acquired in time; who has it cannot be read: "),
            "even if the status was chosen: {said}"
        );
    }
    if let Some(got) = outputs.get(2) {
        let got: serde_json::Value = serde_json::from_slice(&got.stdout).expect("JSON");
        assert_eq!(got["got"], false);
        assert!(got.get("state").is_none_or(serde_json::Value::is_null), "{got}");
    }
}
