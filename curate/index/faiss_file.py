"""The FAISS file: a cache for searches that can't scan everything. Its ids are positions; scores come from
the parts."""

import errno
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.index.ids import generation
from curate.index.layout import FAISS, PART_BITS
from curate.index.part import Part
from transferset.errors import DataError
from transferset.writes import atomic_path, read_json, write_json

_FILE = "index.faiss"
_ABOUT = "about.json"
FLAT_ROWS = 200_000
_TRAIN_PER_LIST = 64
_ADD_ROWS = 16_384
PROBES = 32


@dataclass(frozen=True)
class FaissAbout:
    """What a FAISS file holds: the factory string, the parts in it, and for inverted lists how many are
    probed."""

    factory: str
    parts: list[int]
    rows: int
    probes: int | None


def choose_factory(rows: int) -> str:
    """Flat float16 up to 200,000 rows; beyond, inverted lists of float16 (the square root of rows times four,
    as a power of two). Inner product in both."""
    if rows <= FLAT_ROWS:
        return "IDMap2,SQfp16"
    lists = 1 << round(np.log2(4 * np.sqrt(rows)))
    return f"IVF{lists},SQfp16"


def build_faiss(
    index: Path, parts: Sequence[Part], parts_sha256: str, old_sha256: str | None
) -> FaissAbout | None:
    """Write the FAISS file for one state of parts.parquet; what an older one holds is taken from it. None if
    there are no rows.

    Raises OSError where the disk is full.
    """
    target = generation(index, FAISS, parts_sha256)
    known = read_about(target)
    if known is not None:
        return known
    rows = sum(part.rows for part in parts)
    if rows == 0:
        return None
    content, held = _start(index, old_sha256, choose_factory(rows), parts)
    for part in parts:
        if part.number not in held:
            _add(content, part)
            part.release()
    about = FaissAbout(
        choose_factory(rows), [part.number for part in parts], rows, PROBES if rows > FLAT_ROWS else None
    )
    with atomic_path(target) as directory:
        directory.mkdir()
        _write(content, directory / _FILE)
        write_json(directory / _ABOUT, asdict(about))
    return about


def read_about(target: Path) -> FaissAbout | None:
    """What the FAISS file in `target` holds; None if there is none."""
    if not (target / _ABOUT).is_file() or not (target / _FILE).is_file():
        return None
    try:
        return FaissAbout(**read_json(target / _ABOUT))
    except (DataError, TypeError):
        return None


def _start(index: Path, old_sha256: str | None, factory: str, parts: Sequence[Part]) -> tuple[Any, set[int]]:
    """The older file if it fits, with the parts that it holds; else an empty, trained one."""
    import faiss

    if old_sha256 is not None:
        folder = generation(index, FAISS, old_sha256)
        about = read_about(folder)
        if (
            about is not None
            and about.factory == factory
            and set(about.parts) <= {part.number for part in parts}
        ):
            try:
                return faiss.read_index(os.fspath(folder / _FILE)), set(about.parts)
            except RuntimeError:
                pass
    content = faiss.index_factory(parts[0].dimension, factory, faiss.METRIC_INNER_PRODUCT)
    if not content.is_trained:
        lists = faiss.extract_index_ivf(content).nlist if factory.startswith("IVF") else 1
        content.train(_sample(parts, _TRAIN_PER_LIST * lists))
    return content, set()


def _sample(parts: Sequence[Part], amount: int) -> np.ndarray:
    """About `amount` rows, evenly spread, (n, d) float32."""
    total = sum(part.rows for part in parts)
    step = max(1, total // amount)
    pieces = []
    offset = 0
    for part in parts:
        pieces.append(part.mapped[(-offset) % step :: step].astype(np.float32))
        part.release()
        offset += part.rows
    return np.concatenate(pieces)


def _add(content: Any, part: Part) -> None:
    for start in range(0, part.rows, _ADD_ROWS):
        vectors = part.mapped[start : start + _ADD_ROWS].astype(np.float32)
        rows = np.arange(start, start + len(vectors), dtype=np.int64)
        content.add_with_ids(vectors, np.int64(part.number) << PART_BITS | rows)


def _write(content: Any, path: Path) -> None:
    """faiss reports a full disk as a RuntimeError that quotes the system."""
    import faiss

    try:
        faiss.write_index(content, os.fspath(path))
    except RuntimeError as error:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), os.fspath(path)) from error
        raise


class FaissFile:
    """An open FAISS file. Searching is thread-safe: nothing of it is changed."""

    def __init__(self, index: Path, parts_sha256: str) -> None:
        import faiss

        folder = generation(index, FAISS, parts_sha256)
        about = read_about(folder)
        if about is None:
            raise DataError(
                f"{index} has no FAISS file for its parts",
                hint="run curate build-index again, or search exactly",
            )
        self.about = about
        try:
            self._content = faiss.read_index(os.fspath(folder / _FILE), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise DataError(
                f"{folder / _FILE} is damaged: {error}", hint=f"delete {folder}, build again"
            ) from error
        self._parameters: Any = None
        if about.probes is not None:
            self._parameters = faiss.SearchParametersIVF(nprobe=about.probes)  # type: ignore[call-arg]

    def candidates(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Positions (q, k) int64 of about the nearest rows; -1 where there are fewer."""
        _, positions = self._content.search(queries, k, params=self._parameters)
        return np.asarray(positions)
