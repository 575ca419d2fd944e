"""What examples/count.rs does under its lock, for Python programs. Imports nothing, so that it starts fast."""

import os


def increment(folder):
    """Adds 1 to folder/counter, under a lock: the number. Fails if somebody else is at work meanwhile."""
    pid = str(os.getpid())
    own, inside, counter = (os.path.join(folder, name) for name in ["pid." + pid, "inside", "counter"])
    if not os.path.exists(own):
        write(own, pid)
    mark(own, inside)
    number = int(read(counter)) + 1
    write(counter + "." + pid, str(number))
    os.rename(counter + "." + pid, counter)
    assert read(inside) == pid, "somebody has taken over"
    os.unlink(inside)
    return number


def mark(own, inside):
    """Fails if a living process is at work."""
    while True:
        try:
            return os.link(own, inside)
        except FileExistsError:
            pid = read(inside)
        assert not exists(pid), f"process {pid} is at work as well"
        os.unlink(inside)


def exists(pid):
    """False for a process that is exiting: it drops its memory, and so its program, before it releases its locks."""
    try:
        return bool(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
