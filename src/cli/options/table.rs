//! The table of all options.

use super::{Conflict, Kind, Need, OptionDef, Preset, Requirement, Set, Stored, put};
use crate::cli::args::{Name, OnAbandoned, Payload, RunArgs, Until};
use crate::cli::command::Command::{
    self, Doctor, Get, History, List, Prune, Remove, Run, State, Stop, Top, Trace, Unget,
};
use crate::cli::values::Value;
use resourcelock::{Mode, Wait};
use std::num::NonZeroU32;

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
        help: "At every Nth skip in a row, say so and exit with 75; on etcd, only runs with this option reset the count",
        more: "A skip is a run with this option that does not acquire the lock in time. The others print nothing, \
               whatever status -E gives, unless -v is given.\nThe count begins anew when a run of NAME ends with status \
               0: any run on this machine, one with this option on etcd.\nA run that is not due (--once-every) is no skip.",
        needs: needs(Need::Skips, "it does not count skipped runs"),
        refines: Some("conflict-exit-code"),
        conflicts: Some(Conflict {
            with: &["no-fork"],
            why: "--max-skips is for a run that sees its command end: not together with --{}",
        }),
        set: Set::Run(|run, value| {
            let skips: NonZeroU32 = value.parse("a whole number greater than 0")?;
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
            let slots: NonZeroU32 = value.parse("a whole number greater than 0")?;
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
