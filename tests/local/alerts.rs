//! The metrics and the alert rules of the guides are what Prometheus's own tool accepts.

use crate::common::in_private_shm;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From the package `prometheus`; `scripts/test.sh` unpacks it.
fn promtool() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let other = env::var_os("RESOURCELOCK_TEST_PROMTOOL").map(PathBuf::from);
    other.unwrap_or_else(|| root.join(".promtool/usr/bin/promtool"))
}

/// Each rule fires when it should, and none in a night in which all goes well.
#[test]
fn the_rules_pass_their_tests() {
    for words in [
        ["check", "rules", "docs/alerts.yml"],
        ["test", "rules", "tests/local/alerts_test.yml"],
    ] {
        let mut command = Command::new(promtool());
        let output = command
            .args(words)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("promtool runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("SUCCESS"), "{words:?}: {said}");
    }
}

#[test]
fn the_metrics_are_well_formed_and_say_when() {
    let script = r#"begin=$(date +%s)
        "$RL" done run -q -- true; "$RL" done run -q -- false; "$RL" crashed run -q -- sh -c 'kill -9 $$'
        "$RL" held get -q; "$RL" held run -n -q -- true; "$RL" 'a"\b' get -a 0.01 -q
        "$RL" list --prometheus > /dev/shm/metrics; "$PROMTOOL" check metrics < /dev/shm/metrics || exit 1
        cat /dev/shm/metrics; echo "begin $begin"; echo "end $(date +%s)""#;
    let output = in_private_shm(&format!("PROMTOOL={}\n{script}", promtool().display()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value = |sample: &str| -> Option<f64> {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    };
    let during = value("begin").unwrap()..value("end").unwrap() + 1.0;
    for (name, locks) in [
        ("hold_start", &["held"][..]),
        ("last_grant", &["held", "done", "crashed"]),
        ("last_success", &["done"]),
    ] {
        for lock in ["held", "done", "crashed"] {
            let when = value(&format!(r#"resourcelock_{name}_timestamp_seconds{{lock="{lock}"}}"#));
            assert_eq!(
                when.is_some_and(|when| during.contains(&when)),
                locks.contains(&lock),
                "{name} {lock}: {text}"
            );
            assert!(when.is_none() || locks.contains(&lock), "{name} {lock}: {text}");
        }
    }
    assert_eq!(
        value(r#"resourcelock_crashes_total{lock="crashed"}"#),
        Some(1.0),
        "{text}"
    );
    assert_eq!(
        value(r#"resourcelock_consecutive_timeouts{lock="held"}"#),
        Some(1.0),
        "{text}"
    );
}
