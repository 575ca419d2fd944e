//! etcd, one server or several.

use super::{Process, free_port, signal, wait_until};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A cluster of its own.
pub struct Etcd {
    program: PathBuf,
    members: Vec<Member>,
    folder: TempDir,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Process>,
}

impl Etcd {
    /// Starts one server of the system's version.
    pub fn one() -> Self {
        Self::of("etcd", 1)
    }

    /// Starts three servers.
    pub fn three() -> Self {
        Self::of("etcd", 3)
    }

    /// Starts `count` servers of `program`; returns when they serve.
    pub fn of(program: impl Into<PathBuf>, count: usize) -> Self {
        let member = |_| Member {
            client: free_port(),
            peer: free_port(),
            process: None,
        };
        let mut etcd = Self {
            program: program.into(),
            members: (0..count).map(member).collect(),
            folder: tempfile::Builder::new()
                .prefix("resourcelock-etcd-")
                .tempdir()
                .expect("a folder"),
        };
        for i in 0..count {
            etcd.start(i);
        }
        etcd.wait_ready();
        etcd
    }

    /// Starts a server again that was killed.
    pub fn start(&mut self, i: usize) {
        let peers = |member: &Member| format!("http://127.0.0.1:{}", member.peer);
        let cluster = self.members.iter().enumerate();
        let cluster: Vec<String> = cluster.map(|(n, member)| format!("m{n}={}", peers(member))).collect();
        let member = &self.members[i];
        let client = format!("http://127.0.0.1:{}", member.client);
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--name=m{i}"))
            .arg(format!(
                "--data-dir={}",
                self.folder.path().join(format!("m{i}")).display()
            ))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={}", peers(member)))
            .arg(format!("--initial-advertise-peer-urls={}", peers(member)))
            .arg(format!("--initial-cluster={}", cluster.join(",")))
            .args(["--heartbeat-interval=100", "--election-timeout=500"])
            .args(["--logger=zap", "--log-level=error"])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        let log = self.folder.path().join(format!("m{i}.log"));
        self.members[i].process = Some(Process::start(&mut command, &log));
    }

    /// Until reads and writes work.
    pub fn wait_ready(&self) {
        wait_until("etcd serves", || {
            let mut command = self.etcdctl(&["endpoint", "health"]);
            command.output().is_ok_and(|output| output.status.success())
        });
    }

    /// SIGKILL for one server.
    pub fn kill(&mut self, i: usize) {
        self.members[i].process = None;
    }

    /// SIGKILL for all.
    pub fn kill_all(&mut self) {
        for member in &mut self.members {
            member.process = None;
        }
    }

    /// Stops (STOP) or continues (CONT) all.
    pub fn signal_all(&self, name: &str) {
        for process in self.members.iter().filter_map(|member| member.process.as_ref()) {
            signal(process.id(), name);
        }
    }

    /// Index of the leader.
    pub fn leader(&self) -> usize {
        let mut found = None;
        wait_until("there is a leader", || {
            found = (0..self.members.len()).find(|&i| self.leads(i));
            found.is_some()
        });
        found.expect("it was found")
    }

    fn leads(&self, i: usize) -> bool {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args([
            &format!("--endpoints={}", self.endpoint(i)),
            "endpoint",
            "status",
            "--write-out=json",
        ]);
        let output = command.output().expect("etcdctl runs");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let status = &status[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    fn endpoint(&self, i: usize) -> String {
        format!("127.0.0.1:{}", self.members[i].client)
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> = (0..self.members.len()).map(|i| self.endpoint(i)).collect();
        all.join(",")
    }

    /// `etcd://…`.
    pub fn url(&self) -> String {
        format!("etcd://{}", self.endpoints())
    }

    /// The same with a user.
    pub fn url_as(&self, user: &str) -> String {
        format!("etcd://{user}@{}", self.endpoints())
    }

    /// `etcdctl …` for this cluster.
    pub fn etcdctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", self.endpoints())).args(arguments);
        command
    }

    /// What `etcdctl` printed; it has to succeed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl(arguments).output().expect("etcdctl runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "etcdctl {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
