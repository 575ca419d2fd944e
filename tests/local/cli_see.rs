//! `state`, `trace`, `history`, `list`, `remove`, `doctor`: what people see.

use crate::common::{LineChild, Peer, TestLock, in_private_shm, printed_in_private_shm, private_shm, wait_until};
use std::fs;
use std::process::{Command, Output};

fn run(lock: &TestLock, arguments: &[&str]) -> Output {
    lock.command(arguments).output().expect("the program runs")
}

fn text(lock: &TestLock, arguments: &[&str]) -> String {
    String::from_utf8(run(lock, arguments).stdout).expect("UTF-8")
}

fn status(lock: &TestLock, arguments: &[&str]) -> i32 {
    run(lock, arguments).status.code().expect("it exits")
}

#[test]
fn looking_creates_nothing() {
    let lock = TestLock::new("look");
    let free = format!("{}: free (never used)\n", lock.name());
    assert_eq!(text(&lock, &["state"]), free);
    assert_eq!(status(&lock, &["state", "-q"]), 1);
    assert_eq!(text(&lock, &["unget"]), format!("{}: was not taken\n", lock.name()));
    assert_eq!(text(&lock, &["history"]).lines().count(), 1);
    assert_eq!(status(&lock, &["trace", "-f"]), 125);
    assert_eq!(
        text(&lock, &["remove"]),
        format!("{}: there is no such lock\n", lock.name())
    );
    assert!(lock.objects().is_empty());
}

#[test]
fn state_says_who_has_it_and_who_waits() {
    let lock = TestLock::new("state");
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "600", "-m", "bus scan"]));
    keeper.line();
    let mut waiters = Vec::new();
    for place in 1..=2 {
        waiters.push(LineChild::spawn(&mut lock.command(&["get", "-t", "-1", "-q"])));
        wait_until("it waits", || lock.state().waiters.len() == place);
    }
    let state = text(&lock, &["state"]);
    for part in [
        format!("{}: locked for ", lock.name()),
        format!("held by    {} (resourcelock, ", keeper.id()),
        format!("waiting    1. {} (", waiters[0].id()),
        format!("           2. {} (", waiters[1].id()),
        " - bus scan\n".to_owned(),
    ] {
        assert!(state.contains(&part), "{part}: {state}");
    }
    assert!(!state.contains('\u{1b}'), "colour in a pipe: {state}");
    assert_eq!(status(&lock, &["state", "-q"]), 0);
    assert!(text(&lock, &["state", "-q"]).is_empty());
    let refusal = String::from_utf8(run(&lock, &["get", "-n"]).stderr).expect("UTF-8");
    assert!(refusal.contains("; 2 waiting; "), "{refusal}");
    keeper.kill();
    keeper.wait();
    assert!(waiters[0].wait().success());
    assert_eq!(status(&lock, &["unget"]), 0);
    assert!(waiters[1].wait().success());
}

#[test]
fn a_dead_holder_counts_as_free() {
    let lock = TestLock::new("dead");
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "600"]));
    keeper.line();
    keeper.kill();
    keeper.wait();
    let state = text(&lock, &["state"]);
    assert!(
        state.contains("free (its holder died") && state.contains(", DEAD"),
        "{state}"
    );
    assert_eq!(status(&lock, &["state", "-q"]), 1);
    assert_eq!(status(&lock, &["get", "-n"]), 0);
    let after = text(&lock, &["state"]);
    assert!(after.contains("abandoned "), "{after}");
}

#[test]
fn the_python_module_is_named_as_a_holder() {
    let lock = TestLock::new("foreign");
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(5.0), "py job"));
    let state = text(&lock, &["state"]);
    assert!(
        state.contains("held by    a program that uses the Python module"),
        "{state}"
    );
    assert!(state.contains(" - py job\n"), "{state}");
    assert_eq!(status(&lock, &["state", "-q"]), 0);
}

#[test]
fn colours_only_for_those_who_see_them() {
    let lock = TestLock::new("colour");
    // script(1) gives the program a terminal.
    let on_terminal = |environment: &str| {
        let program = lock.command(&["state"]).get_program().to_owned();
        let line = format!("env {environment} {} {} state", program.display(), lock.name());
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .output()
            .expect("script runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(status(&lock, &["get"]), 0);
    assert!(on_terminal("-u NO_COLOR TERM=xterm").contains("\u{1b}[31mlocked"));
    assert!(!on_terminal("NO_COLOR=1 TERM=xterm").contains('\u{1b}'));
    assert!(!on_terminal("-u NO_COLOR TERM=dumb").contains('\u{1b}'));
}

#[test]
fn trace_goes_on_until_interrupted() {
    let lock = TestLock::new("trace");
    for signal in ["INT", "TERM"] {
        let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-u", "0.01"]));
        assert!(trace.line().ends_with(&format!(" {}: free (never used)", lock.name())));
        assert_eq!(status(&lock, &["get", "-m", "traced"]), 0);
        // The note comes a moment after the grant.
        while !trace.line().ends_with(" - traced") {}
        assert_eq!(status(&lock, &["remove", "--force"]), 0);
        let killed = Command::new("kill")
            .args(["-s", signal, &trace.id().to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        assert_eq!(trace.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn followed_events_have_their_times() {
    let lock = TestLock::new("follow");
    drop(lock.open());
    let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f"]));
    wait_until("it follows", || {
        assert_eq!(status(&lock, &["get", "-q"]), 0);
        assert_eq!(status(&lock, &["unget", "-q"]), 0);
        trace.try_line().is_some()
    });
    // A hold that it sees: of one that is already over, the table no longer says that it was a 'get'.
    assert_eq!(status(&lock, &["get", "-q"]), 0);
    let token = lock.state().holders[0].token.expect("it has a token");
    let token = format!(" token {token},");
    let granted =
        std::iter::repeat_with(|| trace.line()).find(|line| line.contains(" granted ") && line.contains(&token));
    let granted = granted.expect("a line");
    let (clock, event) = granted.split_once(' ').expect("two words");
    assert_eq!(clock.len(), "12:34:56.123456".len(), "{granted}");
    assert!(event.starts_with("granted   'get' from "), "{granted}");
    let killed = Command::new("kill")
        .args(["-s", "INT", &trace.id().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    assert_eq!(trace.wait().code(), Some(0));
}

/// However fast holds end, each end is reported, or counted as missed.
#[test]
fn no_event_is_lost_silently() {
    const GRANTS: u64 = 20_000;
    let lock = TestLock::new("fast");
    let handle = lock.open();
    let once = || {
        let options = resourcelock::GetOptions::new().wait(resourcelock::Wait::No);
        let guard = handle.acquire_with(&options).expect("no error").expect("it is free");
        let token = guard.token();
        assert!(guard.release().expect("no error"));
        token
    };
    let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f", "--json"]));
    wait_until("it follows", || {
        once();
        trace.try_line().is_some()
    });
    let before = once();
    let last = (0..GRANTS).fold(before, |_, _| once());
    let (mut told, mut missed, mut latest) = (0, 0, 0);
    while latest < last {
        let event: serde_json::Value = serde_json::from_str(&trace.line()).expect("JSON");
        missed += event["missed"].as_u64().unwrap_or(0);
        if let Some(token) = event["record"]["token"].as_u64() {
            assert!(token > latest, "{token} after {latest}");
            latest = token;
            told += u64::from(token > before);
        }
    }
    println!("{told} told, {missed} missed");
    assert!(
        told <= GRANTS && told + missed >= GRANTS,
        "{told} told, {missed} missed of {GRANTS}"
    );
}

#[test]
fn history_is_a_table_and_a_picture() {
    let lock = TestLock::new("history");
    let folder = tempfile::tempdir().expect("a folder");
    let (svg, html) = (folder.path().join("a.svg"), folder.path().join("a.html"));
    let (svg_path, html_path) = (svg.to_str().expect("UTF-8"), html.to_str().expect("UTF-8"));
    let pictures = ["history", "--svg", svg_path, "--html", html_path];
    assert_eq!(status(&lock, &pictures), 0);
    assert!(
        fs::read_to_string(&svg)
            .expect("written")
            .contains("nothing has happened yet")
    );
    assert_eq!(status(&lock, &["get", "-a", "0.02", "-q"]), 0);
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "600"]));
    keeper.line();
    let mut waiter = LineChild::spawn(&mut lock.command(&["get", "-t", "-1", "-q"]));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    keeper.kill();
    keeper.wait();
    assert!(waiter.wait().success());
    let table = text(&lock, &["history"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(
        rows[0].starts_with("ENDED") && rows[1].contains(" released ") && rows[2].contains(" abandoned "),
        "{table}"
    );
    assert_eq!(status(&lock, &pictures), 0);
    let picture = fs::read_to_string(&svg).expect("written");
    for part in [
        "abandoned: its process died",
        "url(#waiting)",
        "still holding",
        &format!("resourcelock {}", keeper.id()),
    ] {
        assert!(picture.contains(part), "{part}: {picture}");
    }
    assert_eq!(picture.matches("<g class=\"request\">").count(), 3);
    let page = fs::read_to_string(&html).expect("written");
    assert!(page.contains("<svg") && page.contains("<li>") && page.starts_with("<!DOCTYPE html>"));
    assert_eq!(status(&lock, &["history", "--svg", "/nonexistent/a.svg"]), 125);
    assert!(text(&lock, &["history", "--svg", "-"]).starts_with("<?xml"));
}

#[test]
fn a_picture_of_256_grants_is_well_formed() {
    let lock = TestLock::new("many");
    let handle = lock.open();
    for number in 0..300 {
        let command = format!("<&\"'{}", number % 7);
        let options = resourcelock::GetOptions::new()
            .command(&command)
            .wait(resourcelock::Wait::No);
        assert!(
            handle
                .acquire_with(&options)
                .expect("no error")
                .expect("it is free")
                .release()
                .expect("no error")
        );
    }
    let picture = text(&lock, &["history", "--svg", "-"]);
    assert_eq!(picture.matches("<g class=\"request\">").count(), 256);
    // Python's parser checks that.
    let mut python = LineChild::spawn(Command::new(crate::common::peer::python()).args([
        "-c",
        "import sys, xml.dom.minidom as m; d = m.parseString(sys.stdin.buffer.read());\
         print(len(d.getElementsByTagName('g')), len({t.firstChild.data for t in d.getElementsByTagName('text')\
          if t.getAttribute('class') == 'row'}))",
    ]));
    python.send(&picture);
    python.close_input();
    assert_eq!(python.line(), "256 7", "requests, and rows");
}

#[test]
fn remove_takes_idle_locks_only() {
    let lock = TestLock::new("remove");
    assert_eq!(status(&lock, &["get"]), 0);
    let refused = run(&lock, &["remove"]);
    assert_eq!(refused.status.code(), Some(125));
    let line = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(
        line.contains("not removed: held by") && line.lines().count() == 1,
        "{line}"
    );
    assert_eq!(lock.objects().len(), 3);
    assert_eq!(status(&lock, &["unget"]), 0);
    assert_eq!(text(&lock, &["remove"]), format!("{}: removed\n", lock.name()));
    assert!(lock.objects().is_empty());
    assert_eq!(status(&lock, &["get"]), 0);
    assert_eq!(status(&lock, &["remove", "--force"]), 0);
    assert!(lock.objects().is_empty());
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(5.0), ""));
    assert_eq!(status(&lock, &["remove"]), 125);
}

#[test]
fn list_is_sorted_and_aligned() {
    let list = printed_in_private_shm(
        "$RL zebra get -q -m 'last one'; $RL ant get -q; $RL ant unget -q; $RL ant-eater get -q -s; $RL list",
    );
    let rows: Vec<&str> = list.lines().collect();
    assert_eq!(rows.len(), 4, "{list}");
    let starts: Vec<&str> = rows.iter().map(|row| row.split("  ").next().expect("a word")).collect();
    assert_eq!(starts, ["LOCK", "ant", "ant-eater", "zebra"]);
    let column = rows[0].find("STATE").expect("a heading");
    assert!(rows[1][column..].starts_with("free"), "{list}");
    assert!(rows[2][column..].starts_with("shared"), "{list}");
    assert!(
        rows[3][column..].starts_with("locked") && rows[3].ends_with("last one"),
        "{list}"
    );
    assert_eq!(printed_in_private_shm("$RL list").lines().count(), 1);
}

#[test]
fn list_fits_the_terminal() {
    let list = printed_in_private_shm(
        "$RL long get -q -m \"$(printf '%0200d' 7)\"
         COLUMNS=60 script -qec \"$RL list\" /dev/null; $RL list",
    );
    let rows: Vec<&str> = list.lines().map(|row| row.trim_end_matches('\r')).collect();
    assert_eq!(rows.len(), 4, "{list}");
    assert_eq!(rows[1].chars().count(), 60, "{list}");
    assert!(rows[1].ends_with('…'), "{list}");
    assert!(rows[3].ends_with("0007"), "{list}");
}

#[test]
fn metrics_have_the_text_format() {
    let metrics = printed_in_private_shm(
        "for name in 'we\"ird\\name' idle; do $RL \"$name\" run -- true; done
         $RL 'we\"ird\\name' get -q; $RL idle get -q; $RL idle unget -q; $RL idle get -q; $RL idle get -nq; $RL list --prometheus",
    );
    let mut described = std::collections::HashSet::new();
    let mut samples = 0;
    for line in metrics.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(
                described.insert(help.split(' ').next().expect("a name").to_owned()),
                "{line}"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(described.contains(name), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let name = name.split('{').next().unwrap_or_default();
            assert!(described.contains(name), "{line}");
            value.parse::<f64>().expect("a number");
            samples += 1;
        }
    }
    assert_eq!(samples, 2 * (described.len() - 1) + 1, "{metrics}");
    for line in [
        "resourcelock_other_locks 0",
        "resourcelock_held{lock=\"we\\\"ird\\\\name\"} 1",
        "resourcelock_acquisitions_total{lock=\"idle\"} 3",
        "resourcelock_conflicts_total{lock=\"idle\"} 1",
        "resourcelock_timeouts_total{lock=\"idle\"} 1",
        "resourcelock_consecutive_timeouts{lock=\"idle\"} 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}: {metrics}");
    }
}

#[test]
fn doctor_finds_and_mends() {
    let python = crate::common::peer::python();
    let script = format!(
        "$RL dead get -q -a 600 & sleep_pid=$!
         while ! $RL dead state -q; do :; done
         kill -9 $sleep_pid; wait $sleep_pid 2>/dev/null
         $RL high get -q; $RL high unget -q
         {python} -c \"import posix_ipc; posix_ipc.Semaphore('/high').release()\"
         $RL fine get -q; $RL fine unget -q
         $RL open get -q; chmod 644 /dev/shm/sem.open
         cp /dev/shm/resourcelock3.fine /dev/shm/resourcelock7.other; cp /dev/shm/resourcelock3.fine \"/dev/shm/resourcelock.first one\"
         $RL doctor; echo status $?; echo ------; $RL doctor --fix; echo status $?; echo ------; $RL doctor
         $RL dead state -q || echo dead is free; $RL high state | grep value || echo value is right",
        python = python.display()
    );
    let output = printed_in_private_shm(&script);
    let parts: Vec<&str> = output.split("------\n").collect();
    for part in [
        "dead: ",
        " died holding it\n",
        "high: its semaphore is at 2\n",
        "open: /dev/shm/open is 600 of user ",
        "other: /dev/shm/resourcelock7.other is the table of another version",
        "first one: /dev/shm/resourcelock.first one is the table of another version",
        "delete it: rm '/dev/shm/resourcelock.first one'",
        "status 1\n",
    ] {
        assert!(parts[0].contains(part), "{part}: {}", parts[0]);
    }
    assert!(!parts[0].contains("fine: "), "{}", parts[0]);
    assert_eq!(parts[1].matches(" (mended)").count(), 2, "{}", parts[1]);
    assert!(
        !parts[2].contains(" died holding it\n") && !parts[2].contains("semaphore is at"),
        "{}",
        parts[2]
    );
    assert!(parts[2].contains("no command has ended well since"), "{}", parts[2]);
    assert!(parts[2].ends_with("dead is free\nvalue is right\n"), "{}", parts[2]);
}

/// As on a Raspberry Pi with a 64-bit kernel and a 32-bit system.
#[test]
fn doctor_notes_a_32_bit_system() {
    let root = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs tmpfs $ROOT && cd $ROOT && mkdir -p lib lib64 dev/shm || exit
        mount --bind /dev/shm dev/shm && : > program && mount --bind $RL program || exit
        : > lib/ld-linux.so.2; : > lib/ld-linux-armhf.so.3; chroot . /program doctor; echo status $?
        : > lib64/ld-linux-x86-64.so.2; : > lib/ld-linux-aarch64.so.1; chroot . /program doctor";
    let output = private_shm(script).env("ROOT", root.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (narrow, both) = said.split_once("status 0\n").expect(&said);
    assert!(
        narrow.contains("note: other programs here are 32-bit: there is /lib/ld-linux"),
        "{said}"
    );
    assert!(!both.is_empty() && !both.contains("32-bit"), "{said}");
}

#[test]
fn doctor_finds_a_cycle() {
    let output = in_private_shm(
        "$RL a run -- sh -c 'until $RL b state -q; do :; done; $RL b run -q -- true' & one=$!
         $RL b run -- sh -c 'until $RL a state -q; do :; done; $RL a run -q -- true' & two=$!
         until $RL a state | grep -q waiting && $RL b state | grep -q waiting; do :; done
         $RL doctor; kill $one $two; wait",
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        text.contains(" holds a and waits for b; ") && text.contains(" holds b and waits for a"),
        "{text}"
    );
    assert!(text.contains("none of them can continue"), "{text}");
}
