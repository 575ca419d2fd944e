"""One Python package of those that benches/report/python.rs compares, in a process of its own: answers each line with numbers."""

import os
import sys
import time


def resourcelock_lock(name):
    from resourcelock import Lock

    lock = Lock(name, message="bench")
    return lock.acquire, lock.release, lock.close


def resourcelock_drop_in(name):
    from resourcelock import resource_lock

    lock = resource_lock(name)
    return lambda: lock.get_lock(None, lock_info="bench"), lock.unget_lock, lock.close


def cjnfuncs(name):
    import posix_ipc
    from cjnfuncs.resourcelock import resource_lock

    lock = resource_lock(name)

    def end():
        lock.close()
        posix_ipc.unlink_semaphore("/" + name)
        posix_ipc.unlink_shared_memory("/" + name)

    return lambda: lock.get_lock(None, lock_info="bench"), lock.unget_lock, end


def posix_ipc(name):
    import posix_ipc

    semaphore = posix_ipc.Semaphore("/" + name, posix_ipc.O_CREAT, initial_value=1)
    return semaphore.acquire, semaphore.release, semaphore.unlink


def file_of(name):
    path = "/dev/shm/" + name + ".lock"

    def end():
        if os.path.exists(path):
            os.unlink(path)

    return path, end


def filelock(name):
    from filelock import FileLock

    path, end = file_of(name)
    lock = FileLock(path)
    return lock.acquire, lock.release, end


def fasteners(name):
    from fasteners import InterProcessLock

    path, end = file_of(name)
    lock = InterProcessLock(path)
    return lock.acquire, lock.release, end


def portalocker(name):
    from portalocker import Lock

    path, end = file_of(name)
    lock = Lock(path, timeout=60)
    return lock.acquire, lock.release, end


def main(kind, name):
    acquire, release, end = globals()[kind](name)
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "pairs\n":
            start = time.perf_counter_ns()
            for _ in range(300):
                acquire()
                release()
            print((time.perf_counter_ns() - start) / 300, flush=True)
        elif line == "acquire\n":
            acquire()
            print(time.monotonic_ns(), flush=True)
        elif line == "release\n":
            now = time.monotonic_ns()
            release()
            print(now, flush=True)
        else:
            break
    if line == "end\n":
        end()


main(*sys.argv[1:])
