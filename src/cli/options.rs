//! The options: everything that is known about each of them, once. Parser, help, man page, completion and refusals read
//! this table.
//!
//! A new option of `run` is an entry in [`OPTIONS`] and a field of [`RunArgs`] that its `set` writes.

use super::args::{
    Common, DoctorArgs, GetArgs, HistoryArgs, ListArgs, Name, OnAbandoned, Payload, PruneArgs, RemoveArgs, Request,
    RunArgs, StateArgs, StopArgs, Task, TraceArgs, UngetArgs, Until,
};
use super::command::Command::{self, Doctor, Get, History, List, Prune, Remove, Run, State, Stop, Top, Trace, Unget};
use super::values::Value;
use resourcelock::{Mode, Wait};
use std::num::NonZeroU32;

/// What an option, or a command, needs from the engine that keeps the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All users of the lock are on this machine.
    Local,
    /// A lock has files.
    Files,
    /// It knows the processes of this machine.
    Processes,
    /// Leases, which end unless they are renewed.
    Lease,
    /// Holds that outlive the process that acquired them.
    Detached,
    /// Counting locks.
    Slots,
    /// It reports that the previous holder died.
    Abandoned,
    /// It keeps a history.
    History,
    /// It counts skipped runs.
    Skips,
}

impl Need {
    /// For the man page: where an option with this need works.
    #[cfg(test)]
    pub fn where_met(self) -> &'static str {
        match self {
            Self::Local | Self::Files | Self::Processes | Self::Abandoned | Self::History => {
                "Only for locks of this machine."
            }
            Self::Lease => "Only on engines.",
            Self::Detached | Self::Slots | Self::Skips => "Not on PostgreSQL.",
        }
    }
}

/// A need, and what the user is told where it is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// What is needed.
    pub need: Need,
    /// Why it is needed, and what to do instead; shown after "not on ENGINE: --option: ".
    pub why: &'static str,
    /// With this other option, it is not needed.
    pub unless: Option<&'static str>,
}

/// What kind of value an option takes, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A time.
    Time,
    /// A number.
    Number,
    /// Free text.
    Text,
    /// A command line.
    Command,
    /// A file.
    File,
    /// A group of users.
    Group,
    /// A user.
    User,
    /// A lock.
    Lock,
    /// A process ID.
    Process,
    /// Permission bits.
    Permissions,
    /// A signal.
    Signal,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// What applies if an option is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Off, or not given.
    None,
    /// The same as with this value.
    Value(&'static str),
    /// The same as with this value, for each command.
    ValueFor(&'static [(Command, &'static str)]),
    /// This, by a decision that is made elsewhere.
    Said(&'static str),
}

/// Options that cannot be used together with this one.
pub struct Conflict {
    /// Their names.
    pub with: &'static [&'static str],
    /// Why not; `{}` stands for the other's name.
    pub why: &'static str,
}

/// How the value gets into its field.
pub enum Set {
    Common(fn(&mut Common, &Value<'_>) -> Stored),
    Request(fn(&mut Request, &Value<'_>) -> Stored),
    Run(fn(&mut RunArgs, &Value<'_>) -> Stored),
    Get(fn(&mut GetArgs, &Value<'_>) -> Stored),
    Unget(fn(&mut UngetArgs, &Value<'_>) -> Stored),
    Stop(fn(&mut StopArgs, &Value<'_>) -> Stored),
    State(fn(&mut StateArgs, &Value<'_>) -> Stored),
    Trace(fn(&mut TraceArgs, &Value<'_>) -> Stored),
    History(fn(&mut HistoryArgs, &Value<'_>) -> Stored),
    Remove(fn(&mut RemoveArgs, &Value<'_>) -> Stored),
    Prune(fn(&mut PruneArgs, &Value<'_>) -> Stored),
    List(fn(&mut ListArgs, &Value<'_>) -> Stored),
    Doctor(fn(&mut DoctorArgs, &Value<'_>) -> Stored),
    /// `-t` of the command that has it.
    Wait,
    /// The note of the command that has one.
    Message,
    /// `--json` of the command that has it.
    Json,
    /// Nowhere: it is accepted for compatibility.
    Nothing,
}

/// The error says what is wrong with the value.
type Stored = Result<(), String>;

fn put<T>(field: &mut T, value: T) -> Stored {
    *field = value;
    Ok(())
}

/// One option.
pub struct OptionDef {
    /// The name, without dashes.
    pub name: &'static str,
    /// One-letter spellings; the first one is the usual one.
    pub letters: &'static [char],
    /// The letters are read behind the command word only: before it, they mean another option.
    pub late_letters: bool,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// The commands that have it.
    pub commands: &'static [Command],
    /// The commands that accept it, by its name and first letter, and ignore it: the Python tool accepts its four options
    /// with every command.
    pub ignored_by: &'static [Command],
    /// The name of its value in help, and its kind; `None` if it takes no value.
    pub value: Option<(&'static str, Kind)>,
    /// What applies if it is not given.
    pub preset: Preset,
    /// One sentence for help, without a full stop. The default is appended.
    pub help: &'static str,
    /// Further sentences for the man page.
    #[cfg_attr(not(test), allow(dead_code, reason = "a test writes the man page"))]
    pub more: &'static str,
    /// It counts how often it is given.
    pub counted: bool,
    /// If it is given several times, all values count.
    pub repeats: bool,
    /// Not in help.
    pub hidden: bool,
    /// What it needs from the engine.
    pub needs: Option<Requirement>,
    /// What it cannot be used together with.
    pub conflicts: Option<Conflict>,
    /// The option without which this one means nothing.
    pub refines: Option<&'static str>,
    /// Where its value goes.
    pub set: Set,
}

const OPTION: OptionDef = OptionDef {
    name: "",
    letters: &[],
    late_letters: false,
    aliases: &[],
    commands: &[],
    ignored_by: &[],
    value: None,
    preset: Preset::None,
    help: "",
    more: "",
    counted: false,
    repeats: false,
    hidden: false,
    needs: None,
    conflicts: None,
    refines: None,
    set: Set::Nothing,
};

const fn needs(need: Need, why: &'static str) -> Option<Requirement> {
    Some(Requirement {
        need,
        why,
        unless: None,
    })
}

const WITH_CONFLICT: Conflict = Conflict {
    with: &["replace", "same-process-ok"],
    why: "--{} is for one lock: not together with --with",
};

/// How many locks a command may run under.
const MOST_LOCKS: usize = 16;

fn add_lock(run: &mut RunArgs, value: &Value<'_>, mode: Mode) -> Stored {
    if run.with.len() + 1 >= MOST_LOCKS {
        return Err(format!("{MOST_LOCKS} locks are the most, NAME included"));
    }
    run.with.push((Name(value.text()?), mode));
    Ok(())
}

/// Commands for locks of this machine.
pub const LOCAL: &[Command] = &[Run, Get, Unget, Stop, State, Trace, History, Remove, List, Top, Doctor];
/// Those of them that create no lock.
pub const CREATE_NOTHING: &[Command] = &[Unget, Stop, State, Trace, History, Remove, List, Top, Doctor];

/// All options, in the order in which help lists them.
pub static OPTIONS: &[OptionDef] = &[
    OptionDef {
        name: "get-timeout",
        letters: &['t', 'w'],
        aliases: &["wait", "timeout"],
        commands: &[Run, Get, Stop],
        ignored_by: &[Unget, State, Trace],
        value: Some(("SECS", Kind::Time)),
        preset: Preset::ValueFor(&[(Run, "-1"), (Get, "0.5"), (Stop, "10")]),
        help: "How long to wait: 1.5, 500ms, 2m; 0 = don't wait, -1 = forever",
        set: Set::Wait,
        ..OPTION
    },
    OptionDef {
        name: "nonblock",
        letters: &['n'],
        aliases: &["nb"],
        commands: &[Run, Get],
        help: "Don't wait: the same as -t 0",
        set: Set::Request(|request, _| put(&mut request.wait, Wait::No)),
        ..OPTION
    },
    OptionDef {
        name: "conflict-exit-code",
        letters: &['E'],
        commands: &[Run, Get],
        value: Some(("N", Kind::Number)),
        preset: Preset::Said("75"),
        help: "Status if not acquired in time",
        set: Set::Request(|request, value| {
            put(
                &mut request.conflict_exit_code,
                Some(value.parse("a status from 0 to 255")?),
            )
        }),
        ..OPTION
    },
    OptionDef {
        name: "max-skips",
        commands: &[Run],
        value: Some(("N", Kind::Number)),
        help: "After every N skips in a row, say so and exit with 75 instead; on etcd, only runs with this option end the row",
        more: "A skip is a run with this option that does not acquire the lock in time. Others are silent, whatever the status of \
               -E, unless -v is given.\nThe count begins anew when a run of NAME ends with status 0: any run on this machine, one with \
               this option on etcd.\nA run that is not due (--once-every) is no skip.",
        needs: needs(Need::Skips, "it does not count skipped runs"),
        refines: Some("conflict-exit-code"),
        conflicts: Some(Conflict {
            with: &["no-fork"],
            why: "--max-skips is for a run that sees its command end: not together with --{}",
        }),
        set: Set::Run(|run, value| {
            let skips: NonZeroU32 = value.parse("a number from 1 on")?;
            put(&mut run.max_skips, Some(skips.get()))
        }),
        ..OPTION
    },
    OptionDef {
        name: "message",
        letters: &['m'],
        commands: &[Run, Get],
        ignored_by: &[State, Trace],
        value: Some(("TEXT", Kind::Text)),
        preset: Preset::ValueFor(&[(Get, "cli")]),
        help: "A note for others: what the lock is held for",
        set: Set::Message,
        ..OPTION
    },
    OptionDef {
        name: "shared",
        letters: &['s'],
        commands: &[Run, Get],
        help: "Share the lock with others that share it",
        set: Set::Request(|request, _| put(&mut request.mode, Mode::Shared)),
        ..OPTION
    },
    OptionDef {
        name: "exclusive",
        letters: &['x', 'e'],
        commands: &[Run, Get],
        help: "Hold the lock alone (the default)",
        set: Set::Request(|request, _| put(&mut request.mode, Mode::Exclusive)),
        ..OPTION
    },
    OptionDef {
        name: "slots",
        letters: &['j'],
        commands: &[Run, Get],
        value: Some(("N", Kind::Number)),
        help: "Use a counting lock: up to N holders at once",
        more: "The number belongs to the lock as long as anybody uses its slots: a request for a different one fails, \
               naming both.",
        needs: needs(
            Need::Slots,
            "it has no counting locks; use exclusive or shared (-s) ones",
        ),
        set: Set::Request(|request, value| {
            let slots: NonZeroU32 = value.parse("a number from 1 on")?;
            put(&mut request.mode, Mode::Slots(slots.get()))
        }),
        ..OPTION
    },
    OptionDef {
        name: "same-process-ok",
        commands: &[Run, Get],
        help: "Succeed immediately if this job already holds the lock",
        set: Set::Request(|request, _| put(&mut request.same_process_ok, true)),
        ..OPTION
    },
    OptionDef {
        name: "mode",
        commands: &[Run, Get],
        value: Some(("OCTAL", Kind::Permissions)),
        help: "Permissions if created now: 600, 660, 666 (also: use anybody's lock)",
        more: "A lock that everybody may write is used only with 666, whoever owns it.",
        needs: needs(Need::Files, "only a lock of this machine has files"),
        set: Set::Common(|common, value| put(&mut common.access.mode, Some(value.permissions()?))),
        ..OPTION
    },
    OptionDef {
        name: "group",
        commands: &[Run, Get],
        value: Some(("NAME", Kind::Group)),
        help: "Use this group's locks; a lock created now is the group's (mode 660)",
        more: "A lock is the group's if its files belong to it and not everybody may write them.",
        needs: needs(Need::Files, "only a lock of this machine has files"),
        set: Set::Common(|common, value| put(&mut common.access.group, Some(value.text()?))),
        ..OPTION
    },
    OptionDef {
        name: "mode",
        commands: CREATE_NOTHING,
        value: Some(("OCTAL", Kind::Permissions)),
        help: "666: trust everybody's locks",
        needs: needs(Need::Files, "only a lock of this machine has files"),
        set: Set::Common(|common, value| put(&mut common.access.mode, Some(value.permissions()?))),
        ..OPTION
    },
    OptionDef {
        name: "group",
        commands: CREATE_NOTHING,
        value: Some(("NAME", Kind::Group)),
        help: "Trust this group's locks",
        needs: needs(Need::Files, "only a lock of this machine has files"),
        set: Set::Common(|common, value| put(&mut common.access.group, Some(value.text()?))),
        ..OPTION
    },
    OptionDef {
        name: "owner",
        commands: LOCAL,
        value: Some(("USER", Kind::User)),
        repeats: true,
        help: "Trust this user's locks (RESOURCELOCK_OWNER)",
        more: "May be repeated.\nIf root creates a lock, it becomes the first USER's.",
        needs: needs(Need::Files, "only a lock of this machine has an owner"),
        set: Set::Common(|common, value| {
            common.access.owners.push(value.text()?);
            Ok(())
        }),
        ..OPTION
    },
    OptionDef {
        name: "with",
        commands: &[Run],
        value: Some(("NAME", Kind::Lock)),
        repeats: true,
        help: "Acquire this lock, too: all of them or none",
        more: "May be repeated, up to 16 locks in all. They are acquired one after the other, in the order of the bytes of their \
               names, so that two such runs never wait for each other; -t is the time for all of them together.\nIf one of them \
               is not acquired in time, those acquired before are released.\nSee SEVERAL LOCKS.",
        conflicts: Some(WITH_CONFLICT),
        set: Set::Run(|run, value| add_lock(run, value, Mode::Exclusive)),
        ..OPTION
    },
    OptionDef {
        name: "with-shared",
        commands: &[Run],
        value: Some(("NAME", Kind::Lock)),
        repeats: true,
        help: "The same, sharing that lock with others that share it",
        conflicts: Some(WITH_CONFLICT),
        set: Set::Run(|run, value| add_lock(run, value, Mode::Shared)),
        ..OPTION
    },
    OptionDef {
        name: "command",
        letters: &['c'],
        commands: &[Run],
        value: Some(("COMMAND", Kind::Command)),
        help: "Run this string with the shell ($SHELL)",
        more: "Cannot be combined with COMMAND.",
        set: Set::Run(|run, value| put(&mut run.payload, Payload::Shell(value.os()))),
        ..OPTION
    },
    OptionDef {
        name: "limit",
        commands: &[Run],
        value: Some(("DUR", Kind::Time)),
        help: "Terminate the command after this time",
        more: "The time counts from the start of the command, including time during which it is stopped; the signal is \
               followed by CONT.\nUnless the command runs in the terminal's foreground, it gets a process group of its \
               own, and the signal goes to the whole group.",
        set: Set::Run(|run, value| put(&mut run.limit, Some(value.time()?).filter(|time| !time.is_zero()))),
        ..OPTION
    },
    OptionDef {
        name: "kill-after",
        letters: &['k'],
        commands: &[Run],
        value: Some(("DUR", Kind::Time)),
        help: "Kill it if it runs this long beyond --limit",
        refines: Some("limit"),
        set: Set::Run(|run, value| put(&mut run.kill_after, Some(value.time()?))),
        ..OPTION
    },
    OptionDef {
        name: "signal",
        commands: &[Run],
        value: Some(("SIG", Kind::Signal)),
        preset: Preset::Value("TERM"),
        help: "Signal to send when --limit expires",
        refines: Some("limit"),
        set: Set::Run(|run, value| put(&mut run.signal, value.signal()?)),
        ..OPTION
    },
    OptionDef {
        name: "signal",
        commands: &[Stop],
        value: Some(("SIG", Kind::Signal)),
        preset: Preset::Value("TERM"),
        help: "Signal to send",
        set: Set::Stop(|stop, value| put(&mut stop.signal, value.signal()?)),
        ..OPTION
    },
    OptionDef {
        name: "kill-after",
        letters: &['k'],
        commands: &[Stop],
        value: Some(("DUR", Kind::Time)),
        help: "Send KILL if the command still runs after this time",
        more: "The next holder is then told that this one crashed.\nIt has to be shorter than -t.",
        set: Set::Stop(|stop, value| put(&mut stop.kill_after, Some(value.time()?))),
        ..OPTION
    },
    OptionDef {
        name: "show-args",
        commands: &[Run],
        help: "Show the command's arguments to others, or the text of -c",
        conflicts: Some(Conflict {
            with: &["message"],
            why: "--show-args and --{} both say what others are shown: choose one",
        }),
        set: Set::Run(|run, _| put(&mut run.show_args, true)),
        ..OPTION
    },
    OptionDef {
        name: "no-fork",
        letters: &['F'],
        commands: &[Run],
        help: "Execute the command in this process",
        more: "No process is left to release the lock when the command ends: the next request, or one that is already \
               waiting, notices.",
        needs: needs(Need::Processes, "no process would be left to keep the lock"),
        conflicts: Some(Conflict {
            with: &["limit", "kill-after", "signal", "until"],
            why: "-F leaves no process behind for --{}: choose one",
        }),
        set: Set::Run(|run, _| put(&mut run.no_fork, true)),
        ..OPTION
    },
    OptionDef {
        name: "until",
        commands: &[Run],
        value: Some(("WHAT", Kind::OneOf(&["command", "tree"]))),
        preset: Preset::Value("command"),
        help: "When to release: command = when it exits; tree = when all its descendants have, too",
        set: Set::Run(|run, value| {
            let until = if value.is("tree") { Until::Tree } else { Until::Command };
            put(&mut run.until, until)
        }),
        ..OPTION
    },
    OptionDef {
        name: "once-every",
        commands: &[Run],
        value: Some(("DUR", Kind::Time)),
        help: "Run only if no run with this option that began less than DUR ago has succeeded",
        more: "Less a tenth of DUR, so that a daily job may say 1d and begin a little earlier than the day before.\nOtherwise the \
               status is that of a lock that is taken: 75, or -E.\nA run that fails does not count, so the next host, or the next \
               try, does the job: don't use -n then.\nSee ONCE PER PERIOD.",
        conflicts: Some(Conflict {
            with: &["no-fork", "same-process-ok"],
            why: "--once-every is for a run that sees its command end, and has the lock to itself: not together with --{}",
        }),
        set: Set::Run(|run, value| put(&mut run.once_every, Some(value.positive_time()?))),
        ..OPTION
    },
    OptionDef {
        name: "hold-at-least",
        commands: &[Run],
        value: Some(("DUR", Kind::Time)),
        help: "Keep the lock taken until DUR after it was acquired",
        more: "Also if the command ends sooner, or fails: this program exits with its status at once, and the lock is released when \
               the time is over, or by unget.\nIf the command cannot be started, or this program is killed, it is not kept.\n\
               The locks of --with are released with the command's end.",
        needs: needs(
            Need::Detached,
            "the lock ends with the connection; for a job that is to run once, see --once-every",
        ),
        conflicts: Some(Conflict {
            with: &["no-fork", "same-process-ok"],
            why: "--hold-at-least is for a run that releases its own lock: not together with --{}",
        }),
        set: Set::Run(|run, value| put(&mut run.hold_at_least, Some(value.positive_time()?))),
        ..OPTION
    },
    OptionDef {
        name: "replace",
        commands: &[Run],
        help: "Ask the holder to terminate, then wait",
        more: "It sends TERM to the command of a holder started by run; other holders are waited for.\nIf several wait with \
               --replace, the newest alone goes on waiting; the others exit with status 75 (or -E).\nCannot be combined \
               with -n.",
        needs: needs(Need::Local, "the holder may run on another machine"),
        set: Set::Run(|run, _| put(&mut run.replace, true)),
        ..OPTION
    },
    OptionDef {
        name: "on-abandoned",
        commands: &[Run],
        value: Some(("WHAT", Kind::OneOf(&["run", "fail"]))),
        preset: Preset::Value("run"),
        help: "If the previous holder died: run the command, or fail with status 65",
        needs: needs(Need::Abandoned, "it does not report that the previous holder died"),
        set: Set::Run(|run, value| {
            let on_abandoned = if value.is("fail") {
                OnAbandoned::Fail
            } else {
                OnAbandoned::Run
            };
            put(&mut run.on_abandoned, on_abandoned)
        }),
        ..OPTION
    },
    OptionDef {
        name: "recover",
        commands: &[Run],
        value: Some(("CMD", Kind::Command)),
        help: "If the previous holder died: run CMD first",
        needs: needs(Need::Abandoned, "it does not report that the previous holder died"),
        set: Set::Run(|run, value| put(&mut run.recover, Some(value.os()))),
        ..OPTION
    },
    OptionDef {
        name: "ttl",
        commands: &[Run],
        value: Some(("DUR", Kind::Time)),
        preset: Preset::Said("10s"),
        help: "Length of the lease on an engine, at least 5s",
        needs: needs(
            Need::Lease,
            "only engines (--backend) have leases; a lock of this machine lasts as long as its command",
        ),
        set: Set::Run(|run, value| put(&mut run.ttl, Some(value.positive_time()?))),
        ..OPTION
    },
    OptionDef {
        name: "close",
        letters: &['o'],
        commands: &[Run],
        help: "As in flock(1); has no effect",
        hidden: true,
        ..OPTION
    },
    OptionDef {
        name: "auto-unget",
        letters: &['a'],
        commands: &[Get],
        ignored_by: &[Unget, State, Trace],
        value: Some(("SECS", Kind::Time)),
        help: "Hold it for this time, then release and exit",
        set: Set::Get(|get, value| put(&mut get.auto_unget, Some(value.positive_time()?))),
        ..OPTION
    },
    OptionDef {
        name: "pid",
        commands: &[Get],
        value: Some(("PID", Kind::Process)),
        help: "Hold the lock for this process, until it ends",
        needs: needs(
            Need::Processes,
            "it does not know this machine's processes; use run, or --ttl",
        ),
        set: Set::Get(|get, value| {
            let pid: NonZeroU32 = value.parse("a process ID")?;
            put(&mut get.pid, Some(pid.get()))
        }),
        ..OPTION
    },
    OptionDef {
        name: "must-unget",
        commands: &[Get],
        help: "With --pid: if the process ends without unget, it counts as crashed",
        more: "The next holder is told that the lock was abandoned, as after a death. Otherwise the end of the process is the \
               hold's ordinary end. In a script, together with a trap that releases the lock.",
        refines: Some("pid"),
        set: Set::Get(|get, _| put(&mut get.must_unget, true)),
        ..OPTION
    },
    OptionDef {
        name: "ttl",
        commands: &[Get],
        value: Some(("DUR", Kind::Time)),
        help: "Release the lock automatically after this time",
        set: Set::Get(|get, value| put(&mut get.ttl, Some(value.positive_time()?))),
        ..OPTION
    },
    OptionDef {
        name: "forever",
        commands: &[Get],
        help: "Hold it until unget (engines with leases)",
        conflicts: Some(Conflict {
            with: &["ttl", "auto-unget"],
            why: "--forever and --{} contradict each other",
        }),
        set: Set::Get(|get, _| put(&mut get.forever, true)),
        ..OPTION
    },
    OptionDef {
        name: "message",
        letters: &['m'],
        commands: &[Unget],
        value: Some(("TEXT", Kind::Text)),
        preset: Preset::Value("cli"),
        help: "For the log: where the lock is released",
        set: Set::Message,
        ..OPTION
    },
    OptionDef {
        name: "pid",
        commands: &[Unget],
        value: Some(("PID", Kind::Process)),
        help: "Release only a hold for this process",
        needs: needs(
            Need::Processes,
            "it does not know this machine's processes; use --token",
        ),
        set: Set::Unget(|unget, value| {
            let pid: NonZeroU32 = value.parse("a process ID")?;
            put(&mut unget.pid, Some(pid.get()))
        }),
        ..OPTION
    },
    OptionDef {
        name: "token",
        commands: &[Unget],
        value: Some(("N", Kind::Number)),
        help: "Release only the hold with this token",
        conflicts: Some(Conflict {
            with: &["pid"],
            why: "--token and --{} both say which hold: choose one",
        }),
        set: Set::Unget(|unget, value| put(&mut unget.token, Some(value.parse("a token, which is a whole number")?))),
        ..OPTION
    },
    OptionDef {
        name: "token",
        commands: &[Stop],
        value: Some(("N", Kind::Number)),
        help: "End only the command of the hold with this token",
        set: Set::Stop(|stop, value| put(&mut stop.token, Some(value.parse("a token, which is a whole number")?))),
        ..OPTION
    },
    OptionDef {
        name: "mine",
        commands: &[State],
        help: "With -q: exit 0 only if this job holds the lock",
        set: Set::State(|state, _| put(&mut state.mine, true)),
        ..OPTION
    },
    OptionDef {
        name: "update",
        letters: &['u'],
        commands: &[Trace],
        ignored_by: &[Get, Unget, State],
        value: Some(("SECS", Kind::Time)),
        preset: Preset::Value("0.5"),
        help: "Interval at which to print the state",
        set: Set::Trace(|trace, value| put(&mut trace.update, value.time()?)),
        ..OPTION
    },
    OptionDef {
        name: "follow",
        letters: &['f'],
        commands: &[Trace],
        help: "Print only changes, as they happen",
        conflicts: Some(Conflict {
            with: &["update"],
            why: "-f prints changes as they happen, --{} prints at intervals: choose one",
        }),
        set: Set::Trace(|trace, _| put(&mut trace.follow, true)),
        ..OPTION
    },
    OptionDef {
        name: "last",
        letters: &['n'],
        late_letters: true,
        commands: &[History],
        value: Some(("N", Kind::Number)),
        help: "Only the last N",
        set: Set::History(|history, value| put(&mut history.last, Some(value.parse("a number")?))),
        ..OPTION
    },
    OptionDef {
        name: "since",
        commands: &[History],
        value: Some(("TIME", Kind::Text)),
        help: "Only what ended since: 2h, 22:00, 'yesterday 22:00', 2026-11-28",
        more: "A duration counts back from now. \
               A time without a date is the last time it was that late; a date without a time is its midnight. \
               RFC 3339, as in JSON, is understood, too.",
        set: Set::History(|history, value| put(&mut history.since, Some(value.past()?))),
        ..OPTION
    },
    OptionDef {
        name: "failed",
        commands: &[History],
        help: "Only what did not go well",
        more: "A status other than 0, a crash, a limit, a hold that was not released in order, a request that was not granted.",
        set: Set::History(|history, _| put(&mut history.failed, true)),
        ..OPTION
    },
    OptionDef {
        name: "svg",
        commands: &[History],
        value: Some(("FILE", Kind::File)),
        help: "Write a timeline as an SVG picture",
        set: Set::History(|history, value| put(&mut history.svg, Some(value.os().into()))),
        ..OPTION
    },
    OptionDef {
        name: "html",
        commands: &[History],
        value: Some(("FILE", Kind::File)),
        help: "Write a timeline as an HTML page",
        set: Set::History(|history, value| put(&mut history.html, Some(value.os().into()))),
        ..OPTION
    },
    OptionDef {
        name: "force",
        commands: &[Remove],
        help: "Remove it even if in use: its holder continues unprotected",
        set: Set::Remove(|remove, _| put(&mut remove.force, true)),
        ..OPTION
    },
    OptionDef {
        name: "idle",
        commands: &[Prune],
        value: Some(("DUR", Kind::Time)),
        preset: Preset::Value("1d"),
        help: "Remove locks that have not been used for this time; 0 = all idle ones",
        set: Set::Prune(|prune, value| put(&mut prune.idle, value.time()?)),
        ..OPTION
    },
    OptionDef {
        name: "dry-run",
        commands: &[Prune],
        help: "Only say what would be removed",
        set: Set::Prune(|prune, _| put(&mut prune.dry_run, true)),
        ..OPTION
    },
    OptionDef {
        name: "prometheus",
        commands: &[List],
        help: "Print metrics for node_exporter's textfile collector",
        conflicts: Some(Conflict {
            with: &["json"],
            why: "--prometheus and --{} are two formats: choose one",
        }),
        set: Set::List(|list, _| put(&mut list.prometheus, true)),
        ..OPTION
    },
    OptionDef {
        name: "fix",
        commands: &[Doctor],
        help: "Fix what is safe to fix",
        set: Set::Doctor(|doctor, _| put(&mut doctor.fix, true)),
        ..OPTION
    },
    OptionDef {
        name: "json",
        commands: &[Get, Unget, State, Trace, History, Prune, List, Doctor],
        help: "Print JSON (see docs/json.md)",
        set: Set::Json,
        ..OPTION
    },
    OptionDef {
        name: "quiet",
        letters: &['q'],
        commands: &Command::ALL,
        help: "Print no messages",
        set: Set::Common(|common, _| put(&mut common.quiet, true)),
        ..OPTION
    },
    OptionDef {
        name: "verbose",
        letters: &['v'],
        commands: &Command::ALL,
        counted: true,
        help: "Log to stderr (-vv: in detail; RESOURCELOCK_LOG)",
        set: Set::Common(|common, _| {
            common.verbose = common.verbose.saturating_add(1);
            Ok(())
        }),
        ..OPTION
    },
    OptionDef {
        name: "syslog",
        commands: &[Run, Get, Unget],
        help: "Log grants, ends and refusals to journald or syslog",
        more: "The same as RESOURCELOCK_SYSLOG=1: see ENVIRONMENT.",
        set: Set::Common(|common, _| put(&mut common.syslog, true)),
        ..OPTION
    },
    OptionDef {
        name: "backend",
        commands: &Command::ALL,
        value: Some(("URL", Kind::Text)),
        help: "Use an engine's locks (RESOURCELOCK_BACKEND)",
        more: "See LOCKS ACROSS MACHINES.",
        set: Set::Common(|common, value| put(&mut common.backend, Some(value.text()?))),
        ..OPTION
    },
];

/// The options that `command` has; all of them, if it is not known yet.
pub fn options_of(command: Option<Command>) -> impl Iterator<Item = &'static OptionDef> + Clone {
    OPTIONS
        .iter()
        .filter(move |option| command.is_none_or(|command| option.commands.contains(&command)))
}

impl OptionDef {
    /// True if it may be typed with `command`, or with any command if that is not known yet.
    pub fn is_accepted_by(&self, command: Option<Command>) -> bool {
        command.is_none_or(|command| self.commands.contains(&command) || self.ignored_by.contains(&command))
    }

    fn is_ignored_by(&self, command: Option<Command>) -> bool {
        command.is_some_and(|command| self.ignored_by.contains(&command))
    }

    /// The letters that may be typed for it with `command`.
    pub fn letters_for(&self, command: Option<Command>) -> &'static [char] {
        match self.letters {
            _ if self.late_letters && command.is_none() => &[],
            [first, ..] if self.is_ignored_by(command) => std::slice::from_ref(first),
            letters => letters,
        }
    }

    /// The names that may be typed for it with `command`, without dashes.
    pub fn names_for(&self, command: Option<Command>) -> impl Iterator<Item = &'static str> + use<> {
        let aliases = if self.is_ignored_by(command) { &[] } else { self.aliases };
        std::iter::once(self.name).chain(aliases.iter().copied())
    }

    /// True if its value may contain spaces.
    pub fn takes_text(&self) -> bool {
        matches!(
            self.value,
            Some((
                _,
                Kind::Text | Kind::Command | Kind::File | Kind::Group | Kind::User | Kind::Lock
            ))
        )
    }

    /// The value that applies to `command` if none is given.
    pub fn preset_for(&self, command: Command) -> Option<&'static str> {
        match self.preset {
            Preset::Value(value) => Some(value),
            Preset::ValueFor(values) => values
                .iter()
                .find(|(whose, _)| *whose == command)
                .map(|(_, value)| *value),
            Preset::None | Preset::Said(_) => None,
        }
    }

    /// Its help with `command`, the default included.
    pub fn help_for(&self, command: Command) -> String {
        let default = match self.preset {
            Preset::Said(value) => Some(value),
            _ => self.preset_for(command),
        };
        match default {
            Some(default) => format!("{} (default: {default})", self.help),
            None => self.help.to_owned(),
        }
    }

    /// Puts `value` into its field of `common` or `task`. If the task ignores the option, the value is only checked.
    pub fn store(&self, common: &mut Common, task: &mut Task, value: &Value<'_>) -> Stored {
        if let Some((_, Kind::OneOf(words))) = self.value
            && !words.iter().any(|word| value.is(word))
        {
            return Err(format!("use {}", words.join(" or ")));
        }
        match (&self.set, task) {
            (Set::Common(set), _) => set(common, value),
            (Set::Request(set), Task::Run(run)) => set(&mut run.request, value),
            (Set::Request(set), Task::Get(get)) => set(&mut get.request, value),
            (Set::Run(set), Task::Run(run)) => set(run, value),
            (Set::Get(set), Task::Get(get)) => set(get, value),
            (Set::Unget(set), Task::Unget(unget)) => set(unget, value),
            (Set::Stop(set), Task::Stop(stop)) => set(stop, value),
            (Set::State(set), Task::State(state)) => set(state, value),
            (Set::Trace(set), Task::Trace(trace)) => set(trace, value),
            (Set::History(set), Task::History(history)) => set(history, value),
            (Set::Remove(set), Task::Remove(remove)) => set(remove, value),
            (Set::Prune(set), Task::Prune(prune)) => set(prune, value),
            (Set::List(set), Task::List(list)) => set(list, value),
            (Set::Doctor(set), Task::Doctor(doctor)) => set(doctor, value),
            (Set::Wait, Task::Run(run)) => put(&mut run.request.wait, value.wait()?),
            (Set::Wait, Task::Get(get)) => put(&mut get.request.wait, value.wait()?),
            (Set::Wait, Task::Stop(stop)) => put(&mut stop.wait, value.wait()?),
            (Set::Message, Task::Run(run)) => put(&mut run.message, Some(value.lossy())),
            (Set::Message, Task::Get(get)) => put(&mut get.message, value.lossy()),
            (Set::Message, Task::Unget(unget)) => put(&mut unget.message, value.lossy()),
            (Set::Json, Task::Get(get)) => put(&mut get.json, true),
            (Set::Json, Task::Unget(unget)) => put(&mut unget.json, true),
            (Set::Json, Task::State(state)) => put(&mut state.json, true),
            (Set::Json, Task::Trace(trace)) => put(&mut trace.json, true),
            (Set::Json, Task::History(history)) => put(&mut history.json, true),
            (Set::Json, Task::Prune(prune)) => put(&mut prune.json, true),
            (Set::Json, Task::List(list)) => put(&mut list.json, true),
            (Set::Json, Task::Doctor(doctor)) => put(&mut doctor.json, true),
            _ if matches!(self.value, Some((_, Kind::Time))) => value.wait().map(drop),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values;
    use crate::exit::Exit;
    use resourcelock::engines::USUAL_TTL;
    use std::ffi::OsStr;

    #[test]
    fn options_refer_to_others_of_the_same_command() {
        for option in OPTIONS {
            let conflicts = option.conflicts.as_ref().map_or(&[][..], |conflict| conflict.with);
            for other in conflicts.iter().chain(&option.refines) {
                for command in option.commands {
                    assert!(
                        options_of(Some(*command)).any(|option| option.name == *other),
                        "{}: {command:?} has no --{other}",
                        option.name
                    );
                }
            }
            for command in option.ignored_by {
                assert!(!option.commands.contains(command), "{}", option.name);
            }
        }
    }

    #[test]
    fn defaults_are_valid() {
        for command in Command::ALL {
            for option in options_of(Some(command)) {
                if let Some(preset) = option.preset_for(command) {
                    let mut task = Task::new(command, None);
                    let stored = option.store(&mut Common::default(), &mut task, &Value(OsStr::new(preset)));
                    assert_eq!(stored, Ok(()), "{}", option.name);
                }
            }
        }
    }

    /// Defaults that are applied elsewhere are what help says.
    #[test]
    fn defaults_elsewhere() {
        let said = |name: &str| {
            let preset = OPTIONS
                .iter()
                .find(|option| option.name == name)
                .map(|option| option.preset);
            match preset {
                Some(Preset::Said(said)) => said,
                other => panic!("{name}: {other:?}"),
            }
        };
        assert_eq!(values::duration(said("ttl")), Ok(USUAL_TTL));
        assert_eq!(said("conflict-exit-code"), Exit::NotAcquired(None).status().to_string());
    }
}
