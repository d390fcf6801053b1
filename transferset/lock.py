"""One writer per directory: a lock that a dead owner loses by itself."""

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from transferset.errors import BusyError

LOCK_NAME = ".lock"
_WAIT_SECONDS = 0.1
_held: set[int] = set()


def _forget_locks_in_child() -> None:
    """A forked worker must not keep its parent's lock alive when the parent is killed."""
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget_locks_in_child)


class DirectoryLock:
    """Context manager: `directory/.lock` held with flock, naming host, pid and start time of its owner; by
    another `name` it is another lock.

    The kernel drops the lock with its owner, so a killed owner's lock is simply taken over. A live owner
    gives BusyError (exit 75), or is waited for with `wait`. The directory is made if it is missing; the lock
    file is removed at the end.

    Several may hold a `shared` lock, but none beside an exclusive one; `alone` tells whether nobody else held
    it when this one was taken. Take shared locks while holding another lock, so that two that begin at once
    don't get into each other's way.
    """

    def __init__(
        self, directory: Path, name: str = LOCK_NAME, *, shared: bool = False, wait: bool = False
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / name
        self.shared = shared
        self.wait = wait
        self.alone = True
        self._handle: int | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        while self._handle is None:
            try:
                self._handle = self._try()
            except BusyError:
                if not self.wait:
                    raise
                time.sleep(_WAIT_SECONDS)
        _held.add(self._handle)
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(owner).encode("ascii"), 0)
        except OSError:  # a full disk
            self._release()
            raise
        return self

    def _try(self) -> int | None:
        """The locked file's descriptor; None if its owner removed it between our open and our lock."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._flock(handle)
            if os.fstat(handle).st_ino == self.path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            message = f"{self.directory} is being written by {self._describe(handle)}"
            os.close(handle)
            raise BusyError(message, hint="wait until it is done, or stop it, then run this again") from error
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None

    def _flock(self, handle: int) -> None:
        if self.shared:
            self.alone = _is_taken(handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # perhaps only for the instant in which another one lets go
                time.sleep(_WAIT_SECONDS)
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @staticmethod
    def _describe(handle: int) -> str:
        try:
            owner = json.loads(os.pread(handle, 4096, 0))
            return f"process {owner['pid']} on {owner['host']} since {owner['start']}"
        except (ValueError, KeyError, TypeError):
            return "another process"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is None or handle not in _held:
            return
        if not self.shared or _is_taken(handle):  # the last one that shared it
            with contextlib.suppress(OSError):
                self.path.unlink()
        _held.discard(handle)
        os.close(handle)


def _is_taken(handle: int) -> bool:
    """Take the exclusive lock of a file if nobody else has any on it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
