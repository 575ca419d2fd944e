//! The library in a separate process: the test program starts itself again as a worker, which reads requests and
//! answers them, line by line. Every test program that uses workers has a test named `worker` at its root, which calls
//! [`main`].

use super::{LineChild, TestLock};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resourcelock::{Cancel, Detached, GetOptions, Guard, Lost, Mode, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Set in a worker's environment.
const WORKER: &str = "RESOURCELOCK_TEST_WORKER";
/// Begins each answer: the test harness also prints lines.
const ANSWER: &str = "> ";

/// A request for the lock, as it is sent to a worker: `Ask { wait: Some(0), ..Ask::default() }`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// Milliseconds; none = no limit.
    pub wait: Option<u64>,
    /// None = exclusive.
    pub mode: Option<Mode>,
    /// Leave it taken: until it is released, while a process lives, or for a time.
    pub detached: Option<Detached>,
    /// Be patient before queueing, as the library is by default.
    pub patient: bool,
}

impl Ask {
    /// A request that does not wait.
    pub fn now() -> Self {
        Self {
            wait: Some(0),
            ..Self::default()
        }
    }

    /// A request in this mode.
    pub fn mode(mode: Mode) -> Self {
        Self {
            mode: Some(mode),
            ..Self::default()
        }
    }

    fn to_json(self) -> Value {
        let mode = match self.mode.unwrap_or(Mode::Exclusive) {
            Mode::Exclusive => json!("exclusive"),
            Mode::Shared => json!("shared"),
            Mode::Slots(n) => json!(n),
        };
        let detached = self
            .detached
            .map(|d| json!([d.pid, d.ttl.map(|ttl| ttl.as_millis() as u64), d.must_unget]));
        json!({ "wait": self.wait, "mode": mode, "detached": detached, "patient": self.patient })
    }

    fn options(asked: &Value) -> GetOptions<'static> {
        let wait = match asked["wait"].as_u64() {
            None => Wait::Forever,
            Some(0) => Wait::No,
            Some(ms) => Wait::For(Duration::from_millis(ms)),
        };
        let mode = match (asked["mode"].as_u64(), asked["mode"].as_str()) {
            (Some(n), _) => Mode::Slots(n as u32),
            (_, Some("shared")) => Mode::Shared,
            _ => Mode::Exclusive,
        };
        let patient = asked["patient"] == json!(true);
        let options = GetOptions::new()
            .wait(wait)
            .mode(mode)
            .queue_at_once(!patient)
            .lock_info("worker");
        match asked["detached"].as_array() {
            Some(d) => options.detached(Detached {
                pid: d[0].as_u64().map(|pid| pid as u32),
                must_unget: d[2].as_bool() == Some(true),
                ttl: d[1].as_u64().map(Duration::from_millis),
            }),
            None => options,
        }
    }
}

/// A grant, as a worker reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub token: u64,
    /// True if the worker was told that the previous holder died.
    pub abandoned: bool,
    /// When the worker got the lock: monotonic ns, a clock that all processes share.
    pub at: u64,
}

/// A worker process; killed on drop.
pub struct Worker {
    child: LineChild,
}

impl Worker {
    /// Starts a worker and has it open `lock`.
    pub fn open(lock: &TestLock) -> Self {
        let mut worker = Self::start();
        assert_eq!(worker.ask(json!(["open", lock.name()])), Value::Null);
        worker
    }

    /// Starts a worker that has nothing open.
    pub fn start() -> Self {
        Self::start_by(Self::command())
    }

    /// The command that starts a worker.
    pub fn command() -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command
            .args(["worker", "--exact", "--quiet", "--nocapture"])
            .env(WORKER, "1");
        command
    }

    /// Starts a worker by a command that is, or ends in, [`command`](Self::command).
    pub fn start_by(mut command: Command) -> Self {
        let child = LineChild::spawn(&mut command);
        Self { child }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request without waiting for its answer.
    pub fn send(&mut self, request: Value) {
        self.child.send(&request.to_string());
    }

    /// Waits for the next answer; answers come in the order of the requests.
    pub fn answer(&mut self) -> Value {
        loop {
            if let Some(answer) = parse(&self.child.line()) {
                return answer;
            }
        }
    }

    /// The next answer, if it is already there.
    pub fn try_answer(&mut self) -> Option<Value> {
        loop {
            if let Some(answer) = parse(&self.child.try_line()?) {
                return Some(answer);
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, request: Value) -> Value {
        self.send(request);
        self.answer()
    }

    /// Asks for the lock without waiting for the outcome.
    pub fn send_get(&mut self, ask: Ask) {
        self.send(json!(["get", ask.to_json()]));
    }

    /// Waits for the outcome of the oldest [`send_get`](Self::send_get): none = not acquired in time.
    pub fn granted(&mut self) -> Option<Grant> {
        let answer = self.answer();
        grant(&answer)
    }

    /// That outcome, if it is already there.
    pub fn try_granted(&mut self) -> Option<Option<Grant>> {
        self.try_answer().map(|answer| grant(&answer))
    }

    /// Asks for the lock and waits for the outcome.
    pub fn get(&mut self, ask: Ask) -> Option<Grant> {
        self.send_get(ask);
        self.granted()
    }

    /// Asks for the lock where that must fail, and returns the error's text.
    pub fn refused(&mut self, ask: Ask) -> String {
        let answer = self.ask(json!(["get", ask.to_json()]));
        answer["refused"]
            .as_str()
            .unwrap_or_else(|| panic!("not refused: {answer}"))
            .to_owned()
    }

    /// Releases the latest hold.
    pub fn release(&mut self) -> bool {
        self.ask(json!(["release"])) == json!(true)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id() as i32), signal).expect("the worker can be signalled");
    }

    /// Sends SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// If it had already exited.
    pub fn kill(&mut self) {
        self.child.kill();
        let status = self.child.wait();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{status}");
    }

    /// Sends SIGKILL, without waiting.
    pub fn kill_at_once(&mut self) {
        self.child.kill();
    }

    /// Lets it exit by itself, and waits until it has.
    pub fn end(mut self) -> ExitStatus {
        self.child.close_input();
        self.child.wait()
    }

    /// Its exit status, if it has exited.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait()
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }
}

fn parse(line: &str) -> Option<Value> {
    // The harness may have left its own line unfinished before the answer.
    let answer = line.split_once(ANSWER)?.1;
    Some(serde_json::from_str(answer).unwrap_or_else(|_| panic!("the worker said {line}")))
}

fn grant(answer: &Value) -> Option<Grant> {
    if answer.is_null() {
        return None;
    }
    Some(Grant {
        token: answer["token"].as_u64().unwrap_or_else(|| panic!("no grant: {answer}")),
        abandoned: answer["abandoned"] == json!(true),
        at: answer["at"].as_u64().expect("a time"),
    })
}

/// Monotonic time, ns.
pub fn monotonic() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("the clock runs");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// A worker's state.
#[derive(Default)]
pub struct Hands {
    /// The open lock. Leaked: it is needed until the process exits.
    pub lock: Option<&'static ResourceLock>,
    /// Holds, the latest last.
    pub guards: Vec<Guard>,
}

/// A request that only the workers of one test program understand.
pub type Skill = fn(&mut Hands, &[Value]) -> Value;

/// The body of the test `worker`: in a worker process it serves requests; otherwise it starts a worker and tests it.
pub fn main(skills: &[(&str, Skill)]) {
    if std::env::var_os(WORKER).is_some() {
        serve(skills);
        std::process::exit(0);
    }
    let lock = TestLock::new("worker");
    let mut worker = Worker::open(&lock);
    assert!(worker.get(Ask::now()).is_some_and(|grant| !grant.abandoned));
    assert!(worker.release());
    assert!(worker.end().success());
    assert!(!lock.state().locked);
}

/// Prints an answer.
pub fn say(answer: &Value) {
    let mut output = std::io::stdout().lock();
    // Ignore errors: the test that asked may be gone.
    if writeln!(output, "{ANSWER}{answer}")
        .and_then(|()| output.flush())
        .is_err()
    {
        std::process::exit(1);
    }
}

fn serve(skills: &[(&str, Skill)]) {
    // So that a failed test leaves no worker behind, not even one in a loop.
    nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL)).expect("a signal can be asked for");
    let mut hands = Hands::default();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let request: Vec<Value> = serde_json::from_str(&line).expect("a request");
        let (word, arguments) = request.split_first().expect("a word");
        let word = word.as_str().expect("a word");
        let own = skills.iter().find(|(name, _)| *name == word);
        let answer = match own {
            Some((_, skill)) => skill(&mut hands, arguments),
            None => hands.perform(word, arguments),
        };
        say(&answer);
    }
    // Exit like a program that returns from main: what it holds is released.
    hands.guards.clear();
}

impl Hands {
    /// The open lock.
    pub fn lock(&self) -> &'static ResourceLock {
        self.lock.expect("the lock is open")
    }

    fn perform(&mut self, word: &str, arguments: &[Value]) -> Value {
        let number = || arguments[0].as_u64().expect("a number");
        match word {
            "open" => {
                let name = arguments[0].as_str().expect("a name");
                match ResourceLock::open(name) {
                    Ok(lock) => self.lock = Some(Box::leak(Box::new(lock))),
                    Err(error) => return refused(&error),
                }
                Value::Null
            }
            "get" => self.get(Ask::options(&arguments[0])),
            "release" => self.guards.pop().map_or(json!(false), |guard| outcome(guard.release())),
            "release_recovered" => self.guards.pop().map_or(json!(false), |guard| {
                outcome(guard.mark_recovered().and_then(|()| guard.release()))
            }),
            "lost" => self.guards.last().map_or(Value::Null, |guard| match guard.lost() {
                None => json!("held"),
                Some(Lost::Forced) => json!("forced"),
                Some(Lost::Replaced) => json!("replaced"),
                Some(Lost::Damaged) => json!("damaged"),
                Some(other) => json!(format!("{other:?}")),
            }),
            "leave_taken" => {
                let again = GetOptions::new().same_process_ok(true);
                for guard in self.guards.drain(..) {
                    // The handle has it, too, and then alone.
                    assert!(
                        self.lock.is_some_and(|lock| lock.get_lock(&again).unwrap()),
                        "{guard:?}"
                    );
                }
                outcome(self.lock().leave_taken())
            }
            "force" => outcome(self.lock().unget_lock(UngetOptions::new().force(true))),
            "unget_token" => outcome(self.lock().unget_lock(UngetOptions::new().token(number()))),
            "unget_bound_to" => outcome(self.lock().unget_lock(UngetOptions::new().bound_to(number() as u32))),
            "have" => json!(self.lock().have_the_lock()),
            "is_held" => json!(self.lock().is_held(number()).unwrap()),
            "is_locked" => json!(self.lock().is_locked().unwrap()),
            other => panic!("a worker does not know how to {other}"),
        }
    }

    /// Acquires the lock and keeps the hold.
    pub fn get(&mut self, options: GetOptions<'static>) -> Value {
        match self.lock().acquire_with(&options) {
            Ok(None) => Value::Null,
            Ok(Some(guard)) => {
                let at = monotonic();
                let told = json!({ "token": guard.token(), "abandoned": guard.abandoned(), "at": at });
                self.guards.push(guard);
                told
            }
            Err(error) => refused(&error),
        }
    }

    /// The same; the wait can be cancelled.
    pub fn get_unless(&mut self, cancel: &'static Cancel) -> Value {
        self.get(GetOptions::new().wait(Wait::Forever).queue_at_once(true).cancel(cancel))
    }
}

fn outcome(result: resourcelock::Result<bool>) -> Value {
    result.map_or_else(|error| refused(&error), |done| json!(done))
}

fn refused(error: &resourcelock::Error) -> Value {
    json!({ "refused": error.with_source() })
}
