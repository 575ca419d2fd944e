//! The memory orderings that matter, each with its reason. Whatever is not named here is Relaxed.
//!
//! `weak/` runs the code under loom with these orderings, and with each of them weakened, which has to lead to a
//! violation.

use crate::lock::sys::atomic::orderings;

orderings! {
    /// Reading a request's word: a process that finds itself granted the lock sees what the holders before it wrote; one
    /// that finds the record vacant or changed hands sees that before what it writes itself.
    WORD_LOAD = Acquire;
    /// Changing a request's word. Release: what its owner wrote under the lock, and what describes the request, is seen by
    /// those who read the word. Acquire: the same as in [`WORD_LOAD`].
    WORD_SWAP = AcqRel;
    /// Reading the semaphore: the same as [`WORD_LOAD`], for a lock that comes from a user of the Python module.
    SEMAPHORE_LOAD = Acquire;
    /// Changing the semaphore. Release: for the users of the Python module, whose sem_wait(3) acquires. Acquire: from
    /// them, whose sem_post(3) releases.
    SEMAPHORE_SWAP = AcqRel;
    /// The value that a failed change of the semaphore found: as if it had been read.
    SEMAPHORE_FOUND = Acquire;
    /// Entering and leaving the latch: what is done inside happens after what was done inside before.
    LATCH_SWAP = AcqRel;

    /// Before a record is described. Who copies the record and sees any of the new description has to see, when it reads
    /// the word again, that the word is no longer the former request's. Pairs with [`COPIED`].
    DESCRIBE = Release;
    /// Before a token is stored. The same as [`DESCRIBE`]: the token may be stored by another process, in another section.
    /// Pairs with [`COPIED`] and [`TOKEN_LOAD`].
    GRANT = Release;
    /// Between the copy of a record, or of an entry of a ring, and the second look at its word or sequence.
    COPIED = Acquire;
    /// Reading a request's own token, after which the word is read: if it is the token of a later request in this record,
    /// the word is no longer its own. Pairs with [`GRANT`].
    TOKEN_LOAD = Acquire;

    /// Storing the number of the next entry of a ring: who sees it sees the entries before as complete.
    NEXT_STORE = Release;
    /// Pairs with [`NEXT_STORE`].
    NEXT_LOAD = Acquire;
    /// Between the invalid sequence and the fields of a new entry: who copies one of the fields sees, when it reads the
    /// sequence again, that it is not the former entry's. Pairs with [`COPIED`].
    ENTRY_BEGUN = Release;
    /// The sequence of an entry that is complete, after its fields.
    ENTRY_COMPLETE = Release;
    /// Pairs with [`ENTRY_COMPLETE`].
    ENTRY_LOAD = Acquire;

    /// Noting that pages of the table have their space, after the call that allocates them. Only a process's own threads
    /// read it.
    REACH_STORE = Release;
    /// Pairs with [`REACH_STORE`]: whoever touches a page has it allocated before.
    REACH_LOAD = Acquire;

    /// Between a change and the load of the watchers' bit. Either this load sees the bit, or the watcher sees the change.
    /// Pairs with [`WATCH`].
    ANNOUNCE = SeqCst;
    /// Between setting the watchers' bit and inspecting the lock.
    WATCH = SeqCst;

    /// Storing the bound process's PID, after its start time and the namespaces that the two belong to.
    BOUND_STORE = Release;
    /// Pairs with [`BOUND_STORE`].
    BOUND_LOAD = Acquire;
    /// Clearing a request's beacon, after the rest of what it depends on from now on: who sees it without a beacon sees
    /// the process that it is bound to.
    HOLDER_STORE = Release;
    /// Pairs with [`HOLDER_STORE`].
    HOLDER_LOAD = Acquire;
    /// Storing the time when a hold expires, after the time namespace that counts it.
    EXPIRES_STORE = Release;
    /// Pairs with [`EXPIRES_STORE`].
    EXPIRES_LOAD = Acquire;

    /// The field `retired`, read and changed. Between two of these accesses lie system calls on files; one order of all
    /// of them, at no price (they are rare), is simpler than a proof for each pair.
    RETIRED = SeqCst;
}
