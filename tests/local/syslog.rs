//! `--syslog`: what journald and syslog are told.

use crate::common::{in_private_shm, peer::python};

/// Runs `script` where /run and /dev/log are the test's own, and prints what arrives at a socket at `$SOCKET`, one datagram
/// after the other.
const SCENE: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/dev/shm
for node in null zero full random urandom tty; do : > /run/dev/$node; mount --bind /dev/$node /run/dev/$node; done
mount --bind /dev/shm /run/dev/shm
mount --rbind /run/dev /dev
cat > /run/listen.py <<'EOF'
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
    log.bind(sys.argv[1])
    print("listens", flush=True)
    while (entry := log.recv(65536)) != b"end":
        print(entry.decode() + "--", flush=True)
EOF
"$PYTHON" /run/listen.py "$SOCKET" > /run/heard &
until grep -q listens /run/heard; do sleep 0.01; done
night() {
    "$RL" nightly run --syslog -q -m 'a "big" job' -- sh -c 'exit 3' || [ $? = 3 ]
    RESOURCELOCK_SYSLOG=1 "$RL" nightly run -q --limit 10ms -- sleep 60 || [ $? = 124 ]
    "$RL" nightly get -q --syslog
    "$RL" nightly run -n -E 0 --syslog -- true
    "$RL" nightly unget -q --syslog -m done
    RESOURCELOCK_SYSLOG=0 "$RL" nightly run -q -- true
}
night
"$PYTHON" -c 'import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"end", sys.argv[1])' "$SOCKET"
wait
cat /run/heard
"#;

fn heard(socket: &str) -> Vec<String> {
    let script = format!("PYTHON={}\nSOCKET={socket}\n{SCENE}", python().display());
    let output = in_private_shm(&script);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let entries = text.trim_start_matches("listens\n").split_terminator("--\n");
    entries.map(str::to_owned).collect()
}

/// What the lines say, without what differs each time.
const LINES: [&str; 7] = [
    r#"nightly granted token=N waited=N command=sh note="a \"big\" job""#,
    "nightly ended status=3",
    "nightly granted token=N waited=N command=sleep note=sleep",
    "nightly ended status=124 signal=TERM why=limit",
    "nightly granted token=N waited=N note=cli",
    "nightly refused why=HOLDER waited=N status=0",
    "nightly released note=done",
];

fn without_numbers(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.split_once('=') {
        Some((name @ ("token" | "waited"), _)) => format!("{name}=N"),
        _ => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    match line.split_once("why=\"held by ") {
        Some((before, after)) => format!("{before}why=HOLDER{}", &after[after.find("\" ").unwrap() + 1..]),
        None => line,
    }
}

#[test]
fn journald_gets_a_field_for_each_fact() {
    let entries = heard("/run/systemd/journal/socket");
    let field = |entry: &str, name: &str| -> Option<String> {
        let value = entry
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.to_owned())
    };
    let messages: Vec<String> = entries
        .iter()
        .map(|entry| without_numbers(&field(entry, "MESSAGE").expect("a message")))
        .collect();
    assert_eq!(messages, LINES);
    for entry in &entries {
        let name = |name| field(entry, name);
        assert_eq!(name("SYSLOG_IDENTIFIER").as_deref(), Some("resourcelock"), "{entry}");
        assert_eq!(name("RESOURCELOCK_NAME").as_deref(), Some("nightly"), "{entry}");
        assert!(
            entry.ends_with('\n') && entry.lines().all(|line| line.contains('=')),
            "{entry}"
        );
    }
    assert_eq!(
        field(&entries[0], "RESOURCELOCK_NOTE").as_deref(),
        Some(r#"a "big" job"#)
    );
    assert_eq!(field(&entries[3], "RESOURCELOCK_SIGNAL").as_deref(), Some("TERM"));
    assert_eq!(field(&entries[5], "RESOURCELOCK_STATUS").as_deref(), Some("0"));
}

#[test]
fn without_journald_it_is_a_line_in_syslog() {
    let lines: Vec<String> = heard("/dev/log")
        .iter()
        .map(|line| {
            let message = line.strip_prefix("<29>resourcelock[").expect("a priority and a name");
            without_numbers(message.split_once("]: ").expect("a message").1)
        })
        .collect();
    assert_eq!(lines, LINES);
}

/// Nobody reads the log's socket, whose queue is full; or there is none. Neither delays nor fails a job.
#[test]
fn a_log_that_takes_nothing_is_no_matter() {
    let script = r#"mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal
        "$PYTHON" -c 'import socket, sys, time
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); log.bind("/run/systemd/journal/socket")
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); one.setblocking(False)
try:
    while True: one.sendto(b"MESSAGE=full\n", "/run/systemd/journal/socket")
except BlockingIOError: print("full", flush=True)
sys.stdin.read()' < /run/end > /run/said & keeper=$!
        exec 3> /run/end
        until grep -q full /run/said; do sleep 0.01; done
        "$RL" nightly run --syslog -- sh -c 'exit 4'; echo $?
        exec 3>&-; wait $keeper; rm /run/systemd/journal/socket
        "$RL" nightly run --syslog -- sh -c 'exit 5'; echo $?"#;
    let script = script.replacen("mkdir -p", "mkfifo /run/end; mkdir -p", 1);
    let output = in_private_shm(&format!("PYTHON={}\n{script}", python().display()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "4\n5\n");
}

/// The real journald, in mounts of its own and without any service.
#[test]
fn the_real_journald_finds_it_by_its_fields() {
    let script = r#"mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd/journal /run/log/journal/0123456789abcdef0123456789abcdef
        echo 0123456789abcdef0123456789abcdef > /run/machine-id
        mount --bind /run/machine-id /etc/machine-id
        /lib/systemd/systemd-journald 2> /run/said & journald=$!
        tries=0
        until [ -S /run/systemd/journal/socket ]; do
            sleep 0.05; tries=$((tries + 1)); [ $tries -lt 1200 ] || { cat /run/said; kill $journald; exit 1; }
        done
        "$RL" nightly run --syslog -q -- sh -c 'exit 3'
        find() { journalctl -q -D /run/log/journal RESOURCELOCK_NAME=nightly RESOURCELOCK_STATUS=3 -o cat; }
        tries=0
        until find | grep .; do
            sleep 0.05; tries=$((tries + 1)); [ $tries -lt 1200 ] || { cat /run/said; break; }
        done
        kill $journald; wait"#;
    let output = in_private_shm(script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "nightly ended status=3\n");
}
