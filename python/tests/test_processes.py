"""Forks, spawned processes, the end of the interpreter, and kills."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from pathlib import Path

from resourcelock import Forked, Lock, resource_lock

from .support import PATIENCE, LockCase, until


def increment(lock: Lock, path: str) -> None:
    """What a process does that got the lock from another one."""
    with lock:
        Path(path).write_text(str(int(Path(path).read_text()) + 1))


def refused(pipe: int, lock: Lock, old: resource_lock) -> None:
    """What the child of a fork is told."""
    said: list[str] = []
    for use in (lock.acquire, lock.release, old.get_lock):
        try:
            use()
        except Forked as error:
            said.append(str(error))
    said.append(str(Lock(lock.name).acquire(0)))
    os.write(pipe, "\n".join(said).encode())


class Forks(LockCase):
    def test_the_child_is_told_and_the_parent_keeps_the_lock(self) -> None:
        lock, old = Lock(self.name), resource_lock(self.name)
        with lock:
            reader, writer = os.pipe()
            process = multiprocessing.get_context("fork").Process(target=refused, args=(writer, lock, old))
            process.start()
            process.join()
            os.close(writer)
            with os.fdopen(reader) as answers:
                *said, acquired = answers.read().split("\n")
            self.assertEqual(len(said), 3)
            for each in said:
                self.assertIn("before a fork; open it again in this process", each)
            self.assertEqual(acquired, "False")
            self.assertTrue(lock.locked)
        self.assertFalse(lock.state().locked)

    def test_leaving_the_block_in_the_child_releases_nothing(self) -> None:
        lock = Lock(self.name)
        child = 0
        with lock:
            child = os.fork()
            if not child:
                status = 1
                try:
                    lock.__exit__(None, None, None)
                    status = 0
                finally:
                    os._exit(status)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            self.assertTrue(lock.locked and lock.state().locked)

    def test_spawned_processes_get_a_lock_of_their_own(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "count"
            path.write_text("0")
            context = multiprocessing.get_context("spawn")
            workers = [context.Process(target=increment, args=(Lock(self.name), str(path))) for _ in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            self.assertEqual(([worker.exitcode for worker in workers], path.read_text()), ([0, 0], "2"))


class TheEnd(LockCase):
    def ends(self, how: str) -> None:
        """A program ends in this way, while a daemon thread of it waits for the lock that it holds."""
        program = (
            "import atexit, sys, threading; from resourcelock import Lock\n"
            "lock, other = Lock(sys.argv[1]), Lock(sys.argv[1])\n"
            "lock.acquire()\n"
            "threading.Thread(target=other.acquire, daemon=True).start()\n"
            "while not lock.state().waiters: pass\n"
            f"{how}\n"
            "print('end')"
        )
        self.assertEqual(self.child(program).rest(), ("end\n", 0))
        until(lambda: Lock(self.name).acquire(0))

    def test_holding_it(self) -> None:
        self.ends("")

    def test_releasing_it_at_exit(self) -> None:
        self.ends("atexit.register(lock.release)")

    def test_releasing_it_in_a_finalizer(self) -> None:
        self.ends(
            "class Last:\n"
            "    def __init__(self, lock): self.lock = lock\n"
            "    def __del__(self): self.lock.release()\n"
            "sys.modules['last'] = Last(lock)"
        )

    def test_acquiring_it_at_exit(self) -> None:
        program = (
            "import atexit, sys; from resourcelock import Lock\n"
            "lock = Lock(sys.argv[1])\n"
            "def last():\n"
            "    with lock: print('held')\n"
            "atexit.register(last)"
        )
        self.assertEqual(self.child(program).rest(), ("held\n", 0))

    def test_a_loop_that_is_closed_while_a_task_waits(self) -> None:
        program = (
            "import asyncio, sys; from resourcelock import Lock\n"
            "held, lock = Lock(sys.argv[1]), Lock(sys.argv[1])\n"
            "held.acquire()\n"
            "async def main():\n"
            "    task = asyncio.ensure_future(lock.acquire_async())\n"
            "    while not held.state().waiters: await asyncio.sleep(0.001)\n"
            "    return task\n"
            "loop = asyncio.new_event_loop(); task = loop.run_until_complete(main()); loop.close()\n"
            "task._log_destroy_pending = False\n"
            "held.release()"
        )
        self.assertEqual(self.child(program).rest(), ("", 0))


class Interpreters(LockCase):
    def test_a_second_interpreter_is_told_what_to_do(self) -> None:
        program = (
            "import sys\n"
            "try: import _interpreters as interpreters\n"
            "except ImportError: import _xxsubinterpreters as interpreters\n"
            "from resourcelock import Lock\n"
            "lock = Lock(sys.argv[1]); lock.acquire()\n"
            "interpreters.run_string(interpreters.create(), '''\n"
            "try: import resourcelock\n"
            "except ImportError as error: print(error, flush=True)\n"
            "''')\n"
            "print(lock.locked)"
        )
        said, status = self.child(program).rest()
        self.assertRegex(said, "(?s)subinterpreter.*True\n$")
        self.assertEqual(status, 0)


class Kills(LockCase):
    def test_a_killed_holder_and_a_killed_waiter_stop_nobody(self) -> None:
        lock = Lock(self.name)
        holder = self.holder()
        waiter = self.child("import sys; from resourcelock import Lock; Lock(sys.argv[1]).acquire()")
        self.until_waiting(lock)
        waiter.kill()
        holder.kill()
        self.assertTrue(lock.acquire(PATIENCE))
        self.assertTrue(lock.abandoned)
        lock.mark_recovered()
        lock.release()
        with lock:
            self.assertFalse(lock.abandoned)


class Threads(LockCase):
    def test_a_fork_while_another_thread_waits(self) -> None:
        holder, lock = self.holder(), Lock(self.name)
        waiter = threading.Thread(target=lock.acquire)
        waiter.start()
        self.until_waiting(lock)
        child = os.fork()
        if not child:
            os._exit(0 if not Lock(self.name).acquire(0) else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        holder.say()
        waiter.join()
        self.assertTrue(lock.locked)
