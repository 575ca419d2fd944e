//! For each weaker ordering and each fault, the scenario in which it leads to a violation.

/// A scenario, and what is changed in it: see `--help`. Where one ordering makes up for another, both are weakened.
pub const MUTANTS: &[(&str, &str)] = &[
    ("let_go_then_offer", "WORD_LOAD=Relaxed"),
    ("readers_then_writer", "WORD_LOAD=Relaxed"),
    ("let_go_then_try", "WORD_SWAP=Acquire"),
    ("note_of_the_last_holder", "WORD_SWAP=Acquire"),
    // The stores of a token in an offer, and of the record of a hold ended by others, follow fences that also release.
    ("release_and_offer", "WORD_SWAP=Acquire,GRANT=Relaxed"),
    (
        "die_holding_third_cleans_up",
        "WORD_SWAP=Acquire,GRANT=Relaxed,ENTRY_BEGUN=Relaxed",
    ),
    ("force", "WORD_SWAP=Acquire,GRANT=Relaxed"),
    ("release_and_offer", "WORD_SWAP=Release,WORD_LOAD=Relaxed"),
    ("queue_and_release", "WORD_SWAP=Release,WORD_LOAD=Relaxed"),
    ("withdraw", "WORD_SWAP=Release,WORD_LOAD=Relaxed"),
    ("stale_offer", "WORD_SWAP=Release,WORD_LOAD=Relaxed"),
    ("writer_then_readers", "WORD_SWAP=Release,WORD_LOAD=Relaxed"),
    ("foreign_holder", "SEMAPHORE_SWAP=Acquire"),
    (
        "foreign_holder",
        "SEMAPHORE_SWAP=Release,SEMAPHORE_LOAD=Relaxed,SEMAPHORE_FOUND=Relaxed",
    ),
    ("foreign_holder", "SEM_POST=Relaxed"),
    ("foreign_holder", "SEM_WAIT=Relaxed"),
    ("try_and_release", "LATCH_SWAP=Acquire"),
    ("try_and_release", "LATCH_SWAP=Release"),
    ("two_in_the_latch", "LATCH_SWAP=Release"),
    ("snapshot_of_a_reused_record", "DESCRIBE=Relaxed"),
    ("snapshot_of_a_reused_record", "COPIED=Relaxed"),
    ("snapshot_of_an_offer", "GRANT=Relaxed"),
    (
        "token_after_force",
        "DESCRIBE=Relaxed,GRANT=Relaxed,ENTRY_BEGUN=Relaxed",
    ),
    ("token_after_force", "TOKEN_LOAD=Relaxed"),
    ("ring_entry_overwritten", "ENTRY_BEGUN=Relaxed"),
    ("ring_entry_overwritten", "ENTRY_COMPLETE=Relaxed"),
    ("ring_entry_overwritten", "ENTRY_LOAD=Relaxed"),
    ("ring_entry_overwritten", "COPIED=Relaxed"),
    ("ring_entries_in_order", "NEXT_STORE=Relaxed"),
    ("ring_entries_in_order", "NEXT_LOAD=Relaxed"),
    ("watch_a_release", "ANNOUNCE=AcqRel"),
    ("watch_a_release", "WATCH=AcqRel"),
    ("snapshot_of_a_detached_hold", "HOLDER_STORE=Relaxed"),
    ("snapshot_of_a_detached_hold", "HOLDER_LOAD=Relaxed"),
    ("snapshot_of_a_detached_hold", "BOUND_STORE=Relaxed"),
    ("snapshot_of_a_detached_hold", "BOUND_LOAD=Relaxed"),
    ("expiry_of_another_clock", "EXPIRES_STORE=Relaxed"),
    ("expiry_of_another_clock", "EXPIRES_LOAD=Relaxed"),
    ("detach_and_die", "BEACON_OUT=Relaxed"),
    ("detach_and_die", "BEACON_ASKED=Relaxed"),
    ("die_holding", "BEACON_OUT=Relaxed"),
    ("die_releasing", "BEACON_ASKED=Relaxed"),
    ("die_asking", "BEACON_ASKED=Relaxed"),
    ("wake_the_next", "no wake"),
    ("three_in_the_latch", "no bit"),
];

/// Orderings that no scenario tests, and why.
pub const APART: &[(&str, &str)] = &[("RETIRED", "it orders system calls on files")];
