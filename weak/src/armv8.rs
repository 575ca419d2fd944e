//! Checks the lock's hand-overs, and what is read without the latch, by the axioms of ARMv8.
//!
//! Loom leaves out one thing that a processor may do: let a load take effect after a later store. It is included here.
//! The axioms are those of herd7's aarch64.cat without dependencies between instructions, hence weaker than the
//! architecture: what they forbid cannot happen there. All executions of a few instructions are enumerated.

/// What must not happen, and (`true`) what must be possible, or the axioms would forbid too much. Initial values other
/// than 0 come before the colon. Bars separate threads, commas their instructions:
///
/// | | instruction |
/// |---|---|
/// | `x=1` `x:=1` | str, stlr |
/// | `x?1` `x??1` | ldr, and ldar or ldapr, that read this value |
/// | `x1>2` | a successful compare-exchange with acquire and release |
/// | `dmb` `dmbld` | fence(SeqCst) and fence(Release); fence(Acquire) |
const PATTERNS: &[(bool, &str, &str)] = &[
    // Release without the latch, offer by another process (held = 1, offered = 2, accepted = 3).
    (
        false,
        "the next holder reads old data",
        "a1 b1: d=1, a1>0 | a??0, b1>2 | b??2, b2>3, d?0",
    ),
    (
        false,
        "the previous holder reads the next one's data",
        "a1 b1: d?2, a1>0 | a??0, b1>2 | b??2, b2>3, d=2",
    ),
    (
        false,
        "the previous holder's data land last",
        "a1 b1: d=1, a1>0 | a??0, b1>2 | b??2, b2>3, d=2 | d??2, d??1",
    ),
    // Hand-over through the latch, through the semaphore, by a death.
    (false, "old data after the latch", "l5: d=1, l5>0 | l?0, l0>6, d?0"),
    (false, "later data before the latch", "l5: d?2, l5>0 | l?0, l0>6, d=2"),
    (false, "old data after the semaphore", ": d=1, s0>1 | s?1, s1>2, d?0"),
    (false, "old data after a death", ": d=1, o:=1 | o??1, d?0"),
    // What is read without the latch: word, field, token; events; a ring's number and sequence.
    (
        false,
        "a wake-up is lost",
        "l5: w0>1, l5>0, dmb, e?0 | e?0, e=1, dmb, w??0",
    ),
    (
        false,
        "a mix of two requests",
        "w1 f1: w1>0 | w??0, dmb, f=2 | w??1, f?2, dmbld, w?1",
    ),
    (
        false,
        "a later request's token, stored by a third process",
        "w1 t1 l5: w1>0, w??0, w0>2, l5>0 | l0>6, w??2, dmb, t=2 | w??1, t?2, dmbld, w?1",
    ),
    (
        false,
        "a request reads a later request's token as its own",
        "w1 t1: w1>0, w??0, dmb, t=2 | t??2, w??1",
    ),
    (
        false,
        "a complete entry is reported as missed",
        "l5: q:=1, l5>0 | l0>6, n:=2 | n??2, q??0",
    ),
    // Controls.
    (true, "load buffering", ": d?1, f=1 | f?1, d=1"),
    (true, "store buffering", ": d=1, f?0 | f=1, d?0"),
    (true, "message passing", ": d=1, f=1 | f?1, d?0"),
    (true, "no release", "w1: d=1, w=0 | w??0, d?0"),
    (true, "no acquire", "w1: d=1, w1>0 | w?0, d?0"),
    (
        true,
        "no fence in the copy",
        "w1 f1: w1>0 | w??0, dmb, f=2 | w??1, f?2, w?1",
    ),
];

/// How the compiler translates atomics.
#[derive(Clone, Copy)]
struct Target {
    /// Compare-exchange is one instruction (LSE); else ldaxr and stlxr.
    one_instruction: bool,
    /// Acquire is ldapr (RCpc), which may overtake an earlier stlr; else ldar.
    rcpc: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Load,
    Store,
    Fence,
    LoadFence,
}

/// A load, a store or a fence of one thread. Thread 0 stores the initial values.
struct Event {
    thread: usize,
    kind: Kind,
    place: char,
    value: u32,
    acquires: bool,
    releases: bool,
    /// The other half of a compare-exchange.
    half: Option<usize>,
}

type Pairs = Vec<(usize, usize)>;

/// Checks all patterns for all targets. True if all are as expected.
pub fn run() -> bool {
    let mut well = true;
    for (expected, what, pattern) in PATTERNS {
        for (one_instruction, rcpc) in [(false, false), (false, true), (true, false), (true, true)] {
            if is_possible(&parse(pattern), Target { one_instruction, rcpc }) != *expected {
                println!("NOT EXPECTED on ARMv8 (LSE: {one_instruction}, RCpc: {rcpc}): {what}");
                well = false;
            }
        }
    }
    println!("{} patterns and controls by the axioms of ARMv8", PATTERNS.len());
    well
}

fn parse(pattern: &str) -> Vec<Event> {
    let (first, threads) = pattern.split_once(':').expect("a colon after the initial values");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let access = |thread, kind, place, value| Event {
        thread,
        kind,
        place,
        value,
        acquires: false,
        releases: false,
        half: None,
    };
    let place = |text: &str| text.chars().next().expect("a place");
    let threads: Vec<Vec<&str>> = threads
        .split('|')
        .map(|acts| acts.split(',').map(str::trim).collect())
        .collect();
    let mut events: Vec<Event> = Vec::new();
    for act in threads.iter().flatten().filter(|act| !act.starts_with("dmb")) {
        if !events.iter().any(|event| event.place == place(act)) {
            let named = first.split_whitespace().find(|named| place(named) == place(act));
            events.push(access(
                0,
                Kind::Store,
                place(act),
                named.map_or(0, |named| number(&named[1..])),
            ));
        }
    }
    for (thread, acts) in threads.iter().enumerate() {
        let thread = thread + 1;
        for act in acts {
            let at = events.len();
            let mut event = |kind, value: &str, acquires, releases, half| {
                events.push(Event {
                    acquires,
                    releases,
                    half,
                    ..access(thread, kind, place(act), number(value))
                });
            };
            if *act == "dmb" {
                event(Kind::Fence, "0", false, false, None);
            } else if *act == "dmbld" {
                event(Kind::LoadFence, "0", false, false, None);
            } else if let Some((_, value)) = act.split_once(":=") {
                event(Kind::Store, value, false, true, None);
            } else if let Some((_, value)) = act.split_once('=') {
                event(Kind::Store, value, false, false, None);
            } else if let Some((_, value)) = act.split_once("??") {
                event(Kind::Load, value, true, false, None);
            } else if let Some((_, value)) = act.split_once('?') {
                event(Kind::Load, value, false, false, None);
            } else {
                let (from, to) = act[1..].split_once('>').expect("a compare-exchange");
                event(Kind::Load, from, true, false, Some(at + 1));
                event(Kind::Store, to, false, true, Some(at));
            }
        }
    }
    events
}

/// True if the axioms allow these events with the values that they read.
fn is_possible(events: &[Event], target: Target) -> bool {
    let of = |kind: Kind| (0..events.len()).filter(move |&e| events[e].kind == kind);
    let mut places: Vec<char> = of(Kind::Store).map(|store| events[store].place).collect();
    places.sort_unstable();
    places.dedup();
    let orders: Vec<_> = places.iter().map(|place| orders(events, *place)).collect();
    let loads: Vec<usize> = of(Kind::Load).collect();
    let found = |load: usize| {
        let same = move |&store: &usize| {
            (events[store].place, events[store].value) == (events[load].place, events[load].value)
        };
        of(Kind::Store).filter(same).collect::<Vec<usize>>()
    };
    let sources: Vec<_> = loads.iter().map(|&load| found(load)).collect();
    let local = ordered_locally(events, target);
    choices(&orders).iter().any(|orders| {
        choices(&sources).iter().any(|sources| {
            let reads: Pairs = sources.iter().copied().zip(loads.iter().copied()).collect();
            obeys(events, orders, &reads, &local)
        })
    })
}

/// The order within each thread (bob).
fn ordered_locally(events: &[Event], target: Target) -> Pairs {
    let is_ordered = |x: usize, y: usize| {
        let (first, second) = (&events[x], &events[y]);
        let fenced = events[x + 1..y]
            .iter()
            .any(|between| between.kind == Kind::Fence || between.kind == Kind::LoadFence && first.kind == Kind::Load);
        // The load of a compare-exchange is never an ldapr.
        let is_behind_release = second.acquires && (second.half.is_some() || !target.rcpc);
        let is_swapped_at_once = target.one_instruction && first.kind == Kind::Store && first.half.is_some();
        first.acquires
            || second.releases
            || first.releases && is_behind_release
            || is_swapped_at_once
            || first.half == Some(y)
            || fenced
    };
    let mut pairs = same_thread(events);
    pairs.retain(|&(x, y)| is_ordered(x, y));
    pairs
}

/// All pairs of events of the same thread, in program order.
fn same_thread(events: &[Event]) -> Pairs {
    let all = (0..events.len()).flat_map(|x| (x + 1..events.len()).map(move |y| (x, y)));
    all.filter(|&(x, y)| events[x].thread == events[y].thread && events[x].thread != 0)
        .collect()
}

/// True if the axioms allow these loads to read from these stores, given the order of the stores to each place.
fn obeys(events: &[Event], orders: &[Vec<usize>], reads: &Pairs, local: &Pairs) -> bool {
    let later = |store: usize| {
        let order = orders.iter().find(|order| order.contains(&store));
        order
            .into_iter()
            .flat_map(move |order| order.iter().copied().skip_while(move |&other| other != store).skip(1))
    };
    // Between two accesses to one place: coherence, read-from, from-read.
    let mut accesses: Pairs = orders
        .iter()
        .flatten()
        .flat_map(|&store| later(store).map(move |other| (store, other)))
        .collect();
    accesses.extend(reads);
    accesses.extend(
        reads
            .iter()
            .flat_map(|&(store, load)| later(store).map(move |other| (load, other))),
    );
    // Each thread sees the accesses to one place in a single order.
    let mut of_a_place = same_thread(events);
    of_a_place.retain(|&(x, y)| events[x].place == events[y].place);
    of_a_place.extend(&accesses);
    // No store comes between the halves of a compare-exchange.
    let halves =
        |&(store, load): &(usize, usize)| events[load].half.is_none_or(|half| later(store).next() == Some(half));
    // The order within the threads and what other threads see fit together.
    let own_swap = |&&(store, load): &&(usize, usize)| {
        events[store].thread == events[load].thread && events[store].half.is_some() && events[load].acquires
    };
    let mut of_all = local.clone();
    of_all.extend(accesses.iter().filter(|&&(x, y)| events[x].thread != events[y].thread));
    of_all.extend(reads.iter().filter(own_swap));
    reads.iter().all(halves) && !has_cycle(events.len(), &of_a_place) && !has_cycle(events.len(), &of_all)
}

fn has_cycle(count: usize, pairs: &Pairs) -> bool {
    let mut left = vec![true; count];
    // An event that no remaining event leads to is not in a cycle.
    while let Some(free) = (0..count).find(|&e| left[e] && !pairs.iter().any(|&(x, y)| y == e && left[x])) {
        left[free] = false;
    }
    left.contains(&true)
}

/// All orders of the stores to a place; the initial value comes first.
fn orders(events: &[Event], place: char) -> Vec<Vec<usize>> {
    let mut stores = (0..events.len()).filter(|&e| events[e].kind == Kind::Store && events[e].place == place);
    let first = vec![stores.next().expect("an initial value")];
    stores.fold(vec![first], |orders, store| {
        let at = |order: &Vec<usize>, at: usize| [&order[..at], &[store], &order[at..]].concat();
        orders
            .iter()
            .flat_map(|order| (1..=order.len()).map(move |n| at(order, n)))
            .collect()
    })
}

/// All ways to choose one from each.
fn choices<T: Clone>(of: &[Vec<T>]) -> Vec<Vec<T>> {
    of.iter().fold(vec![Vec::new()], |chosen, next| {
        let with = |one: &Vec<T>| {
            next.iter()
                .map(|choice| [&one[..], &[choice.clone()]].concat())
                .collect::<Vec<_>>()
        };
        chosen.iter().flat_map(with).collect()
    })
}
