"""`Lock` in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from resourcelock import Lock, LockTimeout

from .support import LockCase, until


class Tasks(LockCase):
    def test_many_tasks_take_turns(self) -> None:
        one = Lock(self.name)
        inside = most = 0

        async def work(lock: Lock) -> None:
            nonlocal inside, most
            async with lock:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        async def main() -> None:
            locks = [one] * 20 + [Lock(self.name) for _ in range(20)]
            await asyncio.gather(*map(work, locks))

        asyncio.run(main())
        self.assertEqual(most, 1)
        self.assertEqual(sum(each.how == "released" for each in one.history()), 40)

    def test_cancelling_a_task_leaves_the_queue(self) -> None:
        async def main() -> None:
            lock, other = Lock(self.name), Lock(self.name)
            async with lock:
                task = asyncio.create_task(other.acquire_async())
                while not lock.state().waiters:
                    await asyncio.sleep(0.001)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                self.assertTrue(task.cancelled())
                while lock.state().waiters:
                    await asyncio.sleep(0.001)
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(other.acquire_async(), 0.05)
                with self.assertRaises(LockTimeout):
                    async with Lock(self.name, timeout=0.01):
                        self.fail("entered")
            self.assertTrue(await other.acquire_async(timeout=60))
            await other.release_async()

        asyncio.run(main())
        self.assertFalse(Lock(self.name).state().locked)

    def test_ctrl_c_ends_the_wait_of_a_task(self) -> None:
        program = (
            "import asyncio, sys; from resourcelock import Lock\n"
            "lock = Lock(sys.argv[1])\n"
            "async def main(): await lock.acquire_async()\n"
            "try: asyncio.run(main())\n"
            "except KeyboardInterrupt: print('interrupted')\n"
            "while lock.state().waiters: pass"
        )
        with Lock(self.name) as lock:
            waiter = self.child(program)
            self.until_waiting(lock)
            waiter.kill(signal.SIGINT)
            self.assertEqual(waiter.rest(), ("interrupted\n", 0))

    def test_a_grant_to_a_task_that_was_cancelled_is_released(self) -> None:
        async def main() -> None:
            lock = Lock(self.name)
            holder = self.holder()
            task = asyncio.create_task(lock.acquire_async())
            while not lock.state().waiters:
                await asyncio.sleep(0.001)
            holder.say()
            until(lambda: not lock.state().waiters)  # granted, while the task cannot run
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(main())
        lock = Lock(self.name)
        until(lambda: not lock.state().locked)
