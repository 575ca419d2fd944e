"""Locks with names of their own, child processes that are talked to line by line, and waiting for a condition."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import sysconfig
import time
import unittest
from pathlib import Path
from typing import Callable

from resourcelock import Lock

# Far longer than anything takes, so that no test fails on a slow machine.
PATIENCE = 120
COMMAND = Path(sysconfig.get_path("scripts")) / "resourcelock"
ROOT = Path(__file__).resolve().parents[2]

_numbers = itertools.count()


def until(condition: Callable[[], object]) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.002)


class Child:
    """A Python program that is talked to line by line."""

    def __init__(self, program: str, *arguments: object) -> None:
        words = [sys.executable, "-u", "-c", program, *map(str, arguments)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def line(self) -> str:
        return self.stdout.readline().rstrip("\n")

    def say(self, line: str = "") -> None:
        self.stdin.write(line + "\n")
        self.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def sleeps(self) -> bool:
        """True if its first thread sleeps."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    def rest(self) -> tuple[str, int]:
        """What else it prints, and its exit status."""
        return self.process.communicate(timeout=PATIENCE)[0], self.process.returncode

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class LockCase(unittest.TestCase):
    """A test with a lock of its own, which is removed afterwards."""

    def setUp(self) -> None:
        self.name = f"pytest-{os.getpid()}-{next(_numbers)}"
        # Nothing is left to remove if the test never used it.
        self.addCleanup(self.command, "remove", "--force")

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`resourcelock NAME …`"""
        return subprocess.run([COMMAND, self.name, *words], capture_output=True, text=True, check=False)

    def child(self, program: str, *arguments: object) -> Child:
        """A program whose first argument is the lock's name."""
        child = Child(program, self.name, *arguments)
        self.addCleanup(child.end)
        return child

    def holder(self) -> Child:
        """A process that holds the lock, until it reads a line or dies."""
        child = self.child(
            "import sys; from resourcelock import Lock\n"
            "with Lock(sys.argv[1], message='the holder'): print('held'); sys.stdin.readline()\n"
            "print('released')"
        )
        self.assertEqual(child.line(), "held")
        return child

    def until_waiting(self, lock: Lock, count: int = 1) -> None:
        until(lambda: len(lock.state().waiters) == count)
