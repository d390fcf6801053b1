"""The folder `.fetch` of a set whose bytes are being fetched.

    chosen.parquet      the samples as they were chosen: samples.parquet of the unfetched set
    manifest.json       its manifest
    begun.json          how URLs are downloaded; written last, vouches for the two above
    refused.json        what hosts refused in a finished run
    kept/               images that a finished run had, or one that downloaded otherwise
    round-0/ round-1/ … what was downloaded (`chunks`)
    checked/            what was found in the bytes (`checks`)
    threshold.json      how alike an image and its row must be (`agreement`), where it was found on images

Everything that is written into the set follows from these files, so that the same command finishes it,
wherever it was stopped. The folder goes when the set's manifest is there.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.fetch.agreement import Threshold
from curate.fetch.chunks import ChunkFile, Outcome, chunk_name, finished_chunks, read_chunk
from curate.fetch.options import DownloadOptions
from curate.transfer_set.manifest import SHARDS
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.tars import TarReader
from transferset.writes import read_json, sweep_temporaries, write_json, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".fetch"
_BEGUN, _CHOSEN, _MANIFEST = "begun.json", "chosen.parquet", "manifest.json"
_THRESHOLD, _REFUSED = "threshold.json", "refused.json"


class FetchState:
    """The `.fetch` of one set. Make it only while holding the set's lock."""

    def __init__(self, transfer_set: Path) -> None:
        self.transfer_set = transfer_set
        self.folder = transfer_set / FOLDER
        for folder in (transfer_set, transfer_set / SHARDS, self.folder, self.kept, self.checked):
            if folder.is_dir():
                sweep_temporaries(folder)

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    @property
    def checked(self) -> Path:
        return self.folder / "checked"

    @property
    def begun(self) -> bool:
        """Whether there is a run to go on with."""
        return (self.folder / _BEGUN).is_file()

    def begin(self, chosen: "pa.Table", manifest: Mapping[str, Any], options: DownloadOptions) -> None:
        """Note what is to be fetched, before anything in the set is changed."""
        write_parquet(self.folder / _CHOSEN, chosen)
        write_json(self.folder / _MANIFEST, dict(manifest))
        write_json(self.folder / _BEGUN, options.outcome_depends_on())

    def resume(self, options: DownloadOptions) -> None:
        """Go on under `options`. If they differ from what was downloaded with, images that came are kept,
        and failures forgotten."""
        now = json.loads(json.dumps(options.outcome_depends_on()))
        if read_json(self.folder / _BEGUN) == now:
            return
        for round_folder in sorted(self.folder.glob("round-*")):
            for table in finished_chunks(round_folder):
                name = f"{round_folder.name}-{table.stem}"
                self.kept.mkdir(exist_ok=True)
                table.with_suffix(".bin").rename(self._fresh(name).with_suffix(".bin"))
                table.rename(self._fresh(name).with_suffix(".parquet"))
            shutil.rmtree(round_folder)
        write_json(self.folder / _BEGUN, now)

    def _fresh(self, name: str) -> Path:
        """A path in `kept` for which there is no table yet."""
        number = 0
        while (self.kept / f"{name}-{number}.parquet").exists():
            number += 1
        return self.kept / f"{name}-{number}"

    def chosen(self) -> "pa.Table":
        """The samples as they were chosen."""
        return read_table(self.folder / _CHOSEN)

    def manifest(self) -> dict[str, Any]:
        """The manifest of the unfetched set."""
        found: dict[str, Any] = read_json(self.folder / _MANIFEST)
        return found

    def kept_images(self) -> dict[int, Outcome]:
        """Images that need not be downloaded, by place."""
        outcomes = (one for table in finished_chunks(self.kept) for one in read_chunk(table))
        return {one.place: one for one in outcomes if one.reason is None}

    def keep(self, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Copy the images of a finished set into `kept`: `rows` are its samples, each with its place. What is
        damaged there will be downloaded again."""
        by_shard: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        for place, row in rows:
            by_shard.setdefault(row["shard"], []).append((place, row))
        self.kept.mkdir(parents=True, exist_ok=True)
        for number, (shard, members) in enumerate(sorted(by_shard.items())):
            path = self.transfer_set / SHARDS / shard
            if path.is_file():
                _copy(path, members, ChunkFile(self.kept, f"shard-{chunk_name(number)}"))

    def refuse(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note what hosts refused in a finished run: place, reason and detail."""
        names = ("place", "reason", "detail")
        write_json(self.folder / _REFUSED, [{name: row[name] for name in names} for row in rows])

    def refused(self) -> list[dict[str, Any]]:
        """What `refuse` noted."""
        path = self.folder / _REFUSED
        found: list[dict[str, Any]] = read_json(path) if path.is_file() else []
        return found

    def threshold(self, find: Callable[[], Threshold]) -> Threshold:
        """The threshold that this set was, or is to be, judged with; found once, so that later images don't
        change what is said of earlier ones."""
        path = self.folder / _THRESHOLD
        if not path.is_file():
            found = find()
            if found.value is None:
                return found
            write_json(path, asdict(found))
        return Threshold(**read_json(path))

    def abandon(self) -> None:
        """Forget a run that has not begun: what is in the folder without begun.json."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def end(self) -> None:
        """Forget everything; begun.json goes first, so that half a folder is never taken for a run."""
        (self.folder / _BEGUN).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _copy(shard: Path, members: Sequence[tuple[int, Mapping[str, Any]]], chunk: ChunkFile) -> None:
    with TarReader(shard) as tar:
        for place, row in members:
            try:
                data = tar.read(row["offset"], row["size"])
            except DataError:
                continue
            if item_id(data).hex() == row["bytes_id"]:
                chunk.add(place, data)
    chunk.finish()


def read_table(path: Path) -> "pa.Table":
    """A Parquet file of ours; DataError if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="retrieve into a new folder, then fetch that"
        ) from error
