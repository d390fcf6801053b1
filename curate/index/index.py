"""An open index: search, items by position or id, and their bytes."""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curate.index.bytes import ByteReader
from curate.index.ids import ItemIds, load_ids, sort_ids
from curate.index.layout import PART_BITS, ROW_MASK, part_directory
from curate.index.ledger import Ledger, LiveLedger
from curate.index.manifest import read_manifest
from curate.index.numbering import Numbering
from curate.index.open_files import allow_open_files
from curate.index.part import ItemRow, Part, rows_at
from curate.index.plan import Plan, read_plan
from curate.pools import Roots
from curate.pools.remote import PoolPath
from transferset.errors import DataError
from transferset.grouping import groups_of

if TYPE_CHECKING:
    from curate.index.search.faiss_file import FaissFile
    from curate.index.search.searcher import Searcher

Engine = Literal["exact", "faiss"]


class Index:
    """Everything that is read from an index. Parts are memory-mapped on first use; threads may share an
    Index.

    What a build adds later is seen by opening again; what is forgotten is gone at once: neither searches nor
    `find` give it out, nor its bytes. Positions are part << 32 | row, and hold for this index only: outside
    it, items are named by their ids.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        plan: Plan,
        roots: Roots,
        rows: Sequence[Mapping[str, Any]],
        pool_roots: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.plan = plan
        self.roots = roots
        self.parts = [
            Part(
                int(row["number"]), int(row["rows"]), part_directory(path, int(row["number"])), self.dimension
            )
            for row in sorted(rows, key=lambda row: int(row["number"]))
        ]
        self._numbering = Numbering(self.parts)
        self._by_number = {part.number: part for part in self.parts}
        self._bytes = ByteReader(roots, plan.id_kind)
        self._pool_roots = dict(pool_roots or {})
        self._ledger = LiveLedger(path)
        self._made: tuple[Ledger, Searcher] | None = None
        self._making = threading.Lock()
        self._counted: tuple[Ledger, int] | None = None

    @property
    def encoder_spec(self) -> str:
        return self.plan.encoder.spec

    @property
    def encoder_fingerprint(self) -> str:
        return self.plan.encoder.fingerprint

    @property
    def dimension(self) -> int:
        return self.plan.encoder.dimension

    @property
    def has_bytes(self) -> bool:
        """Whether the pool holds images; one of ready embeddings holds only their URLs or paths."""
        return self.plan.id_kind == "bytes"

    @property
    def rows(self) -> int:
        """Rows of all parts; the same bytes may stand in several."""
        return self._numbering.total

    @property
    def distinct(self) -> int:
        """Different items, forgotten ones left out."""
        ledger = self.forgotten
        if self._counted is None or self._counted[0] is not ledger:
            known = sum(bool(self._ids.find(item_id)) for item_id in ledger.ids)
            self._counted = ledger, int(self.manifest["distinct"]) - known
        return self._counted[1]

    @property
    def forgotten(self) -> Ledger:
        """What must not be given out, as of now: the ledger is read again when it has changed."""
        return self._ledger.now

    def embeddings(self, part: int) -> np.ndarray:
        """The rows (n, d) float16 of part number `part`, memory-mapped, read-only."""
        return self._part(part).embeddings

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """The stored rows (n, d) float16 of the items at `positions` (n,) int64, in that order."""
        return rows_at(self._part, positions, self.dimension)

    def item_ids(self, part: int) -> np.ndarray:
        """The item ids (n, 16) uint8 of part number `part`."""
        return self._part(part).item_ids()

    def search(
        self, queries: np.ndarray, k: int, engine: Engine = "exact", blocked: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest items of each query.

        Args:
            queries: (q, d) float32, L2-normalised.
            k: how many; there may be fewer in the index.
            engine: `exact` scans all rows; `faiss` takes candidates from the FAISS file, as hard as its
                wanted recall needs (measured on the pool's own rows, 100 deep).
            blocked: (rows,) uint8 by row number (see `Numbering`), 1 where the search passes over a row.

        Returns:
            positions (q, k) int64 and cosines (q, k) float32, computed from the stored rows and rounded to
            1e-5, ordered by (cosine, largest first; item id). An item counts once, at its smallest position.
            -1 and 0 where there are fewer than k.

        Raises:
            NumericError: a query that is not finite.
            DataError: engine `faiss` and no FAISS file for these parts.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension or k < 0:
            raise ValueError(
                f"expected queries (q, {self.dimension}) and k >= 0, got {queries.shape} and {k}"
            )
        searcher = self._searcher() if blocked is None else self._searcher().without(blocked)
        if engine == "exact":
            rows, scores = searcher.exact(queries, k)
        else:
            rows, scores = self._approximate(searcher, queries, k)
        return np.where(rows >= 0, self._numbering.positions(np.maximum(rows, 0)), -1), scores

    def score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Cosines (q, m) float32, rounded to 1e-5 as `search` rounds them, of queries (q, d) float32,
        L2-normalised, and for each its `rows` (q, m) int64, row numbers (see `Numbering`)."""
        import torch

        from curate.index.search.searcher import SCORE_STEPS

        exact = self._searcher().ranker.score(torch.from_numpy(queries).double(), rows)
        return (np.rint(exact * SCORE_STEPS).clip(-SCORE_STEPS, SCORE_STEPS) / SCORE_STEPS).astype(np.float32)

    @property
    def hidden(self) -> np.ndarray:
        """The row numbers, sorted, that no search gives out: of forgotten items, and of items that stand at a
        smaller position too."""
        return self._searcher().scan.hidden

    @property
    def id_rank(self) -> np.ndarray:
        """For each row number the place of its item id in ascending order: what ranks equal cosines."""
        return self._searcher().ranker.id_rank

    def _approximate(
        self, searcher: "Searcher", queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """By the FAISS file; queries whose probed lists hold too few items are searched exactly."""
        from curate.index.search.faiss_recall import fetch_depth

        faiss_file, selector = self._faiss, searcher.hidden_selector
        fetch = min(self.rows, fetch_depth(k, faiss_file.about.overfetch))
        rows, scores = searcher.of_candidates(
            queries,
            k,
            fetch,
            lambda asked, count: searcher.rows_of(faiss_file.candidates(asked, count, selector)),
        )
        short = np.flatnonzero((rows[:, : min(k, searcher.available)] < 0).any(axis=1))
        if len(short):
            rows[short], scores[short] = searcher.exact(queries[short], k)
        return rows, scores

    def find(self, item_id: bytes) -> int | None:
        """The (smallest) position of an item id of 16 bytes; None if the index doesn't have it, or forgot
        it."""
        found = self.positions_of(item_id)
        return found[0] if found else None

    def positions_of(self, item_id: bytes) -> list[int]:
        """All positions of an item id, smallest first: more than one if the same bytes stand in several
        places, none if it is forgotten."""
        return [] if item_id in self.forgotten.ids else self._ids.find(item_id)

    def item(self, which: int | bytes) -> ItemRow:
        """The item at a position, or with an item id; KeyError if there is none."""
        position = self.find(which) if isinstance(which, bytes) else int(which)
        if position is None or position >> PART_BITS not in self._by_number:
            raise KeyError(which.hex() if isinstance(which, bytes) else which)
        return self.items(np.array([position], np.int64))[0]

    def items(self, positions: np.ndarray) -> list[ItemRow]:
        """The items at `positions` (n,) int64, in that order."""
        positions = np.asarray(positions, np.int64)
        numbers = positions >> PART_BITS
        found: list[ItemRow] = [None] * len(positions)  # type: ignore[list-item]
        for places in groups_of(numbers):
            part = self._part(int(numbers[places[0]]))
            for place, item in zip(places.tolist(), part.read(positions[places] & ROW_MASK), strict=True):
                found[place] = item
        return found

    def read_bytes(self, item: ItemRow) -> bytes:
        """The encoded bytes of an item from the pool, checked against its id.

        Where the item stands in several places, another one serves if this one is gone. DataError, with the
        remedy, if no place has it (the pool moved, was changed or is out of reach), or if it was forgotten.
        """
        if item.item_id in self.forgotten.ids:
            raise DataError(
                f"item {item.item_id.hex()} was forgotten and must not be returned",
                hint="retrieve again into a new folder: the new set leaves it out",
            )
        try:
            return self._bytes.read(item)
        except DataError:
            for position in self._ids.find(item.item_id):
                if position != item.position:
                    try:
                        return self._bytes.read(self.item(position))
                    except DataError:
                        continue
            raise

    def pool_path(self, item: ItemRow) -> PoolPath:
        """The tar, table or image that an item's bytes are in, as of now; nothing says that it exists."""
        return self._bytes.path(item)

    def _part(self, number: int) -> Part:
        try:
            return self._by_number[number]
        except KeyError:
            raise KeyError(f"{self.path} has no part {number}") from None

    @cached_property
    def _ids(self) -> ItemIds:
        cached = load_ids(self.path, self.manifest["parts"]["sha256"], self.rows)
        return cached if cached is not None else sort_ids(self.parts, self._numbering)

    @cached_property
    def _faiss(self) -> "FaissFile":
        from curate.index.search.faiss_file import FaissFile

        return FaissFile(self.path, self.manifest["parts"]["sha256"])

    def _searcher(self) -> "Searcher":
        """Over what is not forgotten now; made again, once for all threads, when the ledger changes."""
        from curate.index.search.searcher import make_searcher

        with self._making:
            ledger, made = self.forgotten, self._made
            if made is None or made[0] is not ledger:
                made = ledger, make_searcher(self.parts, self.dimension, self._ids, ledger.sorted_ids)
                self._made = made
            return made[1]

    def hold(self) -> None:
        """Map everything now, so that this index stays whole when `compact` or a build removes its files."""
        for part in self.parts:
            _ = part.mapped, part.items
        _ = self._ids
        if self.manifest.get("faiss"):
            with contextlib.suppress(DataError):  # told when it is asked for
                _ = self._faiss

    def reopened(self) -> "Index":
        """The index as it is on disk now."""
        return open_index(self.path, self._pool_roots)


def open_index(path: Path, pool_roots: Mapping[str, str] | None = None) -> Index:
    """Open the index at `path`.

    Args:
        pool_roots: where pools are now, as {old path: new path}; without it a pool is looked for where it
            was, then at the same place relative to the index.

    Raises:
        DataError: not an index, not finished, damaged, or of another format; the message says what is
            missing.
    """
    path = Path(path)
    manifest, rows = read_manifest(path)
    plan, roots = read_plan(path, dict(pool_roots or {}))
    if manifest.get("plan_fingerprint") != plan.fingerprint:
        raise DataError(
            f"{path}: plan.json and manifest.json are not of the same index",
            hint="restore the index from a copy",
        )
    allow_open_files(len(rows))
    return Index(path, manifest, plan, roots, rows, pool_roots)
