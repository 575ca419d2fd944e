//! What `scripts/test.sh` shows of a test that runs once more elsewhere and fails there.

use crate::common::once_more;
use std::process::Command;

/// Says where the test runs, if it is to fail: `here`, or `there`, where it was started once more.
const PLACE: &str = "RESOURCELOCK_TEST_FAILING";

#[test]
fn its_message_is_shown_and_its_name_once() {
    let name = "failing_elsewhere::its_message_is_shown_and_its_name_once";
    let run_by = |place: &str| {
        let mut command = Command::new("env");
        command.arg(format!("{PLACE}={place}"));
        command
    };
    match std::env::var(PLACE).as_deref() {
        Ok("there") => panic!("this is why"),
        Ok(_) => return once_more(run_by("there"), name),
        Err(_) => {}
    }
    let outputs = tempfile::tempdir().expect("a folder");
    let itself = std::env::current_exe().expect("the test's own path");
    let output = run_by("here").arg(itself).args(["--exact", name]).output();
    let output = output.expect("it runs");
    assert!(!output.status.success());
    let part = [output.stdout, output.stderr].concat();
    std::fs::write(outputs.path().join("part"), part).expect("a file");
    let shown = |function: &str| {
        let script = format!("outputs=$1; eval \"$(sed -n '/^{function}() {{/,/^}}/p' \"$2\")\"; {function} part");
        let test = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/test.sh");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script, "bash"]).arg(outputs.path()).arg(test);
        let output = bash.output().expect("bash runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let messages = shown("messages");
    assert!(messages.contains("this is why"), "{messages}");
    assert_eq!(shown("names"), format!("    {name}\n"));
}
