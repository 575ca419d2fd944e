//! Three hosts on one machine, named `one`, `two` and `three`: each has its own network, host name, processes and
//! /dev/shm, and an address, `10.77.0.1` to `10.77.0.3`, on a common wire. The test itself is on that wire, too, as
//! `db` (`10.77.0.100`).
//!
//! All this is made of namespaces private to a test, which runs itself a second time inside them. So names and ports
//! are the same in every test, and when the test ends, however that happens, the kernel ends everything started in
//! there.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code)]

use crate::common::once_more;
use crate::common::run::behind;
use crate::engine_common::wait_until;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Set when the test runs the second time, inside.
const INSIDE: &str = "RESOURCELOCK_TEST_INSIDE";

/// The hosts' names.
pub const NAMES: [&str; 3] = ["one", "two", "three"];

/// The test's own address.
pub const DB: &str = "10.77.0.100";

/// All addresses on the wire.
pub const NETWORK: &str = "10.77.0.0/24";

/// The address of a host.
pub fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

/// Runs `body` on a new island. `test` is the calling test's name.
///
/// # Panics
/// If `body` does, or if there are neither root privileges nor a passwordless sudo.
pub fn inside(test: &str, body: impl FnOnce(&mut Island)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&mut Island::new());
    }
    once_more(namespaces(test), test);
}

/// `unshare …`: the command appended runs as root in new namespaces, and is killed when the caller exits.
fn namespaces(test: &str) -> Command {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.args(["-n", "env"]);
        // Variables that sudo does not pass on.
        let wanted = |name: &str| name == "PATH" || name.starts_with("RESOURCELOCK_TEST_");
        let variables = std::env::vars().filter(|(name, _)| wanted(name));
        command.args(variables.map(|(name, value)| format!("{name}={value}")));
    }
    command.arg(format!("{INSIDE}={test}"));
    command.args([
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--mount",
        "--uts",
        "--ipc",
    ]);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Runs a command that must succeed.
fn done(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test.sh installs what these tests need"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn ip(words: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(words);
    command
}

/// The wire and the hosts on it.
pub struct Island {
    pub hosts: [Host; 3],
}

/// How a host is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its address is removed.
    Address,
    /// Its link is taken down.
    Link,
}

impl Island {
    fn new() -> Self {
        done(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"]));
        let names = "/dev/shm/names";
        let own = NAMES
            .iter()
            .enumerate()
            .map(|(i, name)| format!("{} {name}\n", address(i)));
        let own: String = own.collect();
        std::fs::write(names, format!("127.0.0.1 localhost\n{own}{DB} db\n")).expect("a file");
        done(Command::new("mount").args(["--bind", names, "/etc/hosts"]));
        done(&mut ip(&["link", "set", "lo", "up"]));
        // A fixed hardware address: by default a bridge has that of one of its ports, which changes when another port
        // is added; then hosts that looked it up before would send to the old one for a while.
        done(&mut ip(&[
            "link",
            "add",
            "wire",
            "address",
            "02:00:00:00:00:64",
            "type",
            "bridge",
            "forward_delay",
            "0",
        ]));
        done(&mut ip(&["address", "add", &format!("{DB}/24"), "dev", "wire"]));
        done(&mut ip(&["link", "set", "wire", "up"]));
        Self {
            hosts: [0, 1, 2].map(Host::start),
        }
    }
}

/// A host. It and all that runs on it are killed on drop.
pub struct Host {
    number: usize,
    first: Child,
    /// Its first process, as the test sees it.
    pid: u32,
}

impl Host {
    fn start(number: usize) -> Self {
        let name = NAMES[number];
        let script = format!(
            "mount -t tmpfs -o mode=1777 tmpfs /dev/shm && hostname {name} && ip link set lo up && echo up
            # The first process of a host also sees to those whose parents have gone.
            sleep infinity & wait"
        );
        let mut first = namespaces("")
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        let mut printed = BufReader::new(first.stdout.take().expect("it is piped"));
        printed.read_line(&mut line).expect("it can be read");
        assert_eq!(line, "up\n", "host {name} comes up");
        // The process started is `unshare`; its child is the host's first process.
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let children = std::fs::read_to_string(children).expect("it lives");
        let pid = children.trim().parse().expect("it has one child");
        let host = Self { number, first, pid };
        let port = format!("port{number}");
        done(ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns"]).arg(pid.to_string()));
        done(&mut ip(&["link", "set", &port, "master", "wire", "up"]));
        host.connect();
        host
    }

    fn ip(&self, words: &[&str]) {
        let mut command = Command::new("ip");
        command.args(words);
        done(&mut self.enter(&command));
    }

    /// Connects it to the wire, perhaps again.
    pub fn connect(&self) {
        self.ip(&["link", "set", "eth0", "up"]);
        self.ip(&[
            "address",
            "replace",
            &format!("{}/24", address(self.number)),
            "dev",
            "eth0",
        ]);
        wait_until("the host can be reached", || {
            let ping = Command::new("bash")
                .args(["-c", &format!("exec 3<>/dev/tcp/{}/9", address(self.number))])
                .stderr(Stdio::piped())
                .output();
            // The host itself says that nobody listens there.
            ping.is_ok_and(|ping| String::from_utf8_lossy(&ping.stderr).contains("refused"))
        });
    }

    /// Disconnects it from the wire.
    pub fn cut(&self, how: Cut) {
        match how {
            Cut::Address => self.ip(&["address", "del", &format!("{}/24", address(self.number)), "dev", "eth0"]),
            Cut::Link => self.ip(&["link", "set", "eth0", "down"]),
        }
    }

    /// The same command, to be run on this host.
    pub fn enter(&self, command: &Command) -> Command {
        let pid = self.pid.to_string();
        let launcher = [
            "nsenter", "--target", &pid, "--net", "--mount", "--uts", "--ipc", "--pid", "--",
        ];
        behind(&launcher, command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}
