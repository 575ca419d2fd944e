"""The seed's demo program (Chris Nelson, MIT licence), as it was published, with its import changed."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .support import ROOT, LockCase

IMPORT = "from cjnfuncs.resourcelock import resource_lock\n"


class Demo(LockCase):
    def demo(self) -> str:
        """What it prints, with only its import changed (and the lock's name, which is each test's own)."""
        program = (ROOT / "python/tests/seed_demo.py").read_text()
        self.assertIn(IMPORT, program)
        program = program.replace(IMPORT, "from resourcelock import resource_lock\n").replace("test_lock", self.name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "demo-resourcelock"
            path.write_text(program)
            return self.masked([sys.executable, str(path)])

    def masked(self, words: list[str]) -> str:
        ran = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
        return self.mask(ran.stdout)

    def mask(self, text: str) -> str:
        text = re.sub(r"<\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} - ", "<DATE - ", text)
        return text.replace(self.name, "test_lock")

    def test_unlocked_at_first_it_prints_the_published_listing(self) -> None:
        listing = (ROOT / "tests/local/demo/listing.txt").read_text()
        # Two lines that version 2.4 of the module printed on a lock with a note, and without one.
        listing = listing.replace("<2024-10-20 16:22:06.213743 - cli>", "<>")
        # Since version 3.
        listing = listing.replace(
            "   DEBUG:  <test_lock> lock unget request ignored", "    INFO:  <test_lock> lock unget request ignored"
        )
        self.assertEqual(self.demo(), self.mask(listing))

    def test_locked_at_first_it_prints_what_the_module_prints(self) -> None:
        self.assertEqual(self.command("get").returncode, 0)
        ours = self.demo()
        self.assertIn("is_lock returned    <True>", ours)
        self.command("remove", "--force")
        self.assertEqual(self.command("get").returncode, 0)
        # This one is for the loggers and levels of version 3.2.
        theirs = self.masked([sys.executable, str(ROOT / "tests/local/demo/seed_demo.py"), self.name])
        self.assertEqual(ours, theirs)
