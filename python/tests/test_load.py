"""Everybody at once on one lock: the package, the module, the command and a program in Rust, killed at any instant.

Each adds 1 to a number in a file, under the lock, and prints the new one; whoever finds somebody else at work fails.
The suite kills a few of them; with `RESOURCELOCK_ALL_CASES=1`, 500 are.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from resourcelock import Lock

from .support import COMMAND, PATIENCE, ROOT, LockCase, until

KILLS = 500 if os.environ.get("RESOURCELOCK_ALL_CASES") else 20

ONE_ROUND = """
import os, sys
name, folder, helpers = sys.argv[1:]
sys.path.append(helpers)
from counting import increment
def work(): os.write(1, b"%d\\n" % increment(folder))
"""
MODULE = "the module"
LOOPS = {
    "Lock": "from resourcelock import Lock\nlock = Lock(name)\nwhile True:\n    with lock: work()\n",
    "resource_lock": (
        "from resourcelock import resource_lock\nlock = resource_lock(name)\n"
        "while True:\n    lock.get_lock(None); work(); lock.unget_lock()\n"
    ),
    # The original keeps the lock if it is killed while it holds. So it is left alone, and takes its part.
    MODULE: (
        "from cjnfuncs.resourcelock import resource_lock\nlock = resource_lock(name)\n"
        "while not os.path.exists(folder + '/stop'):\n    lock.get_lock(None); work(); lock.unget_lock()\n"
    ),
}
# For one round: the wrapper is killed, and the lock stays its command's until that has ended.
COMMANDS = "the command"
RUST = "a program in Rust"


class User:
    """A process that uses the lock until it is killed, or for one round."""

    def __init__(self, kind: str, name: str, folder: Path) -> None:
        self.kind = kind
        arguments = [name, str(folder), str(ROOT / "tests/common")]
        if kind == RUST:
            # examples/count.rs
            words = [os.environ["RESOURCELOCK_TEST_COUNT"], *arguments[:2], "1000000"]
        elif kind == COMMANDS:
            python = [sys.executable, "-I", "-S", "-c", ONE_ROUND + "work()"]
            words = [str(COMMAND), name, "run", "--", *python, *arguments]
        else:
            words = [sys.executable, "-c", ONE_ROUND + LOOPS[kind], *arguments]
        with tempfile.NamedTemporaryFile(prefix="numbers.", dir=folder, delete=False) as numbers:
            self.numbers = Path(numbers.name)
            self.process = subprocess.Popen(words, stdout=numbers, stderr=subprocess.PIPE)

    def is_at_work(self) -> bool:
        return self.numbers.stat().st_size > 0 or self.process.poll() is not None

    def end(self, kill: bool = True) -> tuple[str, int, bytes]:
        """What it was, how it ended, and what it said."""
        if kill:
            self.process.kill()
        said = self.process.communicate(timeout=PATIENCE)[1]
        if b"the previous holder died" in said:  # what a command is told after a kill
            said = b""
        return (self.kind, self.process.returncode, said)


class Load(LockCase):
    def test_nobody_is_beside_another_no_update_is_lost_and_nothing_gets_stuck(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.load(Path(folder))

    def load(self, folder: Path) -> None:
        counter = folder / "counter"
        counter.write_text("0")
        dice = random.Random(os.getpid())
        users = {kind: User(kind, self.name, folder) for kind in (*LOOPS, COMMANDS, RUST)}
        victims = [kind for kind in users if kind != MODULE]
        ends: Counter[tuple[str, int, bytes]] = Counter()
        try:
            for _ in range(KILLS):
                user = users[dice.choice(victims)]
                if user.kind != COMMANDS:
                    until(user.is_at_work)
                time.sleep(dice.random() / 100)
                ends[user.end()] += 1
                users[user.kind] = User(user.kind, self.name, folder)
            # Nobody is stuck.
            for user in users.values():
                until(user.is_at_work)
            (folder / "stop").touch()
            ends[users.pop(MODULE).end(kill=False)] += 1
        finally:
            for user in users.values():
                ends[user.end()] += 1
        # A command whose wrapper was killed has ended, too.
        self.assertTrue(Lock(self.name).acquire(PATIENCE))
        total, numbers = int(counter.read_text()), Counter[int]()
        for path in folder.glob("numbers.*"):
            numbers.update(map(int, path.read_text().split()))
        abandoned = json.loads(self.command("state", "--json").stdout)["counters"]["abandoned"]
        print(f"{KILLS} kills, {abandoned} of them while holding; {total} holds")
        expected = {(MODULE, 0, b""), (COMMANDS, 0, b""), *((kind, -9, b"") for kind in victims)}
        self.assertLessEqual(set(ends), expected)
        twice = [number for number, times in numbers.items() if times > 1]
        self.assertEqual(twice, [], "updates were lost")
        # Somebody who was killed in between has written a number without printing it.
        self.assertLessEqual(total - len(numbers), KILLS + len(users))
