from __future__ import annotations

from datetime import datetime, timedelta
from types import EllipsisType, TracebackType
from typing import final

from typing_extensions import Self

class Lock:
    """What `resourcelock.Lock` is made of."""

    def __new__(
        cls,
        name: str,
        *,
        timeout: float | EllipsisType | None = ...,
        shared: bool = False,
        slots: int | None = None,
        message: str | None = None,
        backend: str | None = None,
        mode: int | None = None,
        group: int | None = None,
        owner: int | None = None,
        command: str | None = None,
    ) -> Self: ...
    @property
    def name(self) -> str:
        """The lock's name."""
    @property
    def closed(self) -> bool:
        """True after `close()`."""
    @property
    def locked(self) -> bool:
        """True if this object holds the lock for who asks. Who else may hold it: `state()`."""
    @property
    def token(self) -> int:
        """The hold's number, larger than that of any earlier hold. `NotHeld` without one."""
    @property
    def abandoned(self) -> bool:
        """True if an earlier holder died with the lock, and nobody has called `mark_recovered()` since."""
    @property
    def lost(self) -> str | None:
        """None while the lock is held; else how it was taken away from its holder."""
    def acquire(self, timeout: float | EllipsisType | None = ...) -> bool:
        """Acquires the lock: True, or False if that took longer than `timeout` (by default, that of the lock).

        Other threads run meanwhile. Ctrl-C, or whatever a signal's handler raises, ends the wait and leaves the queue.
        """
    def release(self) -> None:
        """Releases the hold that this task acquired last, or this thread outside of tasks.

        If it has acquired none: the last one of its thread, or else the last one at all.

        `NotHeld` if there is none, or if it was lost before.
        """
    def mark_recovered(self) -> None:
        """Says that what a dead holder left behind is in order: the next holders see `abandoned` false."""
    def state(self) -> State:
        """Who holds the lock and who waits for it."""
    def history(self) -> list[Record]:
        """The requests that have ended, the oldest first. `Unsupported` on an engine."""
    def close(self) -> None:
        """Closes the lock, and releases what this object holds."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def _timed_out(self) -> Exception: ...
    def _request(self, timeout: float | EllipsisType | None, block: bool) -> Request: ...
    def _release_request(self, block: bool) -> Request | None: ...
    def _polled(self, request: Request) -> bool | None: ...

@final
class Request:
    """What a task waits for."""

    def fileno(self) -> int:
        """The descriptor that can be read when the request is to be polled."""
    def drop(self) -> None:
        """Leaves the queue."""

@final
class Handle:
    """What `resource_lock` is made of."""

    def __new__(
        cls,
        name: str,
        note_size: int,
        *,
        mode: int | None = None,
        group: int | None = None,
        owner: int | None = None,
        command: str | None = None,
    ) -> Self: ...
    def get(self, timeout: float | None, info: str) -> bool: ...
    def unget(self, force: bool) -> bool: ...
    def leave(self) -> bool: ...
    def holds(self) -> bool: ...
    def abandoned(self) -> bool: ...
    def mark_recovered(self) -> None: ...
    def value(self) -> int: ...
    def note(self) -> str: ...
    def set_note(self, text: str) -> None: ...
    def close(self) -> None: ...

@final
class Process:
    """A process that holds the lock, waits for it, or held it. What is not known is None."""

    @property
    def pid(self) -> int | None: ...
    @property
    def uid(self) -> int | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def host(self) -> str | None:
        """Where it runs, of a lock on an engine; None = this machine, or not known."""
    @property
    def command(self) -> str | None: ...

@final
class Holder:
    """One hold."""

    @property
    def token(self) -> int | None: ...
    @property
    def mode(self) -> str:
        """exclusive, shared, or slots:N."""
    @property
    def process(self) -> Process: ...
    @property
    def alive(self) -> bool:
        """False if its process has died: the next one that checks will release it."""
    @property
    def since(self) -> datetime | None: ...
    @property
    def held(self) -> timedelta | None: ...
    @property
    def waited(self) -> timedelta | None: ...

@final
class Waiter:
    """One request that waits."""

    @property
    def mode(self) -> str: ...
    @property
    def process(self) -> Process: ...
    @property
    def alive(self) -> bool: ...
    @property
    def since(self) -> datetime | None: ...
    @property
    def waited(self) -> timedelta | None: ...

@final
class State:
    """The lock at one moment."""

    @property
    def name(self) -> str: ...
    @property
    def locked(self) -> bool: ...
    @property
    def note(self) -> str:
        """Who last took it, and when."""
    @property
    def holders(self) -> list[Holder]: ...
    @property
    def waiters(self) -> list[Waiter]:
        """In the order in which they will be served."""
    @property
    def foreign(self) -> bool:
        """True if it is held by a program that uses cjnfuncs or the bare semaphore: nobody knows which."""
    @property
    def foreign_waiters(self) -> int:
        """How many such programs wait."""
    @property
    def slots(self) -> int | None:
        """How many may hold it at once, while it is in use with slots."""
    @property
    def abandoned(self) -> bool:
        """True if a holder died with the lock, and nobody has called `mark_recovered()` since."""

@final
class Record:
    """One request that has ended."""

    @property
    def token(self) -> int | None:
        """None if it was never granted."""
    @property
    def mode(self) -> str: ...
    @property
    def process(self) -> Process: ...
    @property
    def requested(self) -> datetime | None: ...
    @property
    def waited(self) -> timedelta | None: ...
    @property
    def held(self) -> timedelta | None: ...
    @property
    def ended(self) -> datetime: ...
    @property
    def how(self) -> str:
        """released, crashed, abandoned, expired, forced, timed out, refused, cancelled, or ended with its process."""
    @property
    def note(self) -> str:
        """What the lock was requested for, up to 80 bytes."""
