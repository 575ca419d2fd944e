"""`Lock` on real servers: etcd and PostgreSQL, which `tests/package/package_python.rs` has started."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess

from resourcelock import Lock, LockTimeout, NotHeld, Unsupported, WouldDeadlock

from .support import COMMAND, PATIENCE, Child, LockCase, until

HOLDER = (
    "import sys; from resourcelock import Lock\n"
    "with Lock(sys.argv[1], backend=sys.argv[2]): print('held'); sys.stdin.readline()"
)


class Etcd(LockCase):
    url = os.environ["RESOURCELOCK_TEST_ETCD"]

    def lock(self, **terms: object) -> Lock:
        return Lock(self.name, backend=self.url, **terms)  # type: ignore[arg-type]

    def run_command(self, *options: str) -> subprocess.Popen[str]:
        words = [
            str(COMMAND),
            self.name,
            "run",
            "--backend",
            self.url,
            *options,
            "--",
            "sh",
            "-c",
            "echo ran; read line",
        ]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def holder_on_engine(self) -> Child:
        child = self.child(HOLDER, self.url)
        self.assertEqual(child.line(), "held")
        return child

    def test_a_killed_program_frees_it(self) -> None:
        # With its connection, or with its lease: 10 s.
        self.holder_on_engine().kill()
        lock = self.lock()
        self.assertTrue(lock.acquire(PATIENCE))
        lock.release()

    def test_it_excludes_the_command_and_the_command_excludes_it(self) -> None:
        lock = self.lock(message="a scan")
        with lock:
            self.assertTrue(lock.locked and lock.lost is None)
            first = lock.token
            self.assertEqual([each.process.pid for each in lock.state().holders], [os.getpid()])
            refused = self.run_command("-t", "0")
            _, said = refused.communicate()
            self.assertEqual(refused.returncode, 75)
            self.assertIn("a scan", said)
            waiting = self.run_command("-t", str(PATIENCE))
            until(lambda: len(lock.state().waiters) == 1)
        assert waiting.stdout
        self.assertEqual(waiting.stdout.readline(), "ran\n")
        self.assertFalse(lock.acquire(0))
        self.assertFalse(lock.acquire(0.05))
        with self.assertRaises(LockTimeout), self.lock(timeout=0.05):
            self.fail("entered")
        waiting.communicate("end\n")
        self.assertEqual(waiting.returncode, 0)
        self.assertTrue(lock.acquire(PATIENCE))
        self.assertGreater(lock.token, first)
        with self.assertRaises(WouldDeadlock):
            lock.acquire()
        lock.release()
        with self.assertRaises(NotHeld):
            lock.release()

    def test_ctrl_c_ends_a_wait_and_leaves_the_queue(self) -> None:
        with self.lock() as lock:
            waiter = self.child(
                "import sys; from resourcelock import Lock\n"
                "try: Lock(sys.argv[1], backend=sys.argv[2]).acquire()\n"
                "except KeyboardInterrupt: print('interrupted')",
                self.url,
            )
            until(lambda: len(lock.state().waiters) == 1)
            waiter.kill(signal.SIGINT)
            self.assertEqual(waiter.rest(), ("interrupted\n", 0))
            until(lambda: not lock.state().waiters)

    def test_tasks(self) -> None:
        inside = most = 0

        async def work() -> None:
            nonlocal inside, most
            async with self.lock(timeout=PATIENCE):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        async def main() -> None:
            async with self.lock() as lock:
                task = asyncio.create_task(self.lock().acquire_async())
                while not lock.state().waiters:
                    await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait([task])
                self.assertTrue(task.cancelled())
            await asyncio.gather(*(work() for _ in range(4)))

        asyncio.run(main())
        self.assertEqual(most, 1)

    def test_a_forked_child_releases_nothing(self) -> None:
        program = (
            "import os, sys; from resourcelock import Forked, Lock\n"
            "lock = Lock(sys.argv[1], backend=sys.argv[2])\n"
            "def refused(use):\n"
            "    try: use()\n"
            "    except Forked as error: print(error)\n"
            "def leave():\n"
            "    try: lock.__aexit__(None, None, None).send(None)\n"
            "    except StopIteration: pass\n"
            "def child(work):\n"
            "    pid = os.fork()\n"
            "    if not pid: work(); sys.exit()\n"
            "    if os.waitpid(pid, 0)[1]: print('failed')\n"
            "lock.acquire()\n"
            "for use in lambda: lock.acquire(0), lock.release, lock.state: child(lambda: refused(use))\n"
            "for use in lambda: None, lock.close, lambda: lock.__exit__(), leave: child(use)\n"
            "print(lock.lost, Lock(sys.argv[1], backend=sys.argv[2]).acquire(0)); lock.release()"
        )
        said, status = self.child(program, self.url).rest()
        *refused, last = said.splitlines()
        self.assertEqual((last, status), ("None False", 0), said)
        self.assertEqual(len(refused), 3, said)
        for each in refused:
            self.assertIn("before a fork; open it again in this process", each)

    def test_one_that_is_sent_to_another_process_is_opened_there(self) -> None:
        with self.lock() as lock:
            copy = pickle.loads(pickle.dumps(lock))
            self.assertFalse(copy.acquire(0))
        self.assertTrue(copy.acquire(PATIENCE))
        copy.close()
        self.assertFalse(lock.state().locked)

    def test_what_it_cannot_do_it_says(self) -> None:
        with self.assertRaises(Unsupported):
            self.lock().history()


class Postgres(Etcd):
    url = os.environ["RESOURCELOCK_TEST_POSTGRES"]
