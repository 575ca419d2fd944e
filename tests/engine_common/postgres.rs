//! A PostgreSQL server. When the tests run as root, it runs as the user postgres.

use super::{Process, free_port, remove_at_the_end, signal, wait_until};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use tempfile::TempDir;

pub struct Postgres {
    folder: TempDir,
    port: u16,
    process: Option<Process>,
    /// The thread that started it. The server exits with that thread, and so with this program, however that ends.
    parent: Option<Sender<()>>,
    /// Where it listens.
    addresses: String,
    /// More settings: `-c …`.
    settings: Vec<String>,
}

impl Postgres {
    /// A server that other tests use as well: a test must not kill or stop it, nor touch any sessions but its own. It
    /// ends with this program.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            let server = Self::start();
            remove_at_the_end(server.folder.path(), Some(server.pid()));
            server
        })
    }

    /// Creates and starts a server on loopback; returns once it serves. Connections over TCP need a password
    /// (`postgres`), except for the user `trusted`.
    pub fn start() -> Self {
        Self::listening("127.0.0.1", "127.0.0.1/32")
    }

    /// The same on `addresses` (the server's `listen_addresses`; empty = as configured in the server), for clients from
    /// `network`.
    pub fn listening(addresses: &str, network: &str) -> Self {
        let folder = folder_of_postgres();
        let mut postgres = Self {
            folder,
            port: free_port(),
            process: None,
            parent: None,
            addresses: addresses.to_owned(),
            settings: Vec::new(),
        };
        // Copying an empty cluster is much quicker than creating one.
        let copied = by_postgres(Path::new("cp"))
            .arg("-a")
            .arg(empty_cluster())
            .arg(postgres.data())
            .status();
        assert!(copied.is_ok_and(|status| status.success()));
        let trusting =
            format!("local all all trust\nhost all trusted {network} trust\nhost all all {network} scram-sha-256\n");
        std::fs::write(postgres.data().join("pg_hba.conf"), trusting).expect("a file");
        postgres.restart();
        postgres.sql("CREATE ROLE trusted LOGIN SUPERUSER");
        postgres.sql("CREATE DATABASE jobs");
        postgres
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its local socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts or restarts it. Nothing is lost without fsync: only its processes are ever killed, never the machine.
    pub fn restart(&mut self) {
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(self.data());
        command.arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-c", "fsync=off"]);
        if !self.addresses.is_empty() {
            command.args(["-c", &format!("listen_addresses={}", self.addresses)]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = self.folder.path().join("log");
        let ((tell, told), (parent, end)) = (channel(), channel());
        std::thread::spawn(move || {
            let _ = tell.send(Process::start(&mut command, &log));
            let _ = end.recv();
        });
        self.process = Some(told.recv().expect("it is started"));
        self.parent = Some(parent);
        let socket = self.folder.path().join(format!(".s.PGSQL.{}", self.port));
        wait_until("PostgreSQL serves", || {
            // Looking for its socket costs next to nothing, starting psql does not.
            socket.exists() && self.try_sql("postgres", "SELECT 1").status.success()
        });
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// The server's processes.
    fn all(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }

    /// Kills all its processes (SIGKILL) in one go.
    pub fn kill(&mut self) {
        // While stopped, it starts no more of them.
        signal(self.pid(), "STOP");
        let all = self.all();
        let pids = all.iter().map(ToString::to_string);
        let _ = Command::new("kill").arg("-KILL").args(pids).output();
        self.process = None;
        wait_until("they are gone", || all.iter().all(|pid| !super::journal::runs(*pid)));
    }

    /// Shuts it down, and restarts it with more settings (`NAME=VALUE`).
    pub fn set(&mut self, settings: &[&str]) {
        self.settings
            .extend(settings.iter().map(|setting| (*setting).to_owned()));
        self.end();
        self.restart();
    }

    /// Shuts it down as an administrator would: then everything is on disk.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(process.id(), "INT");
            let _ = process.0.wait();
        }
    }

    /// Shuts it down at once, but in such a way that its processes and shared memory go with it.
    pub fn end(&mut self) {
        if self.process.is_some() {
            self.signal_all("CONT");
        }
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.0.wait();
        }
    }

    /// Puts a file, which only the server can read, into the server's directory.
    pub fn put(&self, name: &str, text: &[u8]) {
        let path = self.data().join(name);
        std::fs::write(&path, text).expect("a file");
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(&path).status();
            assert!(owned.is_ok_and(|status| status.success()));
        }
        let closed = Command::new("chmod").arg("600").arg(&path).status();
        assert!(closed.is_ok_and(|status| status.success()));
    }

    /// Stops (STOP) or continues (CONT) all its processes.
    pub fn signal_all(&self, name: &str) {
        // The first one starts the others. While it is stopped, they can only become fewer.
        signal(self.pid(), name);
        for pid in &self.all()[1..] {
            let _ = Command::new("kill")
                .args([&format!("-{name}"), &pid.to_string()])
                .output();
        }
    }

    /// `postgres://…` with the user who needs no password.
    pub fn url(&self) -> String {
        self.url_as("trusted", "jobs")
    }

    /// The same with a user (and password), and a database.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The same by way of its local socket.
    pub fn local_url_as(&self, user: &str, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres:///{database}?host={folder}&port={}&user={user}", self.port)
    }

    /// `psql` as the user postgres.
    pub fn psql(&self, database: &str, words: &[&str]) -> Command {
        let mut psql = psql();
        psql.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-d", database]);
        psql.arg("-h")
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string()]);
        psql.args(words);
        psql
    }

    /// Writes the data of the database `jobs`, without its definitions, to a file of this name; returns its path.
    pub fn dump_data(&self, name: &str, words: &[&str]) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut dump = Command::new(installed("pg_dump"));
        dump.args(["--data-only", "-U", "postgres", "-h"])
            .arg(self.folder.path());
        dump.args(["-p", &self.port.to_string(), "-d", "jobs"]).args(words);
        let output = dump.output().expect("pg_dump runs");
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::write(&path, output.stdout).expect("a file");
        path
    }

    /// Executes a statement, which may fail.
    pub fn try_sql(&self, database: &str, text: &str) -> Output {
        self.psql(database, &["-c", text]).output().expect("psql runs")
    }

    /// Executes a statement in a database and returns what it printed.
    pub fn sql_in(&self, database: &str, text: &str) -> String {
        let output = self.try_sql(database, text);
        assert!(output.status.success(), "{text}: {}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// Executes a statement in the database `jobs` (or `postgres`, until that exists) and returns what it printed.
    pub fn sql(&self, text: &str) -> String {
        let mut output = self.try_sql("jobs", text);
        if !output.status.success() {
            output = self.try_sql("postgres", text);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a program wrote to standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Prints the median and the worst of some times, bypassing the test harness.
pub fn figures(what: &str, mut ns: Vec<i64>) {
    ns.sort_unstable();
    let (Some(worst), median) = (ns.last(), ns[ns.len() / 2]) else {
        return;
    };
    let [median, worst] = [median, *worst].map(|ns| ns as f64 / 1e6);
    let _ = writeln!(
        std::io::stderr(),
        "figure: PostgreSQL, {what}: median {median:.1} ms, worst {worst:.1} ms, of {}",
        ns.len()
    );
}

/// A pgbouncer in front of a server.
pub struct Pooler {
    port: u16,
    _process: Process,
    folder: TempDir,
}

impl Pooler {
    /// Starts it in pool mode `session` or `transaction`.
    pub fn start(server: &Postgres, mode: &str) -> Self {
        Self::with(server, mode, "")
    }

    /// The same with more settings.
    pub fn with(server: &Postgres, mode: &str, more: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("resourcelock-pool-")
            .tempdir()
            .expect("a folder");
        let port = free_port();
        let settings = format!(
            "[databases]\njobs = host={} port={} user=trusted dbname=jobs\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir = {}\nauth_type = any\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits\n{more}",
            server.folder().display(),
            server.port(),
            folder.path().display(),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("a file");
        let mut command = if is_root() {
            let owned = Command::new("chown")
                .arg("-R")
                .arg("postgres")
                .arg(folder.path())
                .status();
            assert!(owned.is_ok_and(|status| status.success()));
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command
        } else {
            Command::new("setpriv")
        };
        // It exits with this test.
        command.args(["--pdeathsig=KILL", "pgbouncer"]);
        let process = Process::start(command.arg(&file), &folder.path().join("log"));
        wait_until("pgbouncer serves", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            port,
            _process: process,
            folder,
        }
    }

    /// The URL by way of its local socket.
    pub fn local_url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres:///jobs?host={folder}&port={}&user=trusted", self.port)
    }

    pub fn url(&self) -> String {
        format!("postgres://trusted@127.0.0.1:{}/jobs", self.port)
    }
}

/// A cluster as it is after its creation; made once, and removed when this program has ended.
fn empty_cluster() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = folder_of_postgres();
        remove_at_the_end(folder.path(), None);
        let folder = folder.keep();
        let secret = folder.join("password");
        std::fs::write(&secret, "postgres\n").expect("a file");
        let mut initdb = as_postgres("initdb");
        initdb.arg("--pgdata").arg(folder.join("data"));
        initdb.args([
            "--no-sync",
            "--wal-segsize=1",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--username=postgres",
        ]);
        initdb.arg("--pwfile").arg(&secret);
        let made = initdb
            .output()
            .expect("initdb runs; scripts/test.sh installs what these tests need");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder.join("data")
    })
}

/// A new folder of the user postgres.
fn folder_of_postgres() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("resourcelock-pg-")
        .tempdir()
        .expect("a folder");
    if is_root() {
        let owned = Command::new("chown").arg("postgres").arg(folder.path()).status();
        assert!(owned.is_ok_and(|status| status.success()), "there is a user postgres");
    }
    folder
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Not the one in the PATH, which on Debian is a script that looks for it, and takes longer than it.
pub fn psql() -> Command {
    Command::new(installed("psql"))
}

fn as_postgres(program: &str) -> Command {
    by_postgres(&installed(program))
}

/// A program of the newest server installed.
fn installed(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin")).max();
    // Another version may be asked for.
    let folder = std::env::var_os("RESOURCELOCK_TEST_POSTGRES")
        .map(PathBuf::from)
        .or(newest);
    folder.map_or_else(|| PathBuf::from(program), |folder| folder.join(program))
}

/// A program that runs as the server's user. With this one it ends at once, but a server in such a way that its processes
/// and shared memory go with it.
fn by_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program);
    command
}
