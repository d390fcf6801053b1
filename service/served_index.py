"""The index that is served: opened anew when a build or `compact` has written another state of it."""

import threading

from curate.index.index import Index
from curate.index.layout import MANIFEST
from transferset.console import say
from transferset.errors import TransfersetError


class ServedIndex:
    """An open index that follows its manifest. What is forgotten, the index itself sees at once."""

    def __init__(self, index: Index) -> None:
        index.hold()
        self._index = index
        self._lock = threading.Lock()
        self._stamp = self._stat()

    @property
    def now(self) -> Index:
        """The index in its present state; the one before if the present one can't be opened, or has another
        encoder than the service."""
        stamp = self._stat()
        if stamp is not None and stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._open()
        return self._index

    def _open(self) -> None:
        try:
            fresh = self._index.reopened()
            fresh.hold()
        except TransfersetError as error:
            say(
                f"note: the index has changed and can't be opened, still serving its previous state:"
                f" {error.message}"
            )
            return
        if fresh.encoder_fingerprint != self._index.encoder_fingerprint:
            say(
                "note: the index now has another encoder, still serving its previous state: restart the"
                " service"
            )
            return
        self._index = fresh
        say(f"the index has changed: serving {fresh.distinct} images now")

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = (self._index.path / MANIFEST).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
