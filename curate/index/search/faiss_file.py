"""The FAISS file: a cache for searches that can't scan everything. Its ids are positions; scores come from
the parts."""

import contextlib
import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.index.ids import generation
from curate.index.layout import DONE, FAISS, PART_BITS
from curate.index.part import Part
from curate.index.search.faiss_choice import FaissChoice, FaissWish, choose_faiss, finer
from curate.index.search.faiss_recall import QUERIES, Effort, find_effort, search_content
from transferset.errors import DataError
from transferset.vectors import unit
from transferset.writes import atomic_path, read_json, sha256_file, write_json

if TYPE_CHECKING:
    from curate.index.search.searcher import Searcher

_FILE = "index.faiss"
_ABOUT = "about.json"
_TRAIN_PER_LIST = 64
_ADD_ROWS = 16_384
_SEED = 0


@dataclass(frozen=True)
class FaissAbout:
    """What a FAISS file holds, why it is of this kind, and how it is searched.

    Attributes:
        factory, reason: see `choose_faiss`; lists: inverted lists, 0 for a flat one.
        parts, rows: what is in it (`_checksums` of the parts); trained_rows: how many rows there were when it
            was trained.
        bytes, sha256: of the file. memory_gb, wanted_recall: what was asked for.
        probes, overfetch, recall, depth, queries: see `Effort`; null if there was too little to measure.
        too_coarse: factories that were tried first and found too few.
    """

    factory: str
    reason: str
    lists: int
    parts: dict[str, str]
    rows: int
    trained_rows: int
    bytes: int
    sha256: str
    memory_gb: float | None
    wanted_recall: float
    probes: int | None
    overfetch: float
    recall: float | None
    depth: int
    queries: int
    too_coarse: list[str]

    @property
    def wish(self) -> FaissWish:
        return FaissWish(self.memory_gb, self.wanted_recall)

    def summary(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {name: value for name, value in asdict(self).items() if name not in ("parts", "rows")}


def build_faiss(
    index: Path, searcher: "Searcher", wish: FaissWish, parts_sha256: str, old_sha256: str | None
) -> FaissAbout | None:
    """Write the FAISS file for one state of parts.parquet; what an older one holds is taken from it. None if
    there are no rows.

    Its recall is measured on held-out rows of the pool. Raises OSError where the disk is full.
    """
    parts, rows = searcher.ranker.parts, searcher.ranker.numbering.total
    target = generation(index, FAISS, parts_sha256)
    known = read_about(target)
    held = _checksums(parts)
    if known is not None and known.parts != held:
        known = None
    if rows == 0 or (known is not None and known.wish == wish):
        return known
    states = [parts_sha256, old_sha256] if known is not None else [old_sha256]
    too_coarse = _found_too_coarse(index, states, wish)
    while True:
        choice = choose_faiss(rows, parts[0].dimension, wish, too_coarse)
        content, trained, effort = _fill(index, states, choice, searcher, wish)
        enough = effort is None or effort.recall >= wish.recall
        if enough or not finer(rows, parts[0].dimension, wish, [*too_coarse, choice.factory]):
            break
        too_coarse.append(choice.factory)
    with atomic_path(target) as directory:
        directory.mkdir()
        _write(content, directory / _FILE)
        about = FaissAbout(
            choice.factory,
            choice.reason,
            choice.lists,
            held,
            rows,
            trained,
            (directory / _FILE).stat().st_size,
            sha256_file(directory / _FILE),
            wish.memory_gb,
            wish.recall,
            *_as_fields(effort, choice.lists),
            too_coarse,
        )
        write_json(directory / _ABOUT, asdict(about))
        if target.exists():
            shutil.rmtree(target)
    return about


def _found_too_coarse(index: Path, states: Sequence[str | None], wish: FaissWish) -> list[str]:
    """What an older file with the same wish was not made of, because it had found too few."""
    folders = [generation(index, FAISS, state) for state in states if state is not None]
    known = [about for folder in folders if (about := read_about(folder)) is not None and about.wish == wish]
    return list(known[0].too_coarse) if known else []


def _fill(
    index: Path, states: Sequence[str | None], choice: FaissChoice, searcher: "Searcher", wish: FaissWish
) -> tuple[Any, int, Effort | None]:
    """A FAISS index of this kind that holds all parts, how many rows there were when it was trained, and the
    least effort that reaches the wanted recall."""
    content, held, trained = _start(index, states, choice, searcher)
    for part in searcher.ranker.parts:
        if part.number not in held:
            _add(content, part)
            part.release()
    sample = _sample_rows(trained, _TRAIN_PER_LIST * choice.lists)
    held_out = _held_out(searcher, sample)
    return content, trained, find_effort(content, choice.lists, searcher, held_out, wish.recall)


def _as_fields(effort: Effort | None, lists: int) -> tuple[int | None, float, float | None, int, int]:
    if effort is None:
        return (lists or None, 1.125, None, 0, 0)
    return (effort.probes, effort.overfetch, effort.recall, effort.depth, effort.queries)


def read_about(target: Path) -> FaissAbout | None:
    """What the FAISS file in `target` holds; None if there is none, or one of an older layout."""
    if not (target / _ABOUT).is_file() or not (target / _FILE).is_file():
        return None
    try:
        about = FaissAbout(**read_json(target / _ABOUT))
    except (DataError, TypeError):
        return None
    return about if isinstance(about.parts, dict) else None


def _checksums(parts: Sequence[Part]) -> dict[str, str]:
    """The checksum of each part's done.json, by number (as JSON has it: text). A number alone does not tell
    which part: where the last one was deleted, the next build gives its number to another."""
    return {str(part.number): sha256_file(part.directory / DONE) for part in parts}


def faiss_damage(target: Path, about: FaissAbout) -> str | None:
    """What is wrong with the FAISS file in `target`; None if it is whole."""
    return None if sha256_file(target / _FILE) == about.sha256 else f"{_FILE} does not have its checksum"


def _start(
    index: Path, states: Sequence[str | None], choice: FaissChoice, searcher: "Searcher"
) -> tuple[Any, set[int], int]:
    """An older file if one fits, with the parts that it holds and the number of rows when it was trained;
    else an empty one, trained on a seeded sample over all parts."""
    import faiss

    parts, total = searcher.ranker.parts, searcher.ranker.numbering.total
    now = _checksums(parts)
    for state in states:
        folder = generation(index, FAISS, state) if state is not None else None
        about = read_about(folder) if folder is not None else None
        if folder is None or about is None or about.factory != choice.factory:
            continue
        if about.parts.items() <= now.items():
            with contextlib.suppress(RuntimeError):
                content = faiss.read_index(os.fspath(folder / _FILE))
                held = {int(number) for number in about.parts}
                if content.ntotal == about.rows == sum(part.rows for part in parts if part.number in held):
                    return content, held, about.trained_rows if choice.lists else total
    content = faiss.index_factory(parts[0].dimension, choice.factory, faiss.METRIC_INNER_PRODUCT)
    if not content.is_trained:
        rows = _sample_rows(total, _TRAIN_PER_LIST * max(1, choice.lists))
        content.train(unit(searcher.vectors(rows)))
        for part in parts:
            part.release()
    return content, set(), total


def _sample_rows(total: int, amount: int) -> np.ndarray:
    """Numbers of `amount` rows (all, if there are fewer), ascending: the same for the same total."""
    if amount >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(_SEED).choice(total, amount, replace=False, shuffle=False))


def _held_out(searcher: "Searcher", trained: np.ndarray) -> list[int]:
    """Rows to measure with: visible ones that were not trained on, as far as there are such."""
    total = searcher.ranker.numbering.total
    drawn = np.random.default_rng(_SEED + 1).permutation(min(total, 1 << 20)) * (max(1, total >> 20))
    visible = drawn[~np.isin(drawn, searcher.scan.hidden)]
    fresh = visible[~np.isin(visible, trained)]
    return [int(row) for row in (fresh if len(fresh) else visible)[:QUERIES]]


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
        if self._content.ntotal != about.rows:
            raise DataError(
                f"{folder / _FILE} holds {self._content.ntotal} rows instead of {about.rows}",
                hint=f"delete {folder}, build again",
            )

    def candidates(self, queries: np.ndarray, k: int, selector: Any = None) -> np.ndarray:
        """Positions (q, k) int64 of about the nearest rows that `selector` lets pass; -1 where there are
        fewer."""
        return search_content(self._content, queries, k, self.about.probes, selector)
