//! A request without a time limit that has been part of a wait for each other for a minute says so. Here the minute is a
//! fifth of a second.

use crate::common::in_private_shm;

/// Runs a script with the functions `nested OUTER INNER OPTIONS`, which waits for INNER under OUTER as soon as that one is
/// taken, and says in the file OUTER what it is told, and `waited LOCK`, which waits until a request for LOCK has waited for ten
/// such minutes.
fn said(script: &str) -> String {
    let functions = "export RESOURCELOCK_TEST_DEADLOCK_MS=200; cd $(mktemp -d)
         nested() { outer=$1 inner=$2; shift 2
             $RL $outer run -- sh -c 'inner=$1; shift; until $RL $inner state -q; do :; done
                 exec $RL $inner run \"$@\" -- true' - $inner \"$@\" 2> $outer & }
         waited() { until $RL $1 state --json |
             grep -qE '\"waited_seconds\":([2-9]|[1-9][0-9]+)\\.[0-9]+,\"stalled\"'; do sleep 0.05; done; }
         ";
    let output = in_private_shm(&format!("{functions}{script}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (said, failed) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{said}{failed}");
    said
}

#[test]
fn both_say_it_once() {
    let said = said(
        "nested a b; one=$!; nested b a; two=$!
         until [ -s a ] && [ -s b ]; do sleep 0.05; done
         waited a; waited b; kill $one $two; wait
         for file in a b; do echo $file; cat $file; done",
    );
    let lines: Vec<&str> = said.lines().collect();
    let ["a", in_a, "b", in_b] = lines[..] else {
        panic!("{said}")
    };
    for (line, lock) in [(in_a, "b"), (in_b, "a")] {
        assert!(line.starts_with(&format!("resourcelock: {lock}: deadlock: ")), "{line}");
        for part in [
            " holds a and waits for b; ",
            " holds b and waits for a; ",
            "; none of them can continue: have all of them acquire the locks in the same order; now end one of them, or: \
             resourcelock ",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}

/// Neither a long wait, nor one with a limit, nor one that is to be quiet, nor one behind a deadlock.
#[test]
fn others_say_nothing() {
    let said = said(
        "$RL c get -q; nested d c; three=$!; waited c
         nested a b -t 1h; one=$!; nested b a -q; two=$!
         until $RL a state | grep -q waiting && $RL b state | grep -q waiting; do :; done
         $RL a run -- true 2> behind & four=$!
         waited a; waited b; cat a b d behind; kill $one $two $three $four; wait",
    );
    assert_eq!(said, "");
}
