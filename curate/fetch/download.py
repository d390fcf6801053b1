"""Downloading: rounds over chunks of URLs, worked on by processes.

The first round takes all URLs, each later one those that failed for now in the one before. What a round has
to do follows from the files of the earlier ones, so that a run that was stopped goes on in the middle of any.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.fetch.chunks import Outcome, chunk_name, read_chunk
from curate.fetch.options import DownloadOptions
from curate.fetch.reasons import TRANSIENT
from curate.fetch.worker import CHUNK
from transferset.console import progress, say
from transferset.errors import DataError, InterruptedRun
from transferset.writes import atomic_path, sweep_temporaries

_PAUSE = 2.0
_LONGEST_PAUSE = 30.0
_AGAIN = "run the same command again: it goes on where it stopped"


def download(
    folder: Path, urls: Mapping[int, str], options: DownloadOptions, pause: float = _PAUSE
) -> dict[int, Outcome]:
    """Download `urls`, by the place of each, to `folder`; returns what became of every one.

    OSError where the disk refuses; InterruptedRun (run it again) if a downloading process dies.
    """
    found: dict[int, Outcome] = {}
    with _Workers(options) as workers:
        for number in range(options.retries + 1):
            wanted = _wanted(urls, found, number)
            if not wanted:
                break
            found |= _round(folder / f"round-{number}", wanted, urls, workers, pause * number)
    return found


def _wanted(urls: Mapping[int, str], found: Mapping[int, Outcome], number: int) -> list[int]:
    if number == 0:
        return sorted(urls)
    return sorted(place for place, outcome in found.items() if outcome.reason in TRANSIENT)


def _round(
    folder: Path, wanted: Sequence[int], urls: Mapping[int, str], workers: "_Workers", pause: float
) -> dict[int, Outcome]:
    """One round: what of it is not on disk yet is downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(folder)
    chunks = {
        number: wanted[start : start + CHUNK] for number, start in enumerate(range(0, len(wanted), CHUNK))
    }
    found = {number: _outcomes(folder, number, places) for number, places in chunks.items()}
    missing = [number for number, outcomes in found.items() if outcomes is None]
    if missing:
        if pause:
            seconds = min(pause, _LONGEST_PAUSE)
            say(f"trying {len(wanted)} images again that failed for now, in {seconds:g} s")
            time.sleep(seconds)
        before = sum(len(places) for number, places in chunks.items() if number not in missing)
        with progress("downloading", len(wanted), "images", before) as bar:

            def work(number: int) -> None:
                workers.run(_list(folder, number, chunks[number], urls), number)

            for number in workers.each(work, missing):
                bar.advance(len(chunks[number]))
    found |= {number: _outcomes(folder, number, chunks[number]) for number in missing}
    if lost := [chunk_name(number) for number, outcomes in found.items() if outcomes is None]:
        raise DataError(f"{folder}: {', '.join(lost[:3])} vanished while the set was fetched", hint=_AGAIN)
    return {one.place: one for outcomes in found.values() for one in outcomes or ()}


def _list(folder: Path, number: int, places: Sequence[int], urls: Mapping[int, str]) -> Path:
    """The chunk's URLs as img2dataset's downloader reads them; it removes the file."""
    import pyarrow as pa

    table = pa.table(
        {
            "url": pa.array([urls[place] for place in places], pa.string()),
            "place": pa.array(places, pa.int64()),
        }
    )
    path = folder / f"{chunk_name(number)}.arrow"
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)
    return path


def _outcomes(folder: Path, number: int, places: Sequence[int]) -> list[Outcome] | None:
    """What a chunk holds; None if it is not there, damaged, or not of these places, as where an earlier
    round went otherwise since."""
    path = folder / f"{chunk_name(number)}.parquet"
    if not path.is_file() or not path.with_suffix(".bin").is_file():
        return None
    try:
        outcomes = list(read_chunk(path))
    except DataError as error:
        say(f"{error.message}; downloading it again")
        return None
    return outcomes if [one.place for one in outcomes] == list(places) else None


class _Workers:
    """Downloading processes, started when they are needed; each works on one chunk at a time."""

    def __init__(self, options: DownloadOptions) -> None:
        self.count = options.processes
        self._options = options
        self._idle: queue.SimpleQueue[subprocess.Popen[str] | None] = queue.SimpleQueue()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "_Workers":
        for _ in range(self.count):
            self._idle.put(None)
        return self

    def __exit__(self, *_: Any) -> None:
        self._kill()
        for process in self._started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    def run(self, table: Path, number: int) -> None:
        """Have a chunk downloaded."""
        process = self._idle.get()
        try:
            process = process or self._start()
            answer = self._ask(process, {"table": str(table), "number": number})
        finally:
            self._idle.put(process)
        if "message" in answer:
            raise OSError(answer["errno"], answer["message"], str(table.parent))

    def each(self, work: Callable[[int], None], numbers: Sequence[int]) -> Iterator[int]:
        """Do `work` for all numbers, as many at a time as there are processes; yields those that are done.
        An error or Ctrl-C ends the processes at once, whatever they are waiting for."""
        with ThreadPoolExecutor(self.count) as pool:
            futures = {pool.submit(work, number): number for number in numbers}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield futures[future]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._kill()
                raise

    def _kill(self) -> None:
        for process in self._started:
            process.kill()

    def _start(self) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
        process = subprocess.Popen(
            [sys.executable, "-m", "curate.fetch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._started.append(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(asdict(self._options)), file=process.stdin, flush=True)
        return process

    @staticmethod
    def _ask(process: "subprocess.Popen[str]", chunk: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(chunk), file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            raise InterruptedRun(
                f"a downloading process ended (code {process.wait()})",
                hint=_AGAIN,
            )
        answer: dict[str, Any] = json.loads(line)
        return answer
