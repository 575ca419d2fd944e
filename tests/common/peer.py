"""The real Python module as a peer: one JSON request per line on standard input, one JSON answer per line on output."""

import fcntl
import json
import os
import struct
import sys
import time

import counting
from cjnfuncs.resourcelock import resource_lock

lock = None


def open_lock(name, note_size):
    global lock
    lock = resource_lock(name, note_size)


def hold(rounds, length):
    """Takes the lock `rounds` times in a row, for `length` seconds each. Its notes are numbered."""
    for number in range(rounds):
        lock.get_lock(timeout=None, lock_info=f"python holder {number}")
        time.sleep(length)
        lock.unget_lock()


def work(folder, rounds):
    """Adds 1 to folder/counter in each round, under the lock. Returns the numbers."""
    numbers = []
    for _ in range(rounds):
        lock.get_lock(timeout=None, lock_info="python worker")
        numbers.append(counting.increment(folder))
        lock.unget_lock()
    return numbers


def visit(name, folder, timeout, length):
    """A visit as in tests/isolated/stress/occupancy.rs, with a lock that is opened for it alone. When it began to release it; None: not acquired."""
    since = time.monotonic_ns()
    own = resource_lock(name)
    try:
        if not own.get_lock(timeout=timeout, lock_info="python visitor"):
            return None
        note(folder, f"visitor.{os.getpid()}", {"since": since})
        with open(os.path.join(folder, "side"), "r+b") as side:
            other = enter(side, folder)
            if other:
                at = time.monotonic_ns()
                note(folder, "journal", {"what": "overlap", "at": at, "me": {"since": since}, "others": [other]})
            else:
                note(folder, "journal", {"what": "python", "at": time.monotonic_ns(), "since": since, "pid": os.getpid()})
            time.sleep(length)
        begin = time.monotonic_ns()
        own.unget_lock()
        return begin
    finally:
        own.close()


# Of the side file, one byte each.
SLOTS = 3


def enter(side, folder):
    """As in occupancy.rs: takes all bytes of the side file; else how whoever has some described itself."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, SLOTS, 0)
    while True:
        before = time.monotonic_ns()
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(side, fcntl.F_GETLK, asked))
        if kind != fcntl.F_UNLCK:
            after = time.monotonic_ns()
            with open(os.path.join(folder, f"visitor.{pid}")) as file:
                last = [said for said in map(json.loads, file) if said["since"] <= after][-1]
            if last["since"] <= before:
                return last
            continue
        try:
            fcntl.lockf(side, fcntl.LOCK_EX | fcntl.LOCK_NB, SLOTS)
            return None
        except OSError:
            pass


def note(folder, name, line):
    """Adds a line to a file, in one piece: others write as well."""
    with open(os.path.join(folder, name), "ab", buffering=0) as file:
        file.write((json.dumps(line) + "\n").encode())


def force_anew(name):
    """Releases by force, with a lock that is opened for this alone."""
    own = resource_lock(name)
    try:
        return own.unget_lock(force=True)
    finally:
        own.close()


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
    "visit": visit,
    "force_anew": force_anew,
}


def serve(requests):
    """Answers requests until there are no more."""
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        try:
            answer = requests[request](*arguments)
        except Exception as problem:  # whatever it is, the test needs to see it
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(REQUESTS)
