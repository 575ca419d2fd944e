"""Tasks of an event loop take turns with each other and with other programs; one of them gives up after a while."""

from __future__ import annotations

import asyncio
import sys

from resourcelock import Lock, LockTimeout


async def worker(name: str, number: int) -> None:
    async with Lock(name, message=f"worker {number}"):
        print(f"worker {number} is at work")
        await asyncio.sleep(0.01)


async def impatient(name: str) -> None:
    try:
        async with Lock(name, timeout=0):
            print("nobody was at work")
    except LockTimeout:
        print("somebody is at work")


async def main(name: str) -> None:
    async with Lock(name):
        await impatient(name)
    await asyncio.gather(*(worker(name, number) for number in range(3)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tasks"))
