"""What can go wrong. Each is a `LockError`, and where Python has an exception for it, that, too."""


class LockError(Exception):
    """Why a lock could not be used."""


class LockTimeout(LockError, TimeoutError):
    """`with` did not acquire the lock in time."""


class InvalidRequest(LockError, ValueError):
    """What was asked for makes no sense: a name, a timeout, a number of slots, a URL."""


class NotPermitted(LockError, PermissionError):
    """This user may not use the lock, or should not trust whose it is."""


class Damaged(LockError):
    """The lock's files are damaged, or another program's. Nothing was changed."""


class SlotsDiffer(LockError):
    """The lock is in use with another number of slots."""


class NotHeld(LockError, RuntimeError):
    """The lock is not held: released already, taken away by force, or lost with its files."""


class WouldDeadlock(LockError, RuntimeError):
    """This thread holds the lock already, and would wait for itself without a limit."""


class LockClosed(LockError, ValueError):
    """The lock was closed."""


class Forked(LockError, RuntimeError):
    """The lock was opened before a fork, and is used in the child: open it again there."""


class Busy(LockError):
    """A process is stopped in the middle of changing or removing the lock."""


class Unreachable(LockError, ConnectionError):
    """The engine cannot be reached, so that nobody knows who holds the lock."""


class Unsupported(LockError, NotImplementedError):
    """The engine cannot do that, or is not part of this build."""
