"""The real Python module as a peer: one JSON request per line on standard input, one JSON answer per line on output."""

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
    """Takes the lock `rounds` times in a row, for `length` seconds each. Its notes are numbered."""
    for number in range(rounds):
        lock.get_lock(timeout=None, lock_info=f"python holder {number}")
        time.sleep(length)
        lock.unget_lock()


def work(folder, rounds):
    """Adds 1 to folder/counter in each round, under the lock, as examples/count.rs does. Returns the numbers."""
    pid = str(os.getpid())
    own, inside, counter = (os.path.join(folder, name) for name in ["pid." + pid, "inside", "counter"])
    write(own, pid)
    numbers = []
    for _ in range(rounds):
        lock.get_lock(timeout=None, lock_info="python worker")
        mark(own, inside)
        with open(counter) as file:
            number = int(file.read()) + 1
        write(counter + "." + pid, str(number))
        os.rename(counter + "." + pid, counter)
        with open(inside) as file:
            assert file.read() == pid, "somebody has taken over"
        os.unlink(inside)
        lock.unget_lock()
        numbers.append(number)
    return numbers


def mark(own, inside):
    """Fails if a living process is at work."""
    while True:
        try:
            return os.link(own, inside)
        except FileExistsError:
            with open(inside) as file:
                pid = file.read()
        assert not exists(pid), f"process {pid} is at work as well"
        os.unlink(inside)


def exists(pid):
    """False for a process that is exiting: it drops its memory, and so its program, before it releases its locks."""
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


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
    except Exception as problem:  # whatever it is, the test needs to see it
        answer = {"error": f"{type(problem).__name__}: {problem}"}
    print(json.dumps(answer), flush=True)
