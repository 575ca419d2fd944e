//! `prune`: deletes the files of locks that nobody has used for a while, and that keep nothing that is needed.

use super::list::with_reasons;
use super::own_locks::{Idle, own_locks};
use super::{Failure, advice};
use crate::cli::{Common, PruneArgs};
use crate::exit::Exit;
use crate::output::text;
use crate::output::{self, names, shown, view};
use nix::unistd::geteuid;
use resourcelock::{LockName, Removed, Unused};

/// Carries it out.
pub fn perform(common: &Common, args: &PruneArgs) -> Result<Exit, Failure> {
    let Idle { unused, mut unknown } = Idle::among(own_locks(&args.patterns)?);
    let mut removed = Vec::new();
    let mut failed = Vec::new();
    for (name, unused) in unused.into_iter().filter(|(_, unused)| unused.time >= args.idle) {
        if !args.dry_run {
            match resourcelock::remove_unused(name.as_str(), args.idle) {
                Ok(Removed::Lock) => {}
                // It has come into use.
                Ok(_) => continue,
                Err(error) => {
                    failed.push((name, error));
                    continue;
                }
            }
        }
        if !args.json && !common.quiet {
            output::print(&line(&name, &unused, args.dry_run))?;
        }
        removed.push((name, unused));
    }
    let exit = if failed.is_empty() { Exit::Done } else { Exit::Failed };
    unknown.append(&mut failed);
    let size = removed.iter().map(|(_, unused)| unused.size).sum();
    if args.json {
        output::print_json(&view::PruneView {
            version: view::VERSION,
            dry_run: args.dry_run,
            locks: removed.iter().map(view::PrunedView::from).collect(),
            bytes: size,
            failed: with_reasons(&unknown)
                .into_iter()
                .map(view::UnreadableView::from)
                .collect(),
        })?;
        return Ok(exit);
    }
    for (name, error) in unknown {
        let fact = advice::fact(&error);
        output::message(&format!("resourcelock: {}: not removed: {fact}", shown(&name)));
    }
    if !common.quiet {
        output::print(&total(removed.len(), size, args.dry_run))?;
    }
    Ok(exit)
}

fn line(name: &LockName, unused: &Unused, dry_run: bool) -> String {
    let what = if dry_run { "would be removed" } else { "removed" };
    let owner = match unused.owner {
        owner if owner == geteuid().as_raw() => String::new(),
        owner => format!(" (it belongs to {})", names::user(owner)),
    };
    let (name, since, size) = (shown(name), text::clock(unused.since), kib(unused.size));
    format!("{name}: {what}{owner}, last used {since}, {size}\n")
}

fn total(locks: usize, size: u64, dry_run: bool) -> String {
    let noun = if locks == 1 { "lock" } else { "locks" };
    match (locks, dry_run) {
        (0, _) => "nothing to remove\n".to_owned(),
        (_, false) => format!("{locks} {noun} removed, {}\n", kib(size)),
        (_, true) => format!("{locks} {noun} would be removed, {}\n", kib(size)),
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
