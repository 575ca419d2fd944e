//! Real servers for the tests of engines: started on loopback, each with a free port and its own directory; stopped and
//! removed on drop.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code, unused_imports)]

// Some programs have `common` beside this module, others not.
#[allow(clippy::duplicate_mod)]
#[path = "../common/asked.rs"]
mod asked;
pub mod busy;
#[cfg(feature = "tls")]
pub mod certificates;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub mod hang;
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub mod journal;
#[allow(clippy::duplicate_mod)]
#[path = "../common/launched.rs"]
mod launched;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub mod relay;
#[allow(clippy::duplicate_mod)]
#[path = "../common/sandbox.rs"]
mod sandbox;

use asked::patience;
use launched::behind;
use sandbox::Call;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Polls until `condition` holds.
///
/// # Panics
/// If it does not hold within [`patience`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    // Poll less and less often: many conditions start a process.
    let mut pause = Duration::from_millis(2);
    while !condition() {
        assert!(start.elapsed() < patience(), "waited in vain until {what}");
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// A port of 127.0.0.1 on which nobody listens, and which stays free unless another program picks it as we do: it is
/// not one that the kernel gives to connections, which could occupy it by the time a server is started or restarted.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const LOWEST: u32 = 10_000;
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest_given = given.split_whitespace().next().and_then(|low| low.parse().ok());
    let count = lowest_given.filter(|low| *low > LOWEST + 1000).unwrap_or(32_768) - LOWEST;
    // Programs that run at the same time start searching at different places.
    let first = std::process::id().wrapping_mul(101);
    for _ in 0..count {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(LOWEST + number).expect("it is below 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {LOWEST} on is free")
}

/// A lock name that no other test uses.
pub fn lock_name(subject: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test-engine-{subject}-{}-{number}", std::process::id())
}

/// Removes a folder once this program has ended, however it ends, and the process `pid`, a server that ends with it, is
/// gone, too: what a static variable owns is not dropped.
pub fn remove_at_the_end(folder: &std::path::Path, pid: Option<u32>) {
    static JANITORS: std::sync::Mutex<Vec<Child>> = std::sync::Mutex::new(Vec::new());
    let script = "cat; while [ \"$1\" != 0 ] && kill -0 \"$1\"; do sleep 0.1; done; rm -rf \"$0\"";
    let mut janitor = Command::new("setsid");
    janitor
        .args(["sh", "-c", script])
        .arg(folder)
        .arg(pid.unwrap_or(0).to_string());
    janitor
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let janitor = janitor.spawn().expect("setsid runs");
    // Its input ends with this program, which alone has the other end.
    JANITORS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .push(janitor);
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success(), "kill -{name} {pid}");
}

/// `command`, a server's, except that it does not wait for the disk. Tests kill only processes, never the machine, so nothing is
/// lost; what else is written there, such as a build, could delay a request for seconds.
pub fn without_disk(command: &Command) -> Command {
    const WAITS: [Call; 2] = [
        Call::any("fsync", libc::SYS_fsync),
        Call::any("fdatasync", libc::SYS_fdatasync),
    ];
    let [one, other] = WAITS;
    one.left_out(&other.left_out(command))
}

type Order = (Command, std::sync::mpsc::Sender<std::io::Result<Child>>);

/// Starts a process from a thread that lives as long as this program: a child that is to die with its parent dies when
/// the thread that started it ends.
fn nursery(command: Command) -> std::io::Result<Child> {
    static ORDERS: std::sync::OnceLock<std::sync::mpsc::Sender<Order>> = std::sync::OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, taken) = std::sync::mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = std::sync::mpsc::channel();
    orders.send((command, answer)).expect("the thread lives");
    child.recv().expect("the thread answers")
}

/// A server process; killed and reaped on drop.
pub struct Process(pub Child);

impl Process {
    /// Starts it without standard input; its output goes to `log`. However this test program ends, it is killed.
    pub fn start(command: &mut Command, log: &std::path::Path) -> Self {
        let log = std::fs::File::create(log).expect("a log can be made");
        let output = log.try_clone().expect("a descriptor is free");
        let mut launcher = vec!["setpriv", "--pdeathsig", "KILL"];
        // As if it had a machine to itself, where it never waits for the tests. (Without the right to, nice says so and goes
        // on.) In benchmarks all are equal.
        if cfg!(test) {
            launcher.extend(["nice", "-n", "-10"]);
        }
        let mut bound = behind(&launcher, command);
        bound.stdin(Stdio::null()).stdout(output).stderr(log);
        Self(
            nursery(bound)
                .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test.sh installs what these tests need")),
        )
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// True if it has exited by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it can be waited for").is_some()
    }

    /// Sends SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
