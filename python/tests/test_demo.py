"""The seed's demo program (Chris Nelson, MIT licence), as it was published, with its import changed."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .support import ROOT, LockCase

DEMO = ROOT / "tests/local/demo"
IMPORT = "from cjnfuncs.resourcelock import resource_lock\n"


class Demo(LockCase):
    def ours(self) -> str:
        """What it prints, with only its import changed (and the lock's name, which is each test's own)."""
        program = (DEMO / "seed_demo.py").read_text()
        self.assertIn(IMPORT, program)
        program = program.replace(IMPORT, "from resourcelock import resource_lock\n").replace("test_lock", self.name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "demo-resourcelock"
            path.write_text(program)
            return self.printed(str(path))

    def theirs(self) -> str:
        """What it prints with the real module."""
        return self.printed(str(DEMO / "by_the_module.py"), self.name)

    def printed(self, *words: str) -> str:
        ran = subprocess.run(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        return self.mask(ran.stdout)

    def mask(self, text: str) -> str:
        text = re.sub(r"<\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} - ", "<DATE - ", text)
        return text.replace(self.name, "test_lock")

    def test_unlocked_at_first_it_prints_the_published_listing(self) -> None:
        listing = (DEMO / "listing.txt").read_text()
        # The lock had been used before. Version 2.4 of the module said so once, and then forgot it.
        listing = listing.replace("<2024-10-20 16:22:06.213743 - cli>", "<>")
        # Since version 3.
        listing = listing.replace(
            "   DEBUG:  <test_lock> lock unget request ignored", "    INFO:  <test_lock> lock unget request ignored"
        )
        self.assertEqual(self.ours(), self.mask(listing))
        self.command("remove", "--force")
        self.assertEqual(self.theirs(), self.mask(listing))

    def test_locked_at_first_it_prints_what_the_module_prints(self) -> None:
        printed = []
        for demo in (self.ours, self.theirs):
            self.assertEqual(self.command("get").returncode, 0)
            printed.append(demo())
            self.command("remove", "--force")
        ours, theirs = printed
        self.assertEqual(ours, theirs)
        self.assertIn("is_lock returned    <True>", ours)
        self.assertIn("lock request timed out  - Current owner   <DATE - cli>", ours)
