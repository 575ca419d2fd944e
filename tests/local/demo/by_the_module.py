"""Runs the seed's demo program with the real Python module, for the lock that is named.

The program is of version 1.3, for version 2.4 of the module. Version 3.2.3 logs only if its loggers are told to; and its
constructor logs its objects, where that of version 2.4 called is_locked().
"""

import logging
import sys
from pathlib import Path

from cjnfuncs import resourcelock

MODULE = resourcelock.resource_lock


class resource_lock(MODULE):
    def __init__(self, name):
        resourcelock.resourcelock_logger.disabled = True
        super().__init__(name)
        resourcelock.resourcelock_logger.disabled = False
        self.is_locked()


resourcelock.resource_lock = resource_lock
for logger in (resourcelock.resourcelock_logger, resourcelock.resourcelock_logger_islocked):
    logger.setLevel(logging.DEBUG)
sys.stderr = sys.stdout
program = (Path(__file__).parent / "seed_demo.py").read_text()
exec(compile(program.replace("test_lock", sys.argv[1]), "demo-resourcelock.py", "exec"), {"__name__": "__main__"})
