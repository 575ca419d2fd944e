"""`resource_lock`: takes the place of that of `cjnfuncs.resourcelock`.

Log messages are the same, on the loggers `resourcelock` and, for `is_locked()` alone, `resourcelock_islocked`. This
file has the name that they show.
"""

from __future__ import annotations

import logging

from . import _native
from ._errors import InvalidRequest
from ._lock import command_name, group_id, in_range, user_id

__all__ = ["resource_lock"]

resourcelock_logger = logging.getLogger("resourcelock")
resourcelock_logger_islocked = logging.getLogger("resourcelock_islocked")


class resource_lock:
    """A lock between processes, with the interface of `cjnfuncs.resourcelock.resource_lock` 3.2.

    lockname:         all processes that share a resource use the same name.
    shared_mem_size:  bytes for the lock's info, if it is created now.
    mode, group, owner: as for `Lock`; not in the original.

    If a process dies that holds it, the next one gets it, and a warning in the log.
    """

    def __init__(
        self,
        lockname: str,
        shared_mem_size: int = 4096,
        *,
        mode: int | None = None,
        group: int | str | None = None,
        owner: int | str | None = None,
    ) -> None:
        if shared_mem_size < 1:
            raise InvalidRequest(f"shared_mem_size must be at least 1, but is {shared_mem_size}")
        self._handle = _native.Handle(
            lockname,
            shared_mem_size,
            mode=in_range("mode", mode),
            group=group_id(group),
            owner=user_id(owner),
            command=command_name(),
        )
        self.lockname = lockname if lockname.startswith("/") else "/" + lockname
        """The lock's name, with a slash before it."""
        self.closed = False
        """True after `close()`."""
        self._claimed = False
        self._warned = False
        self.is_locked()

    @property
    def I_have_the_lock(self) -> bool:
        """True if this object holds the lock. If it is set to False, the lock stays taken without it."""
        return self._claimed or self._handle.holds()

    @I_have_the_lock.setter
    def I_have_the_lock(self, have: bool) -> None:
        if not have and self._handle.holds():
            self._handle.leave()
        self._claimed = have and not self._handle.holds()

    @property
    def abandoned(self) -> bool:
        """True if this object holds the lock, and an earlier holder died with it. Not in the original."""
        return self._handle.abandoned()

    def get_lock(
        self,
        timeout: float | None = 1.0,
        same_process_ok: bool = False,
        lock_info: str = "",
    ) -> bool:
        """Acquires the lock: True, or False if that took longer than `timeout`.

        timeout:          seconds; None = no limit.
        same_process_ok:  True at once if this object holds the lock already.
        lock_info:        who takes the lock, and what for; date and time are put before it.
        """
        if same_process_ok and self.I_have_the_lock:
            resourcelock_logger.debug(
                f"<{self.lockname[1:]}> lock already acquired   - Prior grant     <{self.get_lock_info()}>"
            )
            return True
        if not self._handle.get(timeout, lock_info):
            if resourcelock_logger.isEnabledFor(logging.DEBUG):
                resourcelock_logger.debug(
                    f"<{self.lockname[1:]}> lock request timed out  - Current owner   <{self.get_lock_info()}>"
                )
            return False
        self._claimed = False
        if resourcelock_logger.isEnabledFor(logging.DEBUG):
            resourcelock_logger.debug(
                f"<{self.lockname[1:]}> lock request successful - Granted         <{self.get_lock_info()}>"
            )
        if not self._warned and self._handle.abandoned():
            self._warned = True
            resourcelock_logger.warning(
                f"<{self.lockname[1:]}> the previous holder died while holding the lock; "
                "the protected resource may be inconsistent"
            )
        return True

    def unget_lock(self, force: bool = False, where_called: str = "") -> bool:
        """Releases the lock: True, or False if it is free, or not this object's.

        force:         release it whoever holds it.
        where_called:  what code releases it, for the log.
        """
        if self._handle.value() != 0:
            resourcelock_logger.debug(f"<{self.lockname[1:]}> Extraneous lock unget request ignored  <{where_called}>")
            return False
        if self.I_have_the_lock:
            released = self._handle.unget(self._claimed)
            self._claimed = False
            resourcelock_logger.debug(f"<{self.lockname[1:]}> lock released  <{where_called}>")
            return released
        if force:
            released = self._handle.unget(True)
            resourcelock_logger.debug(f"<{self.lockname[1:]}> lock force released  <{where_called}>")
            return released
        resourcelock_logger.info(
            f"<{self.lockname[1:]}> lock unget request ignored - lock not owned by current process  <{where_called}>"
        )
        return False

    def is_locked(self) -> bool:
        """True if anybody holds the lock. Has a logger of its own, so that it may be called in a loop."""
        locked = self._handle.value() == 0
        if resourcelock_logger_islocked.isEnabledFor(logging.DEBUG):
            resourcelock_logger_islocked.debug(
                f"<{self.lockname[1:]}> is currently locked?  <{locked}>  Prior info  <{self.get_lock_info()}>"
            )
        return locked

    def lock_value(self) -> int:
        """The semaphore's value: 0 = taken, 1 = free."""
        value = self._handle.value()
        resourcelock_logger.debug(f"<{self.lockname[1:]}> semaphore = {value}")
        return value

    def set_lock_info(self, desc: str) -> None:
        """Writes the lock's info. What does not fit is cut off."""
        self._handle.set_note(desc)

    def get_lock_info(self) -> str:
        """The lock's info: who last took the lock, and when; or what `set_lock_info` wrote since."""
        return self._handle.note()

    def mark_recovered(self) -> None:
        """Says that what a dead holder left is in order: the next holders are not warned. Not in the original."""
        self._handle.mark_recovered()

    def close(self) -> None:
        """Closes the lock. If this object holds it, it is released."""
        if self.closed:
            return
        self._handle.close()
        self._claimed = False
        self.closed = True
        resourcelock_logger.debug(f"<{self.lockname[1:]}> semaphore closed")
