"""The real Python module as a peer: one JSON request a line on standard input, one JSON answer a line on output."""

import json
import os
import sys
import time

from cjnfuncs.resourcelock import resource_lock

lock = None


def open_lock(name, note_size):
    global lock
    lock = resource_lock(name, note_size)


def hold(rounds, length):
    """Takes the lock `rounds` times for `length` seconds each, and asks for it again at once."""
    for _ in range(rounds):
        lock.get_lock(timeout=None, lock_info="python holder")
        time.sleep(length)
        lock.unget_lock()


def work(folder, rounds):
    """Adds 1 to folder/counter in each round, under the lock. Returns how often somebody else was inside as well."""
    marker, counter = os.path.join(folder, "inside"), os.path.join(folder, "counter")
    overlaps = 0
    for _ in range(rounds):
        lock.get_lock(timeout=None, lock_info="python worker")
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            overlaps += 1
        with open(counter) as file:
            value = int(file.read())
        with open(counter, "w") as file:
            file.write(str(value + 1))
        try:
            os.unlink(marker)
        except FileNotFoundError:
            overlaps += 1
        lock.unget_lock()
    return overlaps


REQUESTS = {
    "open": open_lock,
    "get": lambda timeout, info: lock.get_lock(timeout=timeout, lock_info=info),
    "unget": lambda force: lock.unget_lock(force=force),
    "post": lambda: lock.lock.release(),
    "value": lambda: lock.lock_value(),
    "is_locked": lambda: lock.is_locked(),
    "have": lambda: lock.I_have_the_lock,
    "info": lambda: lock.get_lock_info(),
    "set_info": lambda text: lock.set_lock_info(text),
    "hold": hold,
    "work": work,
}

for line in sys.stdin:
    request, *arguments = json.loads(line)
    try:
        answer = REQUESTS[request](*arguments)
    except Exception as problem:  # whatever it is, the test wants to see it
        answer = {"error": f"{type(problem).__name__}: {problem}"}
    print(json.dumps(answer), flush=True)
