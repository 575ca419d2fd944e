"""`Lock`: the native one, and what event loops need."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import Forked, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import EllipsisType, TracebackType

    from typing_extensions import Self


def command_name() -> str | None:
    """What others are shown: the script, not the interpreter."""
    script = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    return None if script in ("", "-", "-c", "-m") else script


def in_range(what: str, number: int | None) -> int | None:
    """A number as the system has them; which of the arguments it was is said."""
    if isinstance(number, int) and not 0 <= number < 2**32:
        raise InvalidRequest(f"{what} must be from 0 to {2**32 - 1}, but is {number}")
    return number


def user_id(owner: int | str | None) -> int | None:
    """The number of a user who is named."""
    if not isinstance(owner, str):
        return in_range("owner", owner)
    import pwd  # noqa: PLC0415

    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise InvalidRequest(f"there is no user '{owner}'") from None


def group_id(group: int | str | None) -> int | None:
    """The number of a group that is named."""
    if not isinstance(group, str):
        return in_range("group", group)
    import grp  # noqa: PLC0415

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidRequest(f"there is no group '{group}'") from None


class Lock(_native.Lock):
    """A named lock. `with` and `async with` acquire it and release it, however their block ends.

    name:     all who use this name, in any process, use the same lock.
    timeout:  how long to wait, in seconds; None (the default) = without limit, 0 = not at all.
    shared:   may be held together with other shared holds (readers), not with exclusive ones (writers).
    slots:    may be held by so many at once who say the same number.
    message:  what others are shown as the reason.
    backend:  where the lock is kept: this machine (the default), etcd://…, etcds://…, postgres://…
    mode, group: permission bits and group of a lock that is created now, if others are to use it, too.
    owner:    a user whose locks are used as well as one's own and root's.

    Threads and tasks may use one object: what is asked and released is the hold that the calling task acquired last, or
    the calling thread outside of tasks. If it has acquired none, that is the last one of its thread, or else the last
    one at all. The end of a block releases the hold of that block.

    If the process dies, however it does, the lock passes to the next in line, who is told (`abandoned`).
    """

    def __new__(
        cls,
        name: str,
        *,
        timeout: float | None = None,
        shared: bool = False,
        slots: int | None = None,
        message: str | None = None,
        backend: str | None = None,
        mode: int | None = None,
        group: int | str | None = None,
        owner: int | str | None = None,
    ) -> Self:
        return super().__new__(
            cls,
            name,
            timeout=timeout,
            shared=shared,
            slots=in_range("slots", slots),
            message=message,
            backend=backend,
            mode=in_range("mode", mode),
            group=group_id(group),
            owner=user_id(owner),
            command=command_name(),
        )

    # `__new__` has opened it. Type checkers look at both.
    def __init__(
        self,
        name: str,
        *,
        timeout: float | None = None,
        shared: bool = False,
        slots: int | None = None,
        message: str | None = None,
        backend: str | None = None,
        mode: int | None = None,
        group: int | str | None = None,
        owner: int | str | None = None,
    ) -> None:
        self._name = name
        self._terms = {
            "timeout": timeout,
            "shared": shared,
            "slots": slots,
            "message": message,
            "backend": backend,
            "mode": mode,
            "group": group,
            "owner": owner,
        }

    def __repr__(self) -> str:
        state = "closed" if self.closed else "held" if self.locked else "not held"
        return f"<Lock '{self.name}', {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process that it is sent to opens it anew; what is held here is held here."""
        return (_open, (type(self), self._name, self._terms))

    # Whose hold it is, is decided by the call: `asyncio.wait_for` and `shield` run the rest in a task of its own.

    def acquire_async(self, timeout: float | EllipsisType | None = ...) -> Coroutine[Any, Any, bool]:
        """As `acquire`, without blocking the event loop. A task that is cancelled leaves the queue."""
        return self._finish(self._request(timeout, False))

    def release_async(self) -> Coroutine[Any, Any, None]:
        """As `release`, without blocking the event loop: for a lock on an engine, whose answer is waited for."""
        return self._released(self._release_request(False))

    async def __aenter__(self) -> Self:
        if not await self._finish(self._request(..., True)):
            raise self._timed_out()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        # As `__exit__`: what is left in the child of a fork is its parent's.
        with contextlib.suppress(Forked):
            await self._released(self._release_request(True))

    async def _released(self, release: _native.Request | None) -> None:
        if release is not None:
            await self._finish(release)

    async def _finish(self, request: _native.Request) -> bool:
        import asyncio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        try:
            acquired = self._polled(request)
            if acquired is None:
                woken = asyncio.Event()
                loop.add_reader(request.fileno(), woken.set)
                try:
                    while acquired is None:
                        await woken.wait()
                        woken.clear()
                        acquired = self._polled(request)
                finally:
                    if not loop.is_closed():
                        loop.remove_reader(request.fileno())
            return acquired
        finally:
            request.drop()


def _open(kind: type[Lock], name: str, terms: dict[str, Any]) -> Lock:
    return kind(name, **terms)
