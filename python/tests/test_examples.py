"""The programs in python/examples/, as somebody runs them."""

from __future__ import annotations

import subprocess
import sys

from .support import COMMAND, ROOT, LockCase


class Examples(LockCase):
    def run_example(self, name: str, *arguments: str) -> str:
        words = [sys.executable, str(ROOT / "python/examples" / name), *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def test_an_i2c_bus(self) -> None:
        number = str(10**9 + int(self.name.rsplit("-", 1)[1]))
        self.assertEqual(self.run_example("i2c_bus.py", number), "25.3 °C\n")
        subprocess.run([COMMAND, f"i2c-{number}", "remove"], check=True, stdout=subprocess.DEVNULL)

    def test_tasks(self) -> None:
        first, *rest = self.run_example("tasks.py", self.name).splitlines()
        self.assertEqual(first, "somebody is at work")
        self.assertEqual(sorted(rest), [f"worker {number} is at work" for number in range(3)])
