"""The downloading processes, as their parent sees them."""

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.fetch.options import DownloadOptions
from transferset.errors import InterruptedRun

_Answer = dict[str, Any]


class Workers:
    """Processes that download chunks, each several at a time, so that the slow hosts of one chunk don't hold
    up the next. Started when they are needed; a context manager, at whose end there are none."""

    def __init__(self, options: DownloadOptions) -> None:
        self._options = options
        self._lanes = [
            number for _, number in itertools.product(range(options.lanes), range(options.processes))
        ]
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._started: dict[int, _Process] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> "Workers":
        for number in self._lanes:
            self._idle.put(number)
        return self

    def __exit__(self, *_: Any) -> None:
        self._kill()
        for process in self._started.values():
            process.reap()

    def each(self, work: Callable[[int], None], chunks: Sequence[int]) -> Iterator[int]:
        """Do `work`, which calls `run`, for all chunks, as many at a time as can be; yields those that are
        done. An error or Ctrl-C ends the processes at once, whatever they are waiting for."""
        with ThreadPoolExecutor(len(self._lanes)) as pool:
            futures = {pool.submit(work, chunk): chunk for chunk in chunks}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield futures[future]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._kill()
                raise

    def run(self, table: Path, number: int) -> None:
        """Have a chunk downloaded. OSError where the disk refuses, InterruptedRun if the process dies."""
        lane = self._idle.get()
        try:
            answer = self._process(lane).ask({"table": str(table), "number": number})
        finally:
            self._idle.put(lane)
        if "message" in answer:
            raise OSError(answer["errno"], answer["message"], str(table.parent))

    def _process(self, number: int) -> "_Process":
        with self._lock:
            if self._closed:
                raise InterruptedRun("the downloads were stopped")
            if number not in self._started:
                self._started[number] = _Process(self._options)
            return self._started[number]

    def _kill(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._started.values():
                process.popen.kill()


class _Process:
    """One process; threads may ask it at the same time, each for another chunk."""

    def __init__(self, options: DownloadOptions) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "curate.fetch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._waiting: dict[int, queue.SimpleQueue[_Answer | None]] = {}
        self._lock = threading.Lock()
        self._dead = False
        self._send(asdict(options))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, chunk: dict[str, Any]) -> _Answer:
        """The answer to a chunk, when it is downloaded; InterruptedRun if the process dies before."""
        answer: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        with self._lock:
            self._waiting[chunk["number"]] = answer
            if self._dead:
                answer.put(None)
            else:
                self._send(chunk)
        found = answer.get()
        if found is None:
            raise InterruptedRun(
                f"a download process ended (code {self.popen.wait()})",
                hint="run the same command again: it resumes where it stopped",
            )
        return found

    def reap(self) -> None:
        """Wait for the end of a killed process."""
        self.popen.wait()
        self._reader.join()
        for pipe in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader will see its end
            print(json.dumps(message), file=self.popen.stdin, flush=True)

    def _read(self) -> None:
        for line in self.popen.stdout or ():
            answer: _Answer = json.loads(line)
            with self._lock:
                self._waiting.pop(answer["number"]).put(answer)
        with self._lock:
            self._dead = True
            for waiting in self._waiting.values():
                waiting.put(None)
