"""`Lock` in one process: waiting, timeouts, threads, bad input."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from typing import Any

from resourcelock import (
    Busy,
    InvalidRequest,
    Lock,
    LockClosed,
    LockError,
    LockTimeout,
    NotHeld,
    SlotsDiffer,
    Unreachable,
    WouldDeadlock,
    resource_lock,
)

from .support import LockCase, until


class Waiting(LockCase):
    def test_with_acquires_and_releases_and_says_who_holds(self) -> None:
        lock, other = Lock(self.name, message="a scan"), Lock(self.name, timeout=0.01)
        with lock as entered:
            self.assertIs(entered, lock)
            self.assertTrue(lock.locked)
            state = other.state()
            self.assertEqual((state.locked, state.name), (True, self.name))
            self.assertEqual([each.process.pid for each in state.holders], [os.getpid()])
            self.assertEqual(state.holders[0].token, lock.token)
            with self.assertRaisesRegex(LockTimeout, "was not acquired in time; its holder says: .* - a scan$"), other:
                self.fail("entered")
        self.assertFalse(lock.locked or other.state().locked)
        with self.assertRaises(ZeroDivisionError), lock:
            _ = 1 // 0
        self.assertFalse(other.state().locked)
        how = [each.how for each in lock.history()]
        self.assertEqual((how.count("released"), how.count("timed out")), (2, 1))

    def test_timeouts(self) -> None:
        holder = self.holder()
        lock = Lock(self.name)
        self.assertFalse(lock.acquire(0))
        start = time.monotonic()
        self.assertFalse(lock.acquire(timeout=0.05))
        self.assertGreaterEqual(time.monotonic() - start, 0.05)
        for nonsense in (-1, -0.5, float("nan"), float("inf")):
            with self.assertRaisesRegex(InvalidRequest, "None is no limit"):
                lock.acquire(nonsense)
            with self.assertRaises(InvalidRequest):
                Lock(self.name, timeout=nonsense)
        holder.say()
        self.assertTrue(lock.acquire(None))
        lock.release()
        self.assertTrue(lock.acquire(1e300))

    def test_other_threads_run_while_one_waits(self) -> None:
        holder = self.holder()
        lock = Lock(self.name)
        acquired: list[bool] = []
        waiter = threading.Thread(target=lambda: acquired.append(lock.acquire()))
        waiter.start()
        self.until_waiting(lock)
        holder.say()
        waiter.join()
        self.assertEqual(acquired, [True])

    def test_ctrl_c_ends_a_wait_and_leaves_the_queue(self) -> None:
        program = (
            "import sys; from resourcelock import Lock, resource_lock\n"
            "lock = Lock(sys.argv[1]); old = resource_lock(sys.argv[1])\n"
            "for wait in (lock.acquire, lambda: old.get_lock(None)):\n"
            "    try: wait()\n"
            "    except KeyboardInterrupt: print(len(lock.state().waiters))\n"
        )
        holder = self.holder()
        lock = Lock(self.name)
        waiter = self.child(program)
        for _ in range(2):
            self.until_waiting(lock)
            waiter.kill(signal.SIGINT)
            self.assertEqual(waiter.line(), "0")
        self.assertEqual(waiter.rest(), ("", 0))
        holder.say()
        self.assertEqual([each.how for each in lock.history()].count("cancelled"), 2)

    def test_ctrl_c_beside_a_thread_that_waits_ends_the_program(self) -> None:
        program = (
            "import sys, threading; from resourcelock import Lock\n"
            "thread = threading.Thread(target=Lock(sys.argv[1]).acquire, daemon=True); thread.start()\n"
            "try: print('ready'); thread.join()\n"
            "except KeyboardInterrupt: print('interrupted')"
        )
        with Lock(self.name) as lock:
            waiter = self.child(program)
            self.assertEqual(waiter.line(), "ready")
            self.until_waiting(lock)
            # In `join`: in the moment before, Python itself takes note of a signal and sleeps all the same.
            until(waiter.sleeps)
            waiter.kill(signal.SIGINT)
            self.assertEqual(waiter.rest(), ("interrupted\n", 0))
            until(lambda: not any(each.alive for each in lock.state().waiters))

    def test_a_handler_that_raises_nothing_does_not_end_a_wait(self) -> None:
        program = (
            "import signal, sys; from resourcelock import Lock\n"
            "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
            "lock = Lock(sys.argv[1]); print('ready'); print(lock.acquire())"
        )
        holder = self.holder()
        waiter = self.child(program)
        self.assertEqual(waiter.line(), "ready")
        self.until_waiting(Lock(self.name))
        waiter.kill(signal.SIGUSR1)
        self.assertEqual(waiter.line(), "handled")
        holder.say()
        self.assertEqual(waiter.rest(), ("True\n", 0))

    def test_threads_take_turns_through_one_object(self) -> None:
        lock = Lock(self.name)
        inside, most = 0, 0

        def work() -> None:
            nonlocal inside, most
            for _ in range(20):
                with lock:
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0)
                    inside -= 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(most, 1)
        self.assertEqual(sum(each.how == "released" for each in lock.history()), 80)

    def test_nested(self) -> None:
        lock = Lock(self.name)
        with lock:
            with self.assertRaisesRegex(WouldDeadlock, "this thread holds the lock"), lock:
                self.fail("entered")
            self.assertFalse(lock.acquire(0))
            self.assertTrue(lock.locked)
        readers = Lock(self.name, shared=True)
        with readers, readers:
            self.assertEqual(len(lock.state().holders), 2)
            self.assertFalse(lock.acquire(0))

    def test_shared_and_slots(self) -> None:
        with Lock(self.name, shared=True), Lock(self.name, shared=True, timeout=0):
            self.assertFalse(Lock(self.name).acquire(0))
        with Lock(self.name, slots=2), Lock(self.name, slots=2, timeout=0):
            self.assertFalse(Lock(self.name, slots=2).acquire(0))
            with self.assertRaisesRegex(SlotsDiffer, "say slots=2"):
                Lock(self.name, slots=3).acquire(0)

    def test_a_hold_that_was_taken_away(self) -> None:
        lock = Lock(self.name)
        with lock:
            self.command("unget")
            self.assertEqual((lock.locked, lock.lost), (False, "released by force, or expired"))
        self.assertTrue(lock.acquire())
        self.command("unget")
        with self.assertRaisesRegex(NotHeld, "was lost before it was released"):
            lock.release()


class BadInput(LockCase):
    def test_names_and_types(self) -> None:
        for name in ("", "a/b", "a\0b", "x" * 300, "sem.x", "\ud800"):
            with self.assertRaises((InvalidRequest, UnicodeError), msg=repr(name)):
                Lock(name)
        wrong: list[Any] = [None, 5, b"x", [], object()]
        for each in wrong:
            with self.assertRaises(TypeError):
                Lock(each)
        for each in ["1", b"", [], object()]:
            with self.assertRaises(TypeError):
                Lock(self.name).acquire(each)
        for terms in (
            {"slots": 0},
            {"shared": True, "slots": 2},
            {"owner": "no such user"},
            {"group": "no such group"},
        ):
            with self.assertRaises(InvalidRequest):
                Lock(self.name, **terms)
        for number in (-1, 2**32):
            for what in ("slots", "mode", "owner", "group"):
                terms = {what: number}
                with self.assertRaisesRegex(InvalidRequest, f"{what} must be from 0 to 4294967295, but is {number}"):
                    Lock(self.name, **terms)
                if what != "slots":
                    with self.assertRaises(InvalidRequest):
                        resource_lock(self.name, **terms)
        with self.assertRaises(InvalidRequest):
            Lock(self.name, backend="ftp://here")

    def test_a_closed_lock(self) -> None:
        lock = Lock(self.name)
        self.assertTrue(lock.acquire())
        lock.close()
        lock.close()
        self.assertTrue(lock.closed)
        self.assertFalse(Lock(self.name).state().locked)
        for use in (lock.acquire, lock.state, lock.history, lock.__enter__):
            with self.assertRaisesRegex(LockClosed, r"is closed; open it again: Lock\(…\)"):
                use()
        for use in (lock.release, lock.mark_recovered, lambda: lock.token, lambda: lock.abandoned):
            with self.assertRaisesRegex(NotHeld, "is not held through this object"):
                use()

    def test_an_engine_that_is_not_there(self) -> None:
        lock = Lock(self.name, backend="etcd://127.0.0.1:1")
        with self.assertRaisesRegex(Unreachable, "cannot be reached"):
            lock.acquire()

    def test_exceptions_are_pythons_own_as_well(self) -> None:
        for ours, theirs in ((LockTimeout, TimeoutError), (InvalidRequest, ValueError), (Unreachable, OSError)):
            self.assertTrue(issubclass(ours, theirs) and issubclass(ours, LockError))
        self.assertTrue(issubclass(Busy, LockError))

    def test_one_that_is_sent_to_another_process_is_opened_there(self) -> None:
        lock = Lock(self.name, shared=True, timeout=3)
        with lock:
            copy = pickle.loads(pickle.dumps(lock))
            self.assertEqual((copy.name, copy.locked), (self.name, False))
            self.assertTrue(copy.acquire(0))
