//! An etcd cluster of one or more servers.

use super::{Process, free_port, remove_at_the_end, signal, wait_until, without_disk};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The versions tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian's, on the PATH.
    System,
    /// 3.5, in the directory that RESOURCELOCK_TEST_ETCD_35 names.
    Newer,
}

impl Version {
    pub const ALL: [Self; 2] = [Self::System, Self::Newer];

    fn program(self, name: &str) -> PathBuf {
        match self {
            Self::System => PathBuf::from(name),
            Self::Newer => {
                let folder = std::env::var_os("RESOURCELOCK_TEST_ETCD_35");
                let folder =
                    folder.expect("RESOURCELOCK_TEST_ETCD_35 names etcd 3.5: run the tests with scripts/test.sh");
                Path::new(&folder).join(name)
            }
        }
    }
}

/// A cluster; stopped and removed on drop.
pub struct Etcd {
    version: Version,
    members: Vec<Member>,
    folder: TempDir,
    secure: Option<Secure>,
    extra: Vec<String>,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Process>,
}

/// The files for TLS.
#[derive(Debug, Clone)]
pub struct Secure {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// True if clients must present a certificate signed by the authority.
    pub clients_too: bool,
}

impl Etcd {
    /// Starts one server, of the system's version.
    pub fn one() -> Self {
        Self::of(Version::System, 1)
    }

    /// Starts three servers.
    pub fn three() -> Self {
        Self::of(Version::System, 3)
    }

    /// Starts `count` servers; returns once they serve.
    pub fn of(version: Version, count: usize) -> Self {
        Self::with(version, count, None, &[])
    }

    /// The same with more settings.
    pub fn with(version: Version, count: usize, secure: Option<Secure>, extra: &[&str]) -> Self {
        let member = |_| Member {
            client: free_port(),
            peer: free_port(),
            process: None,
        };
        let mut etcd = Self {
            version,
            members: (0..count).map(member).collect(),
            folder: tempfile::Builder::new()
                .prefix("resourcelock-etcd-")
                .tempdir()
                .expect("a folder"),
            secure,
            extra: extra.iter().map(|word| (*word).to_owned()).collect(),
        };
        for i in 0..count {
            etcd.start(i);
        }
        etcd.wait_ready();
        etcd
    }

    /// A server shared by tests that leave it as it is; it ends with this program.
    pub fn shared(version: Version) -> &'static Self {
        static SYSTEM: OnceLock<Etcd> = OnceLock::new();
        static NEWER: OnceLock<Etcd> = OnceLock::new();
        let server = match version {
            Version::System => &SYSTEM,
            Version::Newer => &NEWER,
        };
        server.get_or_init(|| {
            let etcd = Self::of(version, 1);
            remove_at_the_end(etcd.folder.path(), etcd.members[0].process.as_ref().map(Process::id));
            etcd
        })
    }

    /// Restarts a server that was killed.
    pub fn start(&mut self, i: usize) {
        let peers = |member: &Member| format!("http://127.0.0.1:{}", member.peer);
        let cluster = self.members.iter().enumerate();
        let cluster: Vec<String> = cluster.map(|(n, member)| format!("m{n}={}", peers(member))).collect();
        let member = &self.members[i];
        let scheme = if self.secure.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", member.client);
        let mut command = Command::new(self.version.program("etcd"));
        command
            .arg(format!("--name=m{i}"))
            .arg(format!("--data-dir={}", self.data(i).display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={}", peers(member)))
            .arg(format!("--initial-advertise-peer-urls={}", peers(member)))
            .arg(format!("--initial-cluster={}", cluster.join(",")))
            .args(["--heartbeat-interval=100", "--election-timeout=500"])
            .args(["--logger=zap", "--log-level=error"])
            .args(&self.extra)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        if let Some(secure) = &self.secure {
            command.arg(format!("--cert-file={}", secure.certificate.display()));
            command.arg(format!("--key-file={}", secure.key.display()));
            if secure.clients_too {
                command.arg("--client-cert-auth");
                command.arg(format!("--trusted-ca-file={}", secure.authority.display()));
            }
        }
        let log = self.folder.path().join(format!("m{i}.log"));
        // Benchmarks measure what it does in use.
        if cfg!(test) {
            command = without_disk(&command);
        }
        self.members[i].process = Some(Process::start(&mut command, &log));
    }

    fn data(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("m{i}"))
    }

    /// Deletes the data of a server that was killed.
    pub fn forget(&self, i: usize) {
        std::fs::remove_dir_all(self.data(i)).expect("it can be removed");
    }

    /// Waits until reads and writes work.
    pub fn wait_ready(&mut self) {
        wait_until("etcd serves", || {
            for (i, member) in self.members.iter_mut().enumerate() {
                if member.process.as_mut().is_some_and(Process::has_ended) {
                    let log = self.folder.path().join(format!("m{i}.log"));
                    panic!("etcd has exited: {}", std::fs::read_to_string(log).unwrap_or_default());
                }
            }
            // Asking whether it listens costs next to nothing, starting etcdctl does not.
            let listens = |i| TcpStream::connect(self.endpoint(i)).is_ok();
            if !(0..self.members.len()).all(|i| self.members[i].process.is_none() || listens(i)) {
                return false;
            }
            let mut command = self.etcdctl(&["endpoint", "health"]);
            command.output().is_ok_and(|output| output.status.success())
        });
    }

    /// Kills one server (SIGKILL).
    pub fn kill(&mut self, i: usize) {
        self.members[i].process = None;
    }

    /// Waits until a server that was asked to stop has exited.
    pub fn wait_end(&mut self, i: usize) {
        if let Some(mut process) = self.members[i].process.take() {
            wait_until("it has exited", || process.has_ended());
        }
    }

    /// Kills all servers (SIGKILL).
    pub fn kill_all(&mut self) {
        for member in &mut self.members {
            member.process = None;
        }
    }

    /// Stops (STOP) or continues (CONT) all servers.
    pub fn signal_all(&self, name: &str) {
        for process in self.members.iter().filter_map(|member| member.process.as_ref()) {
            signal(process.id(), name);
        }
    }

    /// The same for one server.
    pub fn signal(&self, i: usize, name: &str) {
        signal(self.members[i].process.as_ref().expect("it runs").id(), name);
    }

    /// The leader's index.
    pub fn leader(&self) -> usize {
        let mut found = None;
        wait_until("there is a leader", || {
            found = (0..self.members.len()).find(|&i| self.leads(i));
            found.is_some()
        });
        found.expect("it was found")
    }

    fn leads(&self, i: usize) -> bool {
        let mut command = self.etcdctl_at(&self.endpoint(i), &["endpoint", "status", "--write-out=json"]);
        let output = command.output().expect("etcdctl runs");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let status = &status[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    /// One server's `host:port`.
    pub fn endpoint(&self, i: usize) -> String {
        format!("127.0.0.1:{}", self.members[i].client)
    }

    /// Where it listens for other members.
    pub fn peer_endpoint(&self, i: usize) -> String {
        format!("127.0.0.1:{}", self.members[i].peer)
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> = (0..self.members.len()).map(|i| self.endpoint(i)).collect();
        all.join(",")
    }

    /// `etcd://…`, or `etcds://…`.
    pub fn url(&self) -> String {
        self.url_of(&self.endpoints())
    }

    /// The same with other hosts, through which the servers can be reached.
    pub fn url_of(&self, hosts: &str) -> String {
        let scheme = if self.secure.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://{hosts}")
    }

    /// The same with a user.
    pub fn url_as(&self, user: &str) -> String {
        self.url_of(&format!("{user}@{}", self.endpoints()))
    }

    /// `etcdctl …` for this cluster.
    pub fn etcdctl(&self, arguments: &[&str]) -> Command {
        self.etcdctl_at(&self.endpoints(), arguments)
    }

    fn etcdctl_at(&self, endpoints: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.version.program("etcdctl"));
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={endpoints}")).args(arguments);
        if let Some(secure) = &self.secure {
            command.arg(format!("--cacert={}", secure.authority.display()));
            command.arg(format!("--cert={}", secure.certificate.display()));
            command.arg(format!("--key={}", secure.key.display()));
        }
        command
    }

    /// The keys of a lock, in the order of their creation.
    pub fn keys_of(&self, name: &str) -> Vec<String> {
        let keys = self.ctl(&[
            "get",
            "--prefix",
            &format!("{name}/"),
            "--sort-by=CREATE",
            "--keys-only",
        ]);
        let keys = keys.lines().filter(|line| !line.is_empty());
        keys.map(str::to_owned).collect()
    }

    /// The lease of a lock's first key, in hexadecimal.
    pub fn lease_of(&self, name: &str) -> String {
        let key = &self.keys_of(name)[0];
        key.rsplit('/').next().expect("a lease").to_owned()
    }

    /// Runs `etcdctl`, which must succeed, and returns what it printed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl(arguments).output().expect("etcdctl runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "etcdctl {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
