#!/usr/bin/env python3
"""How often a process that is stopped at a random instant stands inside a lock's table.

    scripts/stopped-inside.py PROGRAM TRIES

Starts `PROGRAM NAME run -n true` so often, stops each at a random instant of its life, and looks at the table's latch.
While a process is stopped inside, everybody else waits: this should be rare (see docs/design.md, *Latch*).
"""

import os
import random
import signal
import struct
import sys
import time

LATCH = 64  # see `Header` in src/lock/shm/layout.rs


def main(program, tries):
    name = f"stopped-inside-{os.getpid()}"
    table = f"/dev/shm/resourcelock3.{name}"
    environment = {word: value for word, value in os.environ.items() if not word.startswith("RESOURCELOCK_")}
    start = lambda: os.posix_spawnp(program, [program, name, "run", "-n", "true"], environment)
    lives = []
    for _ in range(20):
        begin = time.perf_counter()
        os.waitpid(start(), 0)
        lives.append(time.perf_counter() - begin)
    life = sorted(lives)[len(lives) // 2]
    stopped = inside = 0
    with open(table, "rb", buffering=0) as file:
        for _ in range(tries):
            pid = start()
            until = time.perf_counter() + random.random() * life
            while time.perf_counter() < until:
                pass
            os.kill(pid, signal.SIGSTOP)
            _, status = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                continue
            stopped += 1
            inside += struct.unpack("I", os.pread(file.fileno(), 4, LATCH))[0] != 0
            os.kill(pid, signal.SIGCONT)
            os.waitpid(pid, 0)
    os.waitpid(os.posix_spawnp(program, [program, name, "remove", "-q"], environment), 0)
    print(f"{life * 1e3:.2f} ms of life; {stopped} stops, {inside} of them inside ({100 * inside / max(1, stopped):.3f} %)")


main(sys.argv[1], int(sys.argv[2]))
