//! `completions SHELL`: prints the committed script, so that a package and a home directory get the same one.
//!
//! The scripts call `completions SHELL -- WORD…`, where the WORDs are those of the command line up to the cursor,
//! without the program's own name. The answer's first line says what can be completed: `words` (they follow), `command N`
//! (from word N on, it is another program's command line), `program`, `file`, `group`, `user`, `process`, or `nothing`. Then come
//! the words, one per line, each with a tab and its meaning. Bash passes its words still quoted, and the last one in two
//! parts: what stays, and what is replaced. It gets the replacements, quoted. A lock's name contains neither tabs nor
//! line breaks.

use super::Failure;
use super::access::Access;
use super::backend::VARIABLE;
use super::list::with_reasons;
use crate::cli::{Candidate, CompletionsArgs, Offer, bash_meaning, bash_replacement, offer, typed_name};
use crate::exec;
use crate::exit::Exit;
use crate::output;
use resourcelock::LockName;
use resourcelock::system::disturbs;
use std::ffi::{OsStr, OsString};

/// Carries it out.
pub fn perform(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let bash = args.shell == "bash";
    let text = match args.words.as_slice() {
        [] => script(&args.shell).to_owned(),
        [before @ .., kept, replaced] if bash => answer_for_bash(before, kept, replaced),
        words => printed(words, |candidate, _| {
            Some(format!("{}\t{}", candidate.word, candidate.about))
        }),
    };
    output::print(&text)?;
    Ok(Exit::Done)
}

fn script(shell: &str) -> &'static str {
    match shell {
        "bash" => include_str!("../../completions/resourcelock.bash"),
        "zsh" => include_str!("../../completions/_resourcelock"),
        _ => include_str!("../../completions/resourcelock.fish"),
    }
}

fn answer_for_bash(before: &[OsString], kept: &OsStr, replaced: &OsStr) -> String {
    let kept = kept.to_string_lossy();
    let last = format!("{kept}{}", replaced.to_string_lossy());
    let words: Vec<OsString> = before
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .chain([last])
        .map(|word| bash_meaning(&word).into())
        .collect();
    printed(&words, |candidate, current| {
        let fits = candidate.word.as_bytes().starts_with(current.as_encoded_bytes());
        bash_replacement(&kept, &candidate.word).filter(|_| fits)
    })
}

/// The answer: its first line, and each word as `line` writes it, given the word at the cursor.
fn printed(words: &[OsString], line: impl Fn(&Candidate, &OsStr) -> Option<String>) -> String {
    let current = words.last().map(OsString::as_os_str).unwrap_or_default();
    let wanted = match offer(words) {
        Offer::Nothing => "nothing".to_owned(),
        Offer::CommandLine(first) => format!("command {first}"),
        Offer::Program => "program".to_owned(),
        Offer::File => "file".to_owned(),
        Offer::Group => "group".to_owned(),
        Offer::User => "user".to_owned(),
        Offer::Process => "process".to_owned(),
        Offer::Words(candidates) => return answer(&candidates, |candidate| line(candidate, current)),
        Offer::Locks(own_words) => {
            let mut candidates = locks(current);
            candidates.extend(own_words);
            return answer(&candidates, |candidate| line(candidate, current));
        }
    };
    format!("{wanted}\n")
}

fn answer(candidates: &[Candidate], line: impl Fn(&Candidate) -> Option<String>) -> String {
    let mut text = "words\n".to_owned();
    for line in candidates.iter().filter_map(line) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Of so many locks the states are looked at. (Of ten times as many that would take half a second.)
const WITH_STATE: usize = 1000;

/// The locks of this machine with their states; none if they cannot be listed, since completion is silent. If there are
/// very many, those that begin with `current`; if these are too many, too, without their states. A name that the user could
/// not read on the command line is not put there.
fn locks(current: &OsStr) -> Vec<Candidate> {
    if exec::variable(VARIABLE).is_some_and(|url| !url.is_empty()) {
        return Vec::new();
    }
    let mut names = resourcelock::list().unwrap_or_default();
    if names.len() > WITH_STATE {
        let fits = |name: &LockName| {
            let typed = typed_name(name.as_str(), current);
            typed.as_bytes().starts_with(current.as_encoded_bytes())
        };
        // If none does, the shell may still find one that it takes for meant: `current` may be quoted.
        if names.iter().any(fits) {
            names.retain(fits);
        }
    }
    names.retain(|name| !name.as_str().contains(disturbs));
    let candidate = |name: &LockName, state| Candidate::new(typed_name(name.as_str(), current), state);
    if names.len() > WITH_STATE {
        return names.iter().map(|name| candidate(name, String::new())).collect();
    }
    // As without any option: which ones will be given is not known yet.
    let access = Access::new(&crate::cli::Access::default()).unwrap_or_default();
    let listing = access.engine().list_named(&names);
    let readable = listing.states.iter().map(|state| (&state.name, output::brief(state)));
    let unreadable = with_reasons(&listing.unreadable);
    let others = unreadable.iter().map(|lock| (&lock.name, lock.reason.clone()));
    let mut all: Vec<_> = readable.chain(others).collect();
    all.sort();
    all.into_iter().map(|(name, state)| candidate(name, state)).collect()
}
