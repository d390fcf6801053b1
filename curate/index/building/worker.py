"""A process that writes parts for the `build-index` that started it: `-m curate.index.building.worker`.

Its standard input is one line of JSON, {"index", "device", "workers"}, and then stays open: where it ends,
the starter has died, and so does this. Standard output: a line of JSON when the encoder is loaded
({"ready"}), for images ({"images"}) and for each part ({"part", "forgotten", "notes"}).
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from curate.index.building.part_work import Bench, write_parts
from curate.index.building.work import is_done, read_work
from curate.index.layout import WORK_LOCK
from curate.index.ledger import read_ledger
from curate.index.options import BuildOptions
from curate.index.plan import read_plan
from transferset.console import say
from transferset.entry_point import INTERRUPTED
from transferset.known_errors import known_error
from transferset.lock import DirectoryLock

_POLL_SECONDS = 0.2
_TELL_SECONDS = 0.5


class _Told:
    """Progress, to the starter; images are told in sums."""

    def __init__(self) -> None:
        self._images = 0
        self._last = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._images += n
        if time.monotonic() - self._last > _TELL_SECONDS:
            self._tell_images()

    def note(self, text: str) -> None:
        """Notes stay here: several workers have only one line."""

    def part(self, number: int, forgotten: int, notes: list[str]) -> None:
        """Tell that a part is done."""
        self._tell_images()
        self._tell({"part": number, "forgotten": forgotten, "notes": notes})

    def _tell_images(self) -> None:
        images, self._images, self._last = self._images, 0, time.monotonic()
        if images:
            self._tell({"images": images})

    def ready(self) -> None:
        """Tell that the encoder is loaded."""
        self._tell({"ready": True})

    @staticmethod
    def _tell(what: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def work_for(index: Path, device: str, workers: int | None) -> None:
    """Write parts of `index` on `device` until there is none left that isn't done."""
    from curate.index.encoder import resume

    with DirectoryLock(index, WORK_LOCK, wait=True):
        shared = DirectoryLock(index, shared=True)
        shared.__enter__()
        plan, roots = read_plan(index)
        work = read_work(index)
    try:
        encoder = resume(plan, BuildOptions(device=device))
        bench = Bench(index, roots, read_ledger(index), encoder, workers)
        told = _Told()
        told.ready()
        while any(not is_done(index, one.number) for one in work):
            write_parts(bench, work, told, told.part)
            time.sleep(_POLL_SECONDS)
    finally:
        shared.__exit__(None, None, None)


def _end_with_starter() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGTERM, _stop)
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_starter, daemon=True).start()
    try:
        work_for(Path(given["index"]), given["device"], given["workers"])
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(INTERRUPTED)
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        say(f"worker on {given['device']}: {known.message}")
        os._exit(known.exit_code)


if __name__ == "__main__":
    main()
