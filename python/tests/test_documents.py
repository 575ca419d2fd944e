"""The Python blocks of docs/python.md and README.md run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys

from .support import ROOT, LockCase


class Documents(LockCase):
    def test_blocks_run(self) -> None:
        for document in ("docs/python.md", "python/README.md"):
            blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
            self.assertTrue(blocks)
            for block in blocks:
                program = block.replace('"i2c"', repr(self.name))
                ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
                self.assertEqual((ran.returncode, ran.stderr), (0, ""), block)
