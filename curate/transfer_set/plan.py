"""What an unfinished transfer set remembers, so that the same command goes on where it was stopped.

`.plan/selection.parquet`, `.plan/arguments.json` (which vouches for it), `.plan/shards/000000.json` for
each finished shard. The folder goes when the manifest is there.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curate.selection.background import Background
from curate.selection.removed import Removed
from curate.selection.selection import Pick, Selection
from curate.transfer_set.manifest import (
    KIND,
    MANIFEST,
    PLOTS,
    SHARDS,
    ShardRecord,
    damaged_files,
    read_manifest,
)
from transferset.changes import changes
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.lock import LOCK_NAME, DirectoryLock
from transferset.writes import (
    TEMPORARY_PREFIX,
    atomic_path,
    read_json,
    sha256_file,
    sweep_temporaries,
    write_json,
)

PLAN = ".plan"
_ARGUMENTS = "arguments.json"
_SELECTION = "selection.parquet"


class Stored(Protocol):
    """What a stopped run left behind; `end` removes it."""

    def end(self) -> None: ...


S = TypeVar("S", bound=Stored)


def require_apart(out: Path, folders: Iterable[tuple[str, Path]]) -> None:
    """UsageError if `out` is, or lies in, one of the folders (option, path) that are read: what is written
    there would be read next time."""
    real = Path(os.path.realpath(out))
    for option, folder in folders:
        if real.is_relative_to(os.path.realpath(folder)):
            raise UsageError(f"--out {out} lies in {option} {folder}", hint="give a folder outside of it")


def require_folder_for(out: Path, arguments: dict[str, Any], kind: str = KIND) -> bool:
    """Whether `out` holds the finished transfer set (or what `kind` is) of these arguments
    (False: nothing, or an unfinished one).

    UsageError with the difference if it was begun or finished with other arguments, or holds something else.
    """
    if (out / MANIFEST).exists():
        _require_same(out, read_manifest(out, kind)["arguments"], arguments)
        return True
    if (out / PLAN / _ARGUMENTS).exists():
        _require_same(out, read_json(out / PLAN / _ARGUMENTS), arguments)
        return False
    require_usable(out, kind)
    return False


def require_usable(out: Path, kind: str = KIND) -> None:
    """UsageError if `out` is no folder, or holds something else than a transfer set (or what `kind` is)."""
    begun = (out / MANIFEST).exists() or (out / PLAN / _ARGUMENTS).exists()
    inside = sorted(out.iterdir()) if out.is_dir() and not begun else []
    others = [path.name for path in inside if not _is_ours(path)]
    if others:
        told = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise UsageError(
            f"{out} is not empty and holds no {kind} ({told})",
            hint="give an empty or new folder as --out",
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder", hint="give an empty or new folder as --out")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """The folder's lock; a folder that was made for it and stayed empty goes again."""
    made = not out.exists()
    try:
        with DirectoryLock(out):
            yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise


def write_once(
    out: Path,
    arguments: dict[str, Any],
    stored: Callable[[Path], S],
    write: Callable[[S], dict[str, Any]],
    kind: str = KIND,
) -> tuple[dict[str, Any], bool]:
    """The manifest of what these arguments make in `out`, and whether all of it was there already.

    `write` makes it, or goes on with it, by what is `stored` of a stopped run, and returns the manifest; it
    holds the folder's lock.
    """
    require_folder_for(out, arguments, kind)
    with locked(out):
        finished = require_folder_for(out, arguments, kind)
        if finished and (manifest := _whole_manifest(out, kind)) is not None:
            stored(out).end()
            say(f"{out} is already complete")
            return manifest, True
        plan = stored(out)
        manifest = write(plan)
        plan.end()
    return manifest, False


def _whole_manifest(out: Path, kind: str) -> dict[str, Any] | None:
    """The manifest if everything it lists is whole; else None, and the damage is told."""
    manifest = read_manifest(out, kind)
    damaged = damaged_files(out, manifest)
    if damaged:
        say(f"{out}: {', '.join(damaged[:5])} missing or damaged; writing again what is")
        return None
    return manifest


def _is_ours(path: Path) -> bool:
    return path.name in (LOCK_NAME, PLAN) or path.name.startswith(TEMPORARY_PREFIX)


def _require_same(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    differing = changes(old, new)
    if differing:
        raise UsageError(
            f"{out} was written with other arguments ({'; '.join(differing)})",
            hint="give another --out, or the arguments that it was written with",
        )


class StoredPlan:
    """The `.plan` of one unfinished transfer set. Make it only while holding the folder's lock."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / PLAN
        for folder in (out, out / SHARDS, out / PLOTS, self.folder, self.folder / SHARDS):
            if folder.is_dir():
                sweep_temporaries(folder)

    def begin(self, arguments: dict[str, Any], selection: Selection) -> None:
        """Note what is going to be written, before anything else is: a resumed run must not search again."""
        write_selection(self.folder / _SELECTION, selection)
        write_json(self.folder / _ARGUMENTS, arguments)

    def load_selection(self) -> Selection | None:
        """The selection that was stored; None if there is none."""
        begun = (self.folder / _ARGUMENTS).exists()
        return read_selection(self.folder / _SELECTION) if begun else None

    def store_shard(self, shard: ShardRecord) -> None:
        """Note a shard as finished. It must be in place."""
        write_json(self.folder / SHARDS / f"{shard.name}.json", asdict(shard))

    def finished_shard(self, name: str, holds: str) -> ShardRecord | None:
        """The record of a shard that is in place and whole, here or in the manifest; None if it has to be
        written.

        `holds` is the `digest` of what should be in it. A shard of other samples, as another selection for
        the same arguments has them (devices round differently), or one that doesn't say, is written again.
        """
        path = self.folder / SHARDS / f"{name}.json"
        if path.exists():
            record = ShardRecord(**read_json(path))
        elif (self.out / MANIFEST).exists():
            shards = {shard["name"]: shard for shard in read_manifest(self.out)["shards"]}
            if name not in shards:
                return None
            record = ShardRecord(**shards[name])
        else:
            return None
        if record.holds != holds:
            return None
        shard = self.out / SHARDS / name
        whole = (
            shard.is_file() and shard.stat().st_size == record.bytes and sha256_file(shard) == record.sha256
        )
        return record if whole else None

    def end(self) -> None:
        """Forget the plan; the manifest says everything now."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_selection(path: Path, selection: Selection) -> None:
    """Store a selection as Parquet: one row per pick, the rest in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        {
            "position": pa.int64(),
            "query": pa.int32(),
            "rank": pa.int32(),
            "similarity": pa.float64(),
            "also": pa.list_(pa.int32()),
        }
    )
    rest = {
        "quotas": selection.quotas,
        "removed": [list(asdict(one).values()) for one in selection.removed],
        "floored": selection.floored,
        "search": selection.search,
        "background": None if selection.background is None else asdict(selection.background),
        "filtered": selection.filtered,
    }
    columns = {name: [getattr(pick, name) for pick in selection.picks] for name in schema.names}
    table = pa.table(columns, schema=schema).replace_schema_metadata({"selection": json.dumps(rest)})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_selection(path: Path) -> Selection:
    """Read what `write_selection` wrote; DataError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        rest = json.loads(table.schema.metadata[b"selection"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint=f"remove {path.parent} and run this again"
        ) from error
    columns = [column.to_pylist() for column in table.columns]
    picks = tuple(
        Pick(position, query, rank, similarity, tuple(also))
        for position, query, rank, similarity, also in zip(*columns, strict=True)
    )
    return Selection(
        picks,
        tuple(rest["quotas"]),
        tuple(Removed(*one) for one in rest["removed"]),
        tuple(rest["floored"]),
        rest.get("search"),
        _background(rest.get("background")),
        rest.get("filtered", 0),
    )


def _background(stored: dict[str, Any] | None) -> Background | None:
    if stored is None:
        return None
    lists = {name: tuple(stored[name]) for name in ("mean", "spread", "histogram")}
    return Background(images=stored["images"], **lists)
