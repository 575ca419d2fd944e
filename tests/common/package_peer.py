"""The Python package as a visitor in the stress; asked and answering as peer.py does."""

import fcntl
import os
import struct
import time

import peer
from resourcelock import Busy, Lock, NotHeld

# As in tests/isolated/stress/occupancy.rs.
GUARD, TOKENS, MODES = 100, 4096, 3


def visit(name, folder, timeout, length):
    """As `peer.visit`, but the hold has a token, and its loss is noticed."""
    me = {"name": name, "role": "package", "pid": os.getpid(), "since": time.monotonic_ns(), "detached": False}
    try:
        lock = Lock(name, message="package visitor")
    except Busy:
        return
    try:
        if not acquired(lock, timeout):
            return
        me["token"] = lock.token
        peer.note(folder, f"visitor.{os.getpid()}", me)
        with open(os.path.join(folder, "side"), "r+b", buffering=0) as side:
            other = peer.enter(side, folder)
            if other:
                peer.note(folder, "journal", noticed("overlap", me, other))
            else:
                peer.note(folder, "journal", {**me, "what": "package", "at": time.monotonic_ns()})
                check_token(side, folder, me)
            time.sleep(length)
        try:
            lock.release()
        except NotHeld:
            peer.note(folder, "journal", noticed("lost", me))
    finally:
        lock.close()


def acquired(lock, timeout):
    try:
        return lock.acquire(timeout)
    except Busy:  # a process stands still inside the table, stopped or without a processor
        return False


def noticed(what, me, *others):
    return {"what": what, "at": time.monotonic_ns(), "me": me, "others": others}


def check_token(side, folder, me):
    """Notes a token that is not larger than those of all earlier visitors."""
    fcntl.lockf(side, fcntl.LOCK_EX, 1, GUARD)
    side.seek(TOKENS)
    words = side.read(16 * MODES).ljust(16 * MODES, b"\0")
    for token, since in struct.iter_unpack("<QQ", words):
        if token >= me["token"]:
            other = {"name": me["name"], "token": token, "since": since}
            peer.note(folder, "journal", noticed("inversion", me, other))
    (last,) = struct.unpack_from("<Q", words)
    if last < me["token"]:
        side.seek(TOKENS)
        side.write(struct.pack("<QQ", me["token"], me["since"]))
    fcntl.lockf(side, fcntl.LOCK_UN, 1, GUARD)


if __name__ == "__main__":
    peer.serve({"visit": visit})
