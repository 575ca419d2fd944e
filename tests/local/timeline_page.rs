//! The picture of all locks: a lane for each, and the page in a real browser.

use crate::common::peer::python;
use crate::common::printed_in_private_shm;

/// Two locks, and whatever can happen to them.
const NIGHT: &str = r#"
"$RL" disk run -q -m dump -- true
"$RL" disk run -q -- sh -c 'exit 3'
"$RL" disk run -q -- sh -c 'ulimit -c 0; kill -SEGV $$' 2> /dev/null
"$RL" disk run -q --limit 10ms -- sleep 60
"$RL" disk get -q
"$RL" disk run -n -E 0 -- true; "$RL" disk run -n -q -- true
"$RL" disk run -t 0.02 -q -- true
"$RL" disk unget -q
"$RL" net run -s -q -- true; "$RL" net run -q -- true
"$RL" unused get -q -a 0.01; "$RL" unused remove -q
"#;

#[test]
fn each_lock_has_a_lane_with_a_summary() {
    let picture = printed_in_private_shm(&format!(r#"{NIGHT} "$RL" history --svg -"#));
    let text = |class: &str| -> Vec<String> {
        let begins = format!("<text class=\"{class}\"");
        let texts = picture.split(&begins).skip(1);
        texts
            .map(|text| text.split(['>', '<']).nth(1).expect("a text").to_owned())
            .collect()
    };
    assert_eq!(text("lock"), ["disk", "net"], "{picture}");
    for part in [
        ">2 locks</text>",
        ">5 holds, 1 failed, 1 crashed, 1 ended at the limit, 2 refused, 1 timed out</text>",
        ">2 holds</text>",
        ">failed: status other than 0</text>",
        ">ended at its limit</text>",
        "<title>disk: sh ",
        ", status 3</title>",
        ", killed by SEGV</title>",
        "<title>disk: true ",
        ", released, status 0: dump</title>",
    ] {
        assert!(picture.contains(part), "{part}: {picture}");
    }
}

/// What Chromium makes of the page, with a real click and real typing.
#[test]
fn the_page_in_chromium() {
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local/timeline_page.py");
    let python = python();
    let said = printed_in_private_shm(&format!(
        r#"{NIGHT} page=$(mktemp --suffix .html); "$RL" history --html "$page"
        {} {driver} "$page" 2>&1; rm "$page""#,
        python.display()
    ));
    assert_eq!(said, "fine\n");
}
