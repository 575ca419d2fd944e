//! Entry points for fuzzing: what any words, any environment and any table can do to this program. The tests below try a
//! limited number of inputs; the target `program` in `fuzz/` compiles this file with the modules that it examines, and
//! explores without limit. (What the library reads has its own entry points, in `src/lock/testing/fuzzing.rs`.)

use crate::cli::{self, Invocation, Offer, Parsed, Task};
use crate::commands::support::job::{HELD, Job};
use crate::output::past::Past;
use crate::output::{self, Style, metrics, text, timeline::Timeline, top, view};
use chrono::DateTime;
use resourcelock::system::{disturbs, printable};
use resourcelock::{Change, HistoryRecord, LockName, State, Wait};
use serde_json::Value;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse(words: Vec<OsString>) -> Option<Invocation> {
    match cli::parse(words) {
        Ok(Parsed::Invocation(invocation)) => Some(invocation),
        Ok(Parsed::Text(help)) => {
            assert!(!help.to_string().is_empty());
            None
        }
        Err(usage) => {
            assert!(!usage.to_string().is_empty());
            None
        }
    }
}

/// `bytes` as the value of each option that has to understand what it is given: a time, a number, a signal, a mode. What is
/// accepted can be calculated with.
pub fn values(bytes: &[u8]) {
    let value = OsStr::from_bytes(bytes);
    let given = |command: &str, option: &str| {
        let mut option = OsString::from(option);
        option.push("=");
        option.push(value);
        parse(vec!["x".into(), command.into(), option, "--".into(), "true".into()])
    };
    let fits = |time: Duration| {
        assert!(Instant::now().checked_add(time).is_some(), "{time:?}");
        assert!(!output::duration(time).is_empty());
    };
    for option in [
        "--timeout",
        "--limit",
        "--kill-after",
        "--ttl",
        "--signal",
        "--slots",
        "--mode",
        "--conflict-exit-code",
    ] {
        let Some(Invocation {
            task: Task::Run(run),
            common,
            ..
        }) = given("run", option)
        else {
            continue;
        };
        [run.limit, run.kill_after, run.ttl]
            .into_iter()
            .flatten()
            .for_each(fits);
        if let Wait::For(time) = run.request.wait {
            fits(time);
        }
        assert!((1..=libc::SIGRTMAX()).contains(&run.signal), "{}", run.signal);
        assert!(
            common
                .access
                .mode
                .is_none_or(|mode| mode <= 0o777 && mode & 0o600 == 0o600)
        );
    }
}

/// `bytes` as the words of a command line, one in each line: something to do, or a refusal. The same while they are being
/// typed, to be completed. In bash's quotes, what is offered means what was wanted.
pub fn command_line(bytes: &[u8]) {
    let words: Vec<OsString> = bytes
        .split(|b| *b == b'\n')
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect();
    if let Some(invocation) = parse(words.clone()) {
        assert_eq!(
            invocation.lacks(|_| true),
            None,
            "nothing is lacking where everything is there"
        );
    }
    let offered = match cli::offer(&words) {
        Offer::Words(candidates) | Offer::Locks(candidates) => candidates,
        Offer::CommandLine(first) => {
            assert!(
                first < words.len(),
                "the command begins at word {first} of {}",
                words.len()
            );
            Vec::new()
        }
        _ => Vec::new(),
    };
    let kept = lossy(words.first().map(|word| word.as_bytes()).unwrap_or_default());
    let meant = cli::bash_meaning(&kept);
    for candidate in offered {
        assert!(
            !candidate.word.contains(disturbs) && !candidate.about.contains(disturbs),
            "{candidate:?}"
        );
        let wanted = format!("{meant}{}", candidate.word);
        let Some(rest) = cli::bash_replacement(&kept, &wanted) else {
            assert!(kept.ends_with('\\'), "{wanted:?} begins with {kept:?}");
            continue;
        };
        assert_eq!(
            cli::bash_meaning(&format!("{kept}{rest}")),
            wanted,
            "{kept:?} and {rest:?}"
        );
    }
    let word = cli::quoted(OsString::from_vec(bytes.to_vec()));
    assert!(!word.contains(disturbs), "{word}");
}

/// `bytes` as `RESOURCELOCK_HELD`, up to the first NUL, and a lock's name and table behind it: a job claims no hold that the
/// lock does not show, and what it acquires is found again.
pub fn held(bytes: &[u8]) {
    let (held, lock) = split(bytes);
    let job = Job::new(lossy(held));
    let Ok(name) = LockName::new("a") else { return };
    let token = 7;
    for remote in [false, true] {
        let environment = job.environment(&[(&name, token, false)], remote);
        let held = environment.into_iter().find(|(variable, _)| *variable == HELD);
        let held = held.and_then(|(_, held)| held?.into_string().ok()).expect("it is set");
        assert!(Job::new(held).mentions(&name, remote), "the hold is in the list");
    }
    if let Some((state, _)) = seen(lock) {
        let shown = |token: &u64| {
            state
                .holders
                .iter()
                .any(|holder| holder.alive && holder.token == Some(*token))
        };
        assert!(job.holds(&state, false).iter().all(shown));
        assert!(
            job.holds(&state, true).is_empty(),
            "this machine's lock is none of an engine"
        );
    }
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// What is seen of a lock: its name up to the first NUL, its semaphore's word, its table.
fn seen(bytes: &[u8]) -> Option<(State, Vec<HistoryRecord>)> {
    let (name, objects) = split(bytes);
    resourcelock::fuzzing::seen(&LockName::new(lossy(name)).ok()?, objects)
}

/// A lock with any name and any table as text: nothing in it disturbs a reader.
pub fn shown_as_text(bytes: &[u8]) {
    let Some((state, history)) = seen(bytes) else { return };
    let mut past = Past::default();
    past.add(state.name.as_str(), Some(state.clone()), history.clone());
    let mut texts = vec![
        text::state(&state, Style::default()),
        text::trace(&state),
        text::history(&past, false, false, Some(80)),
        text::history(&past, true, false, None),
        output::waiting(&state),
        output::brief(&state),
        output::refusal(&state, "more"),
    ];
    let waiters = state.waiters.iter().cloned().map(Change::Queued);
    let holders = state.holders.iter().cloned().map(Change::Granted);
    let ends = history.iter().cloned().map(Change::Ended);
    texts.extend(waiters.chain(holders).chain(ends).map(|change| text::event(&change)));
    let now = Instant::now();
    let board = top::Board {
        place: "this machine".to_owned(),
        rows: vec![top::Row::new(&state, now).into()],
        trouble: None,
        detail: None,
    };
    let rows: Vec<&top::Row> = board.rows.iter().map(|row| &**row).collect();
    let choice = top::Choice {
        filter: "",
        typing: false,
        chosen: 0,
        first: 0,
    };
    let detail = top::Detail::new(state.name.as_str(), Some(&state), history.clone(), None);
    for size in [(80, 24), (200, 400), (9, 3)] {
        let lines = top::overview(&board, &rows, choice, size, now).into_iter();
        texts.extend(
            lines
                .chain(top::one_lock(&board, &detail, 0, size))
                .map(|line| line.text),
        );
    }
    texts.push(text::list(&[state], &[], Some(80)));
    for text in texts {
        assert!(!text.replace('\n', "").contains(disturbs), "{text:?}");
    }
}

/// The same as JSON: it can be read back, with the name as it is, times that are times, and no negative durations.
pub fn shown_as_json(bytes: &[u8]) {
    let Some((state, history)) = seen(bytes) else { return };
    let read_back = |json: serde_json::Result<String>| -> Value {
        serde_json::from_str(&json.expect("it can be written")).expect("it can be read")
    };
    let name = state.name.as_str();
    let whole = read_back(serde_json::to_string(&view::LockView::from(&state)));
    assert_eq!(whole["lock"], name);
    assert_plausible(&whole);
    let mut past = Past::default();
    past.add(name, Some(state.clone()), history.clone());
    let records = view::HistoryView::new(&past.locks[0], &past);
    let records = read_back(serde_json::to_string(&records));
    assert_eq!(records["records"].as_array().map(Vec::len), Some(history.len()));
    assert_plausible(&records);
    for record in history {
        assert_plausible(&read_back(serde_json::to_string(&view::EventView::new(
            name,
            &Change::Ended(record),
        ))));
    }
}

fn assert_plausible(value: &Value) {
    match value {
        Value::Array(values) => values.iter().for_each(assert_plausible),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    (_, Value::Null) => {}
                    ("since" | "queued" | "granted" | "ended" | "read_at" | "at", time) => {
                        let time = time.as_str().expect("a time is text");
                        assert!(DateTime::parse_from_rfc3339(time).is_ok(), "{key}: {time}");
                    }
                    (key, seconds) if key.ends_with("_seconds") => {
                        assert!(
                            seconds.as_f64().is_some_and(|seconds| seconds >= 0.0),
                            "{key}: {seconds}"
                        );
                    }
                    (_, value) => assert_plausible(value),
                }
            }
        }
        _ => {}
    }
}

/// The same as metrics: lines that a collector reads, each sample once, also beside a lock whose name looks like this one
/// escaped.
pub fn shown_as_metrics(bytes: &[u8]) {
    let Some((state, _)) = seen(bytes) else { return };
    let mut states = vec![state];
    if let Ok(name) = LockName::new(printable(states[0].name.as_str()))
        && name != states[0].name
    {
        let mut other = states[0].clone();
        other.name = name;
        states.push(other);
    }
    let text = metrics::prometheus(&states, 1, true);
    let (mut described, mut samples) = (HashSet::new(), HashSet::new());
    let mut current = None;
    assert!(
        text.ends_with('\n') && !text.replace('\n', "").contains(disturbs),
        "{text:?}"
    );
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("what it means");
            assert!(described.insert(name) && !help.contains('\\'), "{line}");
            current = Some(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("its type");
            assert!(current == Some(name) && ["gauge", "counter"].contains(&kind), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(
                value.parse().is_ok_and(|value: f64| value.is_finite() && value >= 0.0),
                "{line}"
            );
            assert!(samples.insert(series), "twice: {line}");
            let (name, label) = series.split_once('{').unwrap_or((series, "lock=\"\"}"));
            assert!(current == Some(name), "{line}");
            let label = label
                .strip_prefix("lock=\"")
                .and_then(|label| label.strip_suffix("\"}"));
            assert_label_value(label.expect("one label"));
        }
    }
}

/// A label's value, between its quotes: a backslash stands before a backslash, a quote, or the n of a line break.
fn assert_label_value(value: &str) {
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        assert_ne!(letter, '"', "{value}");
        if letter == '\\' {
            let escaped = letters.next();
            assert!(escaped.is_some_and(|letter| "\\\"n".contains(letter)), "{value}");
        }
    }
}

/// The same as a picture: well-formed XML, alone and in a page, in which everything has its place.
pub fn drawn(bytes: &[u8]) {
    let Some((state, history)) = seen(bytes) else { return };
    let name = state.name.as_str();
    let mut past = Past::default();
    past.add(name, Some(state.clone()), history);
    // As one of several, too.
    let _ = Timeline::new(None, &past).html();
    let timeline = Timeline::new(Some(name), &past);
    let (svg, html) = (timeline.svg(), timeline.html());
    let picture = roxmltree::Document::parse(&svg).expect("well-formed XML");
    for element in picture.descendants().filter(roxmltree::Node::is_element) {
        for attribute in ["x", "y", "x1", "y1", "x2", "y2", "width", "height"] {
            if let Some(number) = element.attribute(attribute) {
                let number: f64 = number.parse().expect("a number");
                let smallest = if attribute == "width" || attribute == "height" {
                    0.0
                } else {
                    -10.0
                };
                assert!(number.is_finite() && number >= smallest, "{attribute}={number}");
            }
        }
    }
    let title = picture
        .descendants()
        .find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "title")));
    let shown = printable(name).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    assert_eq!(
        title.and_then(|title| title.text()),
        Some(format!("{shown}: who waited, who held").as_str())
    );
    // HTML's `meta` has no end; from the title on, the page is XML as well.
    let page = format!("<html>{}", &html[html.find("<title>").expect("a title")..]);
    let page = roxmltree::Document::parse(&page).expect("well-formed XML");
    let requests = picture
        .descendants()
        .filter(|node| node.attribute("class") == Some("request"))
        .count();
    assert_eq!(
        page.descendants().filter(|node| node.has_tag_name("li")).count(),
        requests
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use resourcelock::{GetOptions, Mode, ResourceLock};
    use std::fs;
    use std::sync::LazyLock;

    fn settings() -> ProptestConfig {
        ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    /// A semaphore's word and the table of a lock that was used, is held, and is waited for no more.
    fn real_table() -> Vec<u8> {
        let name = format!("test-program-fuzz-{}", std::process::id());
        let lock = ResourceLock::open(&name).unwrap();
        for command in ["first", "<&\"'>"] {
            lock.acquire_with(&GetOptions::new().command(command))
                .unwrap()
                .unwrap()
                .release()
                .unwrap();
        }
        let held = lock
            .acquire_with(&GetOptions::new().mode(Mode::Shared))
            .unwrap()
            .unwrap();
        let other = ResourceLock::open(&name).unwrap();
        assert!(other.try_acquire().unwrap().is_none());
        let paths = LockName::new(&name).unwrap();
        let mut bytes = fs::read(paths.semaphore_path()).unwrap();
        bytes.truncate(8);
        bytes.extend(fs::read(paths.table_path()).unwrap());
        drop(held);
        resourcelock::remove(&name, true).unwrap();
        bytes
    }

    /// The real table with random bytes in it: most of them where its words and its first records are.
    fn tables() -> impl Strategy<Value = Vec<u8>> {
        const TRUSTED: usize = 8 + 16;
        static REAL: LazyLock<Vec<u8>> = LazyLock::new(real_table);
        let real = &*REAL;
        let island = || prop_oneof![vec(any::<u8>(), 1..16), vec(any::<u8>(), 200..3000)];
        let places = vec((prop_oneof![0..8192_usize, 0..real.len() - TRUSTED], island()), 0..12);
        (any::<u64>(), any::<bool>(), places).prop_map(move |(word, other_word, places)| {
            let mut bytes = real.clone();
            if other_word {
                bytes[..8].copy_from_slice(&word.to_le_bytes());
            }
            for (at, island) in places {
                let rest = &mut bytes[TRUSTED + at..];
                let length = rest.len().min(island.len());
                rest[..length].copy_from_slice(&island[..length]);
            }
            bytes
        })
    }

    /// A lock's name, a NUL, a table.
    fn locks() -> impl Strategy<Value = Vec<u8>> {
        let names = r#"(\PC|[&<>"'\\{}u \u{200b}\u{202e}\u{fffe}]){1,20}"#;
        (names, tables()).prop_map(|(name, table)| [name.as_bytes(), &[0], &table].concat())
    }

    proptest! {
        #![proptest_config(settings())]

        #[test]
        fn any_value(text in "\\PC{0,20}|[-+0-9._e wdhms]{0,12}|(SIG)?[A-Z]{2,6}[-+]?[0-9]{0,10}") {
            values(text.as_bytes());
        }

        #[test]
        fn any_bytes_as_a_value(bytes in vec(any::<u8>(), 0..40)) {
            values(&bytes);
        }

        #[test]
        fn any_command_line(words in vec(
            "run|get|unget|state|list|history|doctor|completions|help|bash|x|--|-[a-zA-Z]{1,3}|--[a-z-]{1,12}=?|-\\PC{0,5}|\\PC{0,12}|['\"\\\\!~a=:@-]{0,6}",
            0..10,
        )) {
            command_line(words.join("\n").as_bytes());
        }

        #[test]
        fn any_bytes_as_a_command_line(bytes in vec(any::<u8>(), 0..200)) {
            command_line(&bytes);
        }

        #[test]
        fn any_list_of_holds(held in "([0-9]{0,21}@?[0-9]{0,6}@?\\PC{0,4}[:/]a?/?){0,6}", lock in locks()) {
            self::held(&[held.as_bytes(), &[0], &lock].concat());
        }

        #[test]
        fn any_table_as_text(lock in locks()) {
            shown_as_text(&lock);
        }

        #[test]
        fn any_table_as_json(lock in locks()) {
            shown_as_json(&lock);
        }

        #[test]
        fn any_table_as_metrics(lock in locks()) {
            shown_as_metrics(&lock);
        }

        #[test]
        fn any_table_as_a_picture(lock in locks()) {
            drawn(&lock);
        }
    }
}
