"""What the wheel brings."""

from __future__ import annotations

import importlib.metadata
import unittest
from pathlib import Path

import resourcelock

from .support import COMMAND, ROOT, LockCase


class Installed(LockCase):
    def test_the_command_is_the_program_with_all_engines(self) -> None:
        self.assertEqual(self.command("run", "--", "sh", "-c", "echo ran").stdout, "ran\n")
        with open(COMMAND, "rb") as program:
            self.assertEqual(program.read(4), b"\x7fELF")
        for url in ("etcd://127.0.0.1:1", "postgres://127.0.0.1:1/x"):
            refused = self.command("run", "--backend", url, "--", "true")
            self.assertIn("cannot be reached", refused.stderr)

    def test_the_package_is_typed_and_says_its_version(self) -> None:
        folder = Path(resourcelock.__file__).parent
        self.assertTrue((folder / "py.typed").exists() and (folder / "_native.pyi").exists())
        version = importlib.metadata.version("resourcelock")
        self.assertEqual(version, resourcelock.__version__)
        self.assertIn(f'version = "{version}"', (ROOT / "Cargo.toml").read_text())
        self.assertNotEqual(folder, ROOT / "python/python/resourcelock", "what is installed is tested")

    def test_each_public_name_is_there_and_documented(self) -> None:
        for name in resourcelock.__all__:
            self.assertIsNotNone(getattr(resourcelock, name))
            if name not in ("Holder", "Process", "Record", "State", "Waiter"):
                self.assertTrue(getattr(resourcelock, name).__doc__, name)


if __name__ == "__main__":
    unittest.main()
