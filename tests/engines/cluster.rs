//! etcd on the three hosts, each configured by the same environment variables, with its own names in them.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code)]

use crate::engine_common::{Process, wait_until, without_disk};
use crate::island::{Island, NAMES, address};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

pub struct Cluster {
    _servers: Vec<Process>,
    _folder: TempDir,
    /// The authority that signed their certificates, if they have any.
    authority: Option<PathBuf>,
}

impl Cluster {
    /// Starts the cluster; returns once it serves.
    pub fn start(island: &Island, settings: &str) -> Self {
        Self::start_in(Self::folder(), island, settings, None)
    }

    /// A directory for the servers' data, in which each has a subdirectory with its host's name.
    pub fn folder() -> TempDir {
        let folder = tempfile::Builder::new().prefix("resourcelock-etcd-").tempdir();
        folder.expect("a folder")
    }

    /// The same in a directory that may already contain something, and perhaps with certificates.
    pub fn start_in(folder: TempDir, island: &Island, settings: &str, authority: Option<PathBuf>) -> Self {
        let start = |i: usize| {
            let mut command = Command::new("etcd");
            for line in settings.lines().filter(|line| !line.starts_with('#')) {
                let (name, value) = line.split_once('=').expect("NAME=VALUE");
                // The settings are those of the first host; the others put their own names in.
                let value = value.trim_matches('"');
                let value = if name == "ETCD_INITIAL_CLUSTER" {
                    value.to_owned()
                } else {
                    value.replace(NAMES[0], NAMES[i]).replace(&address(0), &address(i))
                };
                command.env(name, value);
            }
            command.env("ETCD_DATA_DIR", folder.path().join(NAMES[i]));
            command.env("ETCD_LOG_LEVEL", "error").env("ETCD_LOGGER", "zap");
            command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
            let log = folder.path().join(format!("{}.log", NAMES[i]));
            Process::start(&mut island.hosts[i].enter(&without_disk(&command)), &log)
        };
        let cluster = Self {
            _servers: (0..3).map(start).collect(),
            _folder: folder,
            authority,
        };
        cluster.wait_ready();
        cluster
    }

    /// Waits until all three serve.
    pub fn wait_ready(&self) {
        wait_until("all of etcd serves", || {
            (0..3).all(|i| {
                let mut health = self.etcdctl(i, &["endpoint", "health"]);
                health.output().is_ok_and(|output| output.status.success())
            })
        });
    }

    /// The leader's host.
    pub fn leader(&self) -> usize {
        let mut found = None;
        wait_until("there is a leader", || {
            found = (0..3).find(|&i| self.leads(i));
            found.is_some()
        });
        found.expect("it was found")
    }

    pub fn url(&self) -> String {
        format!("etcd://{}/locks", NAMES.join(","))
    }

    fn leads(&self, i: usize) -> bool {
        let output = self.etcdctl(i, &["endpoint", "status", "--write-out=json"]).output();
        let status: serde_json::Value =
            serde_json::from_slice(&output.expect("etcdctl runs").stdout).unwrap_or_default();
        let status = &status[0]["Status"];
        status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
    }

    /// `etcdctl …` for the server on one host.
    fn etcdctl(&self, i: usize, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        let mut scheme = "http";
        if let Some(authority) = &self.authority {
            command.env("ETCDCTL_CACERT", authority);
            scheme = "https";
        }
        command.arg(format!("--endpoints={scheme}://{}:2379", NAMES[i]));
        command.args(words);
        command
    }
}
