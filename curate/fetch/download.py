"""Downloading: rounds over chunks of URLs, worked on by processes.

The first round takes all URLs, each later one those that failed for now in the one before. What a round has
to do follows from the files of the earlier ones, so that a run that was stopped goes on in the middle of any.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.fetch.chunks import Outcome, chunk_name, read_chunk
from curate.fetch.options import DownloadOptions
from curate.fetch.processes import Workers
from curate.fetch.reasons import TRANSIENT
from curate.fetch.worker import CHUNK
from transferset.console import say
from transferset.errors import DataError
from transferset.progress import progress
from transferset.writes import atomic_path, sweep_temporaries

_PAUSE = 2.0
_LONGEST_PAUSE = 30.0
_AGAIN = "run the same command again: it resumes where it stopped"


def download(
    folder: Path, urls: Mapping[int, str], options: DownloadOptions, pause: float = _PAUSE
) -> dict[int, Outcome]:
    """Download `urls`, by the place of each, to `folder`; returns what became of every one.

    OSError where the disk refuses; InterruptedRun (run it again) if a downloading process dies.
    """
    found: dict[int, Outcome] = {}
    try:
        with Workers(options) as workers:
            for number in range(options.retries + 1):
                wanted = _wanted(urls, found, number)
                if not wanted:
                    break
                found |= _round(folder / f"round-{number}", wanted, urls, workers, pause * number)
    finally:
        for round_folder in folder.glob("round-*"):  # of processes that were ended
            sweep_temporaries(round_folder)
    return found


def _wanted(urls: Mapping[int, str], found: Mapping[int, Outcome], number: int) -> list[int]:
    if number == 0:
        return sorted(urls)
    return sorted(place for place, outcome in found.items() if outcome.reason in TRANSIENT)


def _round(
    folder: Path, wanted: Sequence[int], urls: Mapping[int, str], workers: Workers, pause: float
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
            say(f"trying {len(wanted)} images again that failed temporarily, in {seconds:g} s")
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
