"""`Lock` in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable
from typing import Callable

from resourcelock import Lock, LockTimeout, NotHeld

from .support import PATIENCE, LockCase, until


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

    def test_a_release_says_that_there_is_nothing_to_release(self) -> None:
        async def main() -> None:
            lock = Lock(self.name)
            with self.assertRaises(NotHeld):
                await lock.release_async()
            self.assertTrue(await lock.acquire_async())
            self.command("unget")
            with self.assertRaisesRegex(NotHeld, "was lost before"):
                await lock.release_async()

        asyncio.run(main())

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


class OneObject(LockCase):
    """Tasks and threads that use one `Lock`, each with a hold of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.lock, self.other = Lock(self.name), Lock(self.name, timeout=0)

    def take_away(self) -> None:
        self.assertEqual(self.command("unget").returncode, 0)

    def check_held(self, token: int) -> None:
        """This hold is the caller's, and the only one."""
        self.assertEqual((self.lock.locked, self.lock.lost, self.lock.token), (True, None, token))
        self.assertEqual([each.token for each in self.lock.state().holders], [token])
        self.assertFalse(self.other.acquire())

    def check_lost(self, token: int) -> None:
        """This hold is the caller's, and was taken away."""
        told = (self.lock.locked, self.lock.lost, self.lock.token)
        self.assertEqual(told, (False, "released by force, or expired", token))

    def check_free(self) -> None:
        self.assertFalse(self.lock.state().locked)
        self.assertTrue(self.other.acquire())

    def beside_the_next(self, first: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        """A task that enters and leaves, while the next waits, and enters (the event), and leaves after it."""

        async def main() -> None:
            entered, left = asyncio.Event(), asyncio.Event()

            async def enter_next() -> None:
                while not self.lock.state().locked:
                    await asyncio.sleep(0.001)
                async with self.lock:
                    token = self.lock.token
                    entered.set()
                    await left.wait()
                    self.check_held(token)

            async def enter_first() -> None:
                await first(entered)
                left.set()

            await asyncio.gather(enter_first(), enter_next())

        asyncio.run(main())
        self.check_free()

    async def next_waits(self) -> None:
        while not self.lock.state().waiters:
            await asyncio.sleep(0.001)

    def test_a_task_that_lost_its_hold_is_told_and_leaves_the_next_one_alone(self) -> None:
        async def lose(entered: asyncio.Event) -> None:
            async with self.lock:
                token = self.lock.token
                await self.next_waits()
                self.take_away()
                await entered.wait()
                self.check_lost(token)

        self.beside_the_next(lose)

    def test_a_task_that_lost_its_hold_releases_its_own(self) -> None:
        async def lose(entered: asyncio.Event) -> None:
            self.assertTrue(await self.lock.acquire_async())
            token = self.lock.token
            await self.next_waits()
            self.take_away()
            await entered.wait()
            self.check_lost(token)
            with self.assertRaisesRegex(NotHeld, "was lost before it was released"):
                self.lock.release()

        self.beside_the_next(lose)

    def test_a_task_that_has_released_inside_leaves_the_next_one_alone(self) -> None:
        async def release(entered: asyncio.Event) -> None:
            async with self.lock:
                await self.next_waits()
                await asyncio.shield(self.lock.release_async())
                await entered.wait()
                self.assertFalse(self.lock.locked)
                with self.assertRaisesRegex(NotHeld, "is not held through this object"):
                    self.lock.release()

        self.beside_the_next(release)

    def test_a_task_for_which_wait_for_acquires_and_releases(self) -> None:
        async def acquire(entered: asyncio.Event) -> None:
            # Before Python 3.12, in a task of its own.
            await asyncio.wait_for(self.lock.acquire_async(), PATIENCE)
            token = self.lock.token
            await self.next_waits()
            self.take_away()
            await entered.wait()
            self.check_lost(token)
            with self.assertRaisesRegex(NotHeld, "was lost before it was released"):
                await asyncio.wait_for(self.lock.release_async(), PATIENCE)

        self.beside_the_next(acquire)

    def test_a_thread_that_has_released_inside_leaves_the_next_one_alone(self) -> None:
        entered, left = threading.Event(), threading.Event()
        tokens: list[int] = []

        def enter_next() -> None:
            with self.lock:
                tokens.append(self.lock.token)
                entered.set()
                left.wait()

        thread = threading.Thread(target=enter_next)
        self.addCleanup(left.set)
        with self.lock:
            thread.start()
            until(lambda: self.lock.state().waiters)
            self.lock.release()
            entered.wait()
        self.assertEqual([each.token for each in self.lock.state().holders], tokens)
        left.set()
        thread.join()
        self.check_free()

    def test_a_block_that_releases_and_acquires_again_ends_with_a_release(self) -> None:
        async def main() -> None:
            async with self.lock:
                await self.lock.release_async()
                self.assertFalse(self.lock.locked)
                self.assertTrue(await self.lock.acquire_async())
                self.check_held(self.lock.token)
            self.assertFalse(self.lock.state().locked)
            with self.lock:
                self.lock.release()
                self.assertTrue(self.lock.acquire())
                self.check_held(self.lock.token)

        asyncio.run(main())
        self.check_free()

    def test_another_task_may_release_and_leave(self) -> None:
        async def main() -> None:
            async def do(use: Callable[[], Awaitable[object]]) -> None:
                await use()

            async def leave() -> None:
                await self.lock.__aexit__(None, None, None)

            async def leave_with() -> None:
                self.lock.__exit__(None, None, None)

            self.assertTrue(await asyncio.create_task(self.lock.acquire_async()))
            self.check_held(self.lock.token)
            await asyncio.create_task(do(self.lock.release_async))
            self.assertFalse(self.lock.state().locked)
            await asyncio.create_task(do(self.lock.acquire_async))
            self.lock.release()
            self.assertFalse(self.lock.state().locked)
            await self.lock.__aenter__()
            await asyncio.create_task(do(leave))
            self.assertFalse(self.lock.state().locked)
            self.lock.__enter__()
            await asyncio.create_task(do(leave_with))
            self.assertFalse(self.lock.state().locked)
            await asyncio.create_task(do(self.lock.acquire_async))

        asyncio.run(main())
        self.check_held(self.lock.token)
        thread = threading.Thread(target=self.lock.release)
        thread.start()
        thread.join()
        self.check_free()

    def test_blocks_of_one_task_end_in_their_order(self) -> None:
        readers = Lock(self.name, shared=True)

        async def main() -> None:
            async with readers:
                first = readers.token
                async with readers:
                    second = readers.token
                    readers.release()
                    self.assertEqual(readers.token, first)
                self.assertEqual([each.token for each in readers.state().holders], [first])
                self.assertNotEqual(first, second)

        asyncio.run(main())
        self.check_free()

    def test_a_hold_that_was_lost_is_no_deadlock(self) -> None:
        with self.lock:
            self.take_away()
            with self.lock:
                self.check_held(self.lock.token)
            self.assertFalse(self.lock.state().locked)
        self.check_free()
