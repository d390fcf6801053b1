"""The folders that sources lie below, so that a pool that moved is found again by changing one path."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.pools.items import Source
from curate.pools.remote import PoolPath, is_remote, normal, pool_path
from transferset.errors import UsageError


@dataclass(frozen=True)
class Root:
    """A folder of the pool: where it was when it was indexed, absolutely and as seen from the index."""

    path: str
    relative: str

    def locate(self, index: Path, moved: Mapping[str, str]) -> str:
        """Where the folder is now: as remapped by the user, else where it was, else at the same place
        relative to the index (both were moved or copied together), else where it was although nothing is
        there."""
        for old, new in moved.items():
            below = _below(self.path, absolute(old))
            if below is not None:
                return absolute(joined(absolute(new), below))
        if is_remote(self.path):
            return self.path
        if not Path(self.path).is_dir():
            beside = absolute(Path(index, self.relative))
            if Path(beside).is_dir():
                return beside
        return self.path


def absolute(path: str | Path) -> str:
    """The absolute path without `.` and `..`, or the URL; links are left as they are (they may be how the
    user moves data)."""
    if is_remote(path):
        return normal(str(path))
    return os.path.normpath(Path(path).absolute())


def as_pools(pools: Iterable[str | Path]) -> list[str | Path]:
    """URLs as they are (a Path would take two slashes for one), everything else as Paths, ranges like
    `{00000..00009}` written out."""
    found: list[str | Path] = []
    for pool in pools:
        text = str(pool)
        if isinstance(pool, str) and is_remote(pool):
            found.append(pool)
        elif "{" in text and not Path(text).exists():
            found.extend(Path(one) for one in written_out(text))
        else:
            found.append(Path(text.removeprefix("file://")))
    return found


def written_out(pattern: str) -> list[str]:
    """`shard-{00..09}.tar` as ten names. UsageError where the braces don't match."""
    from braceexpand import braceexpand

    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise UsageError(f"--pool {pattern}: {error}") from error


def joined(folder: str, path: str) -> str:
    """A path below a folder, or a URL."""
    if is_remote(folder):
        return f"{folder}/{path}" if path else folder
    return str(Path(folder, path))


def _relative(path: str, index: Path) -> str:
    """A folder as seen from the index; of a remote one it is empty."""
    return "" if is_remote(path) else os.path.relpath(path, index.absolute())


def _below(path: str, folder: str) -> str | None:
    """`path` relative to `folder` ("" for the folder itself); None if it isn't below it."""
    if path == folder:
        return ""
    prefix = folder if folder.endswith(os.sep) else folder + os.sep
    return path[len(prefix) :] if path.startswith(prefix) else None


class Roots:
    """The numbered roots of an index. Numbers are never reused; a root's path may change, its number not."""

    def __init__(
        self, index: Path, roots: Iterable[Root] = (), moved: Mapping[str, str] | None = None
    ) -> None:
        self.index = Path(index)
        self._roots = list(roots)
        self._moved = dict(moved or {})
        self._now = [root.locate(self.index, self._moved) for root in self._roots]

    @classmethod
    def from_dicts(
        cls, index: Path, entries: Iterable[Mapping[str, Any]], moved: Mapping[str, str] | None = None
    ) -> "Roots":
        """The roots of plan.json's `inputs`."""
        return cls(index, (Root(str(entry["path"]), str(entry["relative"])) for entry in entries), moved)

    def to_dicts(self) -> list[dict[str, str]]:
        """For plan.json's `inputs`: in the order of their numbers, with where each is now."""
        return [{"path": now, "relative": _relative(now, self.index)} for now in self._now]

    def __len__(self) -> int:
        return len(self._roots)

    def path(self, number: int) -> str:
        """The absolute path, or URL, of a root as of now."""
        return self._now[number]

    def locate(self, source: Source) -> PoolPath:
        """The absolute path, or URL, of a source as of now; nothing says that it exists."""
        return self.join(source.root, source.path)

    def join(self, number: int, path: str) -> PoolPath:
        return pool_path(joined(self._now[number], path))

    def place(self, path: str) -> tuple[int, str]:
        """The root that an absolute folder lies below, or is, and its path from there; a new root if there is
        none."""
        for number, now in enumerate(self._now):
            below = _below(path, now)
            if below is not None:
                return number, below
        self._roots.append(Root(path, _relative(path, self.index)))
        self._now.append(path)
        return len(self._roots) - 1, ""

    def move(self, number: int, path: str) -> None:
        """Note that a root is now at `path`."""
        self._now[number] = absolute(path)


def parse_moved(entries: Iterable[str]) -> dict[str, str]:
    """`OLD=NEW` texts of `--pool-root` as a mapping; UsageError where one isn't of that form."""
    moved = {}
    for entry in entries:
        old, separator, new = entry.partition("=")
        if not (separator and old and new):
            raise UsageError(
                f"--pool-root takes OLD=NEW, got {entry!r}", hint="for instance --pool-root /data=/mnt/data"
            )
        moved[old] = new
    return moved
