"""`resource_lock` beside the real one."""

from __future__ import annotations

import inspect
import logging
import signal
import subprocess
import sys
from decimal import Decimal
from typing import Any

import cjnfuncs.resourcelock
import posix_ipc
from resourcelock import InvalidRequest, LockClosed, resource_lock

from .support import LockCase

# How the original keeps it; not ours to imitate.
INSIDE = {"lock", "mapfile"}


class DropIn(LockCase):
    def test_each_member_is_there_with_the_same_parameters(self) -> None:
        theirs = cjnfuncs.resourcelock.resource_lock
        methods = dict(inspect.getmembers(theirs, inspect.isfunction))
        self.assertIn("get_lock", methods)
        for name, method in methods.items():
            ours = inspect.signature(getattr(resource_lock, name)).parameters
            added = [each for each in ours.values() if each.kind is each.KEYWORD_ONLY]
            kept = [(each.name, each.default) for each in ours.values() if each not in added]
            self.assertEqual(kept, [(p.name, p.default) for p in inspect.signature(method).parameters.values()], name)
            self.assertTrue(all(each.default is None for each in added), name)
            self.assertTrue(getattr(resource_lock, name).__doc__ or name == "__init__", name)

    def test_each_attribute_is_there_with_the_same_value(self) -> None:
        for name in (self.name, "/" + self.name):
            theirs, ours = cjnfuncs.resourcelock.resource_lock(name), resource_lock(name)
            attributes = set(vars(theirs)) - INSIDE
            self.assertEqual(attributes, {"lockname", "closed", "I_have_the_lock"})

            def values(lock: object, attributes: set[str] = attributes) -> dict[str, object]:
                return {each: getattr(lock, each) for each in attributes}

            self.assertEqual(values(ours), values(theirs))
            for lock in (theirs, ours):
                self.assertTrue(lock.get_lock(lock_info="test"))
                self.assertEqual(values(lock), {"lockname": "/" + self.name, "closed": False, "I_have_the_lock": True})
                self.assertTrue(lock.unget_lock())
            for lock in (theirs, ours):
                lock.close()
            self.assertEqual(values(ours), values(theirs))

    def test_both_lock_each_other_out_and_see_the_same(self) -> None:
        theirs, ours = cjnfuncs.resourcelock.resource_lock(self.name), resource_lock(self.name)
        for one, other in ((theirs, ours), (ours, theirs)):
            self.assertTrue(one.get_lock(lock_info="one"))
            self.assertFalse(other.get_lock(timeout=0))
            self.assertFalse(other.get_lock(timeout=0.01))
            self.assertFalse(other.unget_lock())
            for lock in (theirs, ours):
                self.assertEqual((lock.is_locked(), lock.lock_value()), (True, 0))
                self.assertTrue(lock.get_lock_info().endswith(" - one"))
            self.assertTrue(one.get_lock(same_process_ok=True))
            self.assertTrue(other.unget_lock(force=True))
            self.assertEqual((theirs.lock_value(), ours.lock_value()), (1, 1))
            one.I_have_the_lock = False
        ours.set_lock_info("for others")
        self.assertEqual(theirs.get_lock_info(), "for others")
        theirs.close()

    def test_odd_timeouts_mean_the_same_or_are_refused_by_both(self) -> None:
        theirs, ours = cjnfuncs.resourcelock.resource_lock(self.name), resource_lock(self.name)

        def answers(timeout: Any) -> tuple[object, object]:
            said: list[object] = []
            for lock in (theirs, ours):
                try:
                    said.append(lock.get_lock(timeout))
                    lock.unget_lock()
                except Exception as error:
                    said.append(type(error))
            return said[0], said[1]

        at_once: list[Any] = [0, 0.0, -0.0, False, 1e-9, 5e-324]
        for timeout in [*at_once, None, True, 1, 0.5, 2**31, 2**62, 1e18, 1e300]:
            self.assertEqual(answers(timeout), (True, True), timeout)
        # A ValueError here; to the module, nan and inf are a lock that does not exist.
        for timeout in (-1, -0.5, float("-inf"), -(10**400)):
            self.assertEqual(answers(timeout), (TypeError, InvalidRequest), timeout)
        for timeout in (float("nan"), float("inf")):
            self.assertEqual(answers(timeout), (posix_ipc.ExistentialError, InvalidRequest), timeout)
        wrong: list[Any] = ["1", b"1", [], object(), 1j]
        for timeout in wrong:
            self.assertEqual(answers(timeout), (TypeError, TypeError), timeout)
        # Longer than anybody waits; whatever can be a float.
        for timeout in (2**63, 10**400, Decimal("0.01")):
            self.assertEqual(answers(timeout), (TypeError, True), timeout)
        holder = resource_lock(self.name)
        self.assertTrue(holder.get_lock())
        for timeout in [*at_once, 0.01]:
            self.assertEqual(answers(timeout), (False, False), timeout)
        theirs.close()

    def test_the_other_command_is_still_there(self) -> None:
        def theirs(*words: str) -> str:
            call = "from cjnfuncs.resourcelock import cli; cli()"
            return subprocess.run(
                [sys.executable, "-c", call, self.name, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
            ).stdout

        theirs("get", "-m", "theirs")
        self.assertIn(" - theirs", self.command("state").stdout)
        self.assertEqual(self.command("get", "-t", "0").returncode, 75)
        theirs("unget")
        self.assertEqual(self.command("get", "-t", "0", "-m", "ours").returncode, 0)
        self.assertIn(" - ours", theirs("state"))

    def test_what_is_said_of_the_attribute_counts(self) -> None:
        lock = resource_lock(self.name)
        self.assertTrue(lock.get_lock())
        lock.I_have_the_lock = False
        self.assertFalse(lock.I_have_the_lock)
        self.assertFalse(lock.unget_lock())
        self.assertTrue(lock.is_locked())
        lock.I_have_the_lock = True
        self.assertTrue(lock.get_lock(timeout=0, same_process_ok=True))
        self.assertTrue(lock.unget_lock())
        self.assertFalse(lock.is_locked() or lock.I_have_the_lock)

    def test_closing_releases_and_a_closed_lock_says_what_to_do(self) -> None:
        lock = resource_lock(self.name, 100)
        self.assertTrue(lock.get_lock())
        lock.close()
        lock.close()
        self.assertTrue(lock.closed)
        with self.assertRaisesRegex(LockClosed, r"is closed; open it again: resource_lock\(…\)"):
            lock.get_lock()
        self.assertFalse(resource_lock(self.name).is_locked())

    def test_a_holder_that_was_killed_is_told_of_in_the_log(self) -> None:
        child = self.child(
            "import sys; from resourcelock import resource_lock\n"
            "lock = resource_lock(sys.argv[1]); print(lock.get_lock()); sys.stdin.readline()"
        )
        self.assertEqual(child.line(), "True")
        child.kill()
        lock = resource_lock(self.name)
        with self.assertLogs("resourcelock", logging.WARNING) as logged:
            self.assertTrue(lock.get_lock(timeout=60))
        self.assertIn("the previous holder died while holding the lock", logged.output[0])
        self.assertTrue(lock.abandoned)
        lock.mark_recovered()
        self.assertTrue(lock.unget_lock() and lock.get_lock() and not lock.abandoned)

    def test_importing_it_changes_nothing_in_the_program(self) -> None:
        program = (
            "import signal\n"
            "def handlers(): return [signal.getsignal(n) for n in signal.valid_signals()]\n"
            "before = handlers()\n"
            "from resourcelock import Lock\n"
            "import sys; assert 'logging' not in sys.modules and 'asyncio' not in sys.modules\n"
            "from resourcelock import resource_lock\n"
            "import logging; assert before == handlers() and not logging.getLogger().handlers\n"
        )
        subprocess.run([sys.executable, "-I", "-c", program], check=True)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)
