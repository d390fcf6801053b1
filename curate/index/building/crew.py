"""The processes that write the parts of one build: this one, a worker for each further device, and
whoever else was told to build the same index."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from curate.index.building.part_work import Bench, write_parts
from curate.index.building.work import NumberedPart, Share, is_done
from transferset.console import say
from transferset.progress import Progress

_POLL_SECONDS = 0.2
_TELL_SECONDS = 10.0
_END_SECONDS = 20.0


def write_all(
    bench: Bench, work: Sequence[NumberedPart], devices: Sequence[str], bar: Progress, share: Share
) -> None:
    """Come back when every part of `work` is done: by this process, by a worker on each of `devices`, or by
    other processes that build the same index. A part whose writer dies is taken over."""
    counted: set[int] = set()
    with workers(bench, devices, bar, share):
        waiting = time.monotonic()
        while True:
            before = len(share.parts)
            write_parts(bench, work, bar, share.add)
            left = [one for one in work if not is_done(bench.index, one.number)]
            for one in work:
                told = one.number in share.parts or one.number in counted
                if not told and is_done(bench.index, one.number):
                    counted.add(one.number)
                    bar.advance(one.part.images)
            if not left:
                return
            if len(share.parts) > before:
                waiting = time.monotonic()
            elif time.monotonic() - waiting > _TELL_SECONDS:
                say(f"waiting for {len(left)} parts that other processes are writing")
                waiting = time.monotonic() + _TELL_SECONDS * 5
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def workers(bench: Bench, devices: Sequence[str], bar: Progress, share: Share) -> Iterator[None]:
    """A worker process for each device while the body runs. They end when there is nothing more to take, when
    the body is left, or when this process dies; one that fails leaves its parts to the others."""
    running = [_Worker(bench, device, bar, share) for device in devices]
    try:
        yield
        for worker in running:
            worker.join()
    finally:
        for worker in running:
            worker.stop()


class _Worker:
    """A process on one device. What it does comes as lines of JSON on its stdout; it ends when its stdin
    does."""

    def __init__(self, bench: Bench, device: str, bar: Progress, share: Share) -> None:
        self.device = device
        self._bar, self._share = bar, share
        self._ready = False
        command = [sys.executable, "-m", "curate.index.building.worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        given = {"index": str(Path(bench.index).absolute()), "device": device, "workers": bench.workers}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(given) + "\n")
            self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            told = json.loads(line)
            if "ready" in told:
                self._ready = True
            elif "images" in told:
                self._bar.advance(told["images"])
            else:
                self._share.add(told["part"], told["forgotten"], told["notes"])

    def join(self) -> None:
        """Wait until it has told all that it did, when nothing is left to do."""
        if self._ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        code = self._process.poll()
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._share.notes.append(f"the worker on {self.device} {how}; others wrote its parts")

    def stop(self) -> None:
        """End it; what it was writing is left for another time."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()
