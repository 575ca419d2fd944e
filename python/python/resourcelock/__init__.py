"""Named locks between processes of a Linux machine: in turn, freed when their holder dies, open to inspection.

    from resourcelock import Lock

    with Lock("i2c", timeout=5):
        ...

`resource_lock` takes the place of that of `cjnfuncs.resourcelock`. Both classes, the command `resourcelock` and the
Rust crate of that name use the same locks, at the same time.
"""

from typing import TYPE_CHECKING, Any

from ._errors import (
    Busy,
    Damaged,
    Forked,
    InvalidRequest,
    LockClosed,
    LockError,
    LockTimeout,
    NotHeld,
    NotPermitted,
    SlotsDiffer,
    Unreachable,
    Unsupported,
    WouldDeadlock,
)
from ._lock import Lock
from ._native import Holder, Process, Record, State, Waiter

if TYPE_CHECKING:
    from .resourcelock import resource_lock

__all__ = [
    "Busy",
    "Damaged",
    "Forked",
    "Holder",
    "InvalidRequest",
    "Lock",
    "LockClosed",
    "LockError",
    "LockTimeout",
    "NotHeld",
    "NotPermitted",
    "Process",
    "Record",
    "SlotsDiffer",
    "State",
    "Unreachable",
    "Unsupported",
    "Waiter",
    "WouldDeadlock",
    "resource_lock",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # It needs `logging`, which `Lock` does not.
    if name == "resource_lock":
        from .resourcelock import resource_lock  # noqa: PLC0415

        return resource_lock
    raise AttributeError(f"module 'resourcelock' has no attribute '{name}'")
