"""What is found in bytes that came: decoded, hashed, and compared with what the index knows of the image.

The comparison is with a recorded hash (`sha256` or `md5` in the metadata), or, where there is none, of the
image's embedding by the index's encoder with the stored row.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.encoding.pipeline import PipelineOptions, Unreadable, encode_items, prepare
from curate.fetch.agreement import Threshold, calibrate
from curate.fetch.chunks import Outcome
from curate.foreign_json import stored_object
from curate.index.encoder import IndexEncoder
from transferset.images import MAX_PIXELS
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map
from transferset.progress import progress
from transferset.writes import write_parquet

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

_GROUP = 1_024
_HASHES = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}


@dataclass(frozen=True, slots=True)
class Check:
    """What the bytes of one image are.

    Attributes:
        place, item_id: which image, and its bytes' id (hex).
        problem: why it can't be used as an image, or None; then format, width, height and perceptual_hash
            are those of a picture.
        recorded, hash_holds: the kind of hash that the pool's metadata has (None: neither), and whether it
            is that of the bytes.
        agreement: cosine of the image and the index's row; None where a recorded hash decides.
    """

    place: int
    item_id: str
    problem: str | None = None
    format: str = ""
    width: int = 0
    height: int = 0
    perceptual_hash: int = 0
    recorded: str | None = None
    hash_holds: bool | None = None
    agreement: float | None = None


def recorded_hash(extra: str | None) -> tuple[str, str] | None:
    """Kind and hex digits of the hash of the bytes that an item's metadata has, under that name in any case:
    sha256 before md5."""
    if not extra:
        return None
    metadata = {name.lower(): value for name, value in (stored_object(extra) or {}).items()}
    for kind, pattern in _HASHES.items():
        value = metadata.get(kind)
        if isinstance(value, str) and pattern.fullmatch(value.strip().lower()):
            return kind, value.strip().lower()
    return None


class Checker:
    """Checks images against their items of an index; the encoder is loaded when the first image needs it."""

    def __init__(self, index: "Index", device: str, workers: int, max_pixels: int = MAX_PIXELS) -> None:
        self._index = index
        self._encoder = IndexEncoder(index, device)
        self._pipeline = PipelineOptions(workers, max_pixels)

    @property
    def model(self) -> FrozenModel:
        """The index's encoder."""
        return self._encoder.model

    def check_all(
        self, folder: Path, outcomes: Sequence[Outcome], items: Mapping[int, "ItemRow"]
    ) -> dict[int, Check]:
        """Checks of all `outcomes` (ordered by place, each with bytes), stored in `folder` group by group."""
        found: dict[int, Check] = {}
        if not outcomes:
            return found
        groups = [outcomes[start : start + _GROUP] for start in range(0, len(outcomes), _GROUP)]
        with progress("checking", len(outcomes), "images") as bar:
            for group in groups:
                path = folder / f"{_digest(group)}.parquet"
                checks = _load(path, group) if path.is_file() else None
                if checks is None:
                    checks = sorted(self._check(group, items), key=lambda check: check.place)
                    _store(path, checks)
                found.update((check.place, check) for check in checks)
                bar.advance(len(group))
        return found

    def calibrate(self, outcomes: Sequence[Outcome], checks: Mapping[int, Check]) -> Threshold:
        """The least agreement, found on `outcomes`; without the encoder where no image needs it."""
        if all(check.agreement is None for check in checks.values()):
            return Threshold(None, "every image has a recorded hash")
        first = {one.item_id: one for one in reversed(outcomes) if checks[one.place].problem is None}
        sample = sorted(first.values(), key=lambda one: one.place)
        return calibrate(self.model, sample, self._pipeline)

    def _check(self, group: Sequence[Outcome], items: Mapping[int, "ItemRow"]) -> Iterator[Check]:
        hashes = {one.place: recorded_hash(items[one.place].extra) for one in group}
        yield from self._by_hash([one for one in group if hashes[one.place]], hashes)
        unknown = [one for one in group if not hashes[one.place]]
        if not unknown:
            return
        for outcome in encode_items(self.model, unknown, Outcome.read, self._pipeline):
            one = outcome.item
            if isinstance(outcome, Unreadable):
                yield Check(one.place, one.item_id.hex(), outcome.reason)
                continue
            agreement = _cosine(outcome.embedding, self._stored(items[one.place]))
            yield Check(one.place, one.item_id.hex(), agreement=agreement, **_seen(outcome))

    def _by_hash(
        self, group: Sequence[Outcome], hashes: Mapping[int, tuple[str, str] | None]
    ) -> Iterator[Check]:
        preprocessing = Preprocessing.from_dict(self._index.plan.encoder.preprocessing)
        limits, read = self._pipeline, _remembered

        def look(one: Outcome) -> Check:
            data = one.read()
            kind, digits = hashes[one.place] or ("", "")
            kept = hashlib.new(kind, data, usedforsecurity=False).hexdigest() == digits
            told: dict[str, Any] = {"recorded": kind, "hash_holds": kept}
            outcome = prepare(one, read(data), preprocessing, limits.max_pixels)
            if isinstance(outcome, Unreadable):
                return Check(one.place, one.item_id.hex(), outcome.reason, **told)
            return Check(one.place, one.item_id.hex(), **told, **_seen(outcome))

        workers = limits.threads
        yield from ordered_map(look, group, workers, 4 * workers)

    def _stored(self, item: "ItemRow") -> np.ndarray:
        return self._index.vectors(np.array([item.position], np.int64))[0]


def _remembered(data: bytes) -> Callable[[Outcome], bytes]:
    return lambda _: data


def _seen(found: Any) -> dict[str, Any]:
    """Fields that an encoded and a prepared image have in common."""
    header = found.header
    return {
        "format": header.format,
        "width": header.width,
        "height": header.height,
        "perceptual_hash": found.perceptual_hash,
    }


def _cosine(image: np.ndarray, row: np.ndarray) -> float:
    one, other = image.astype(np.float64), row.astype(np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return round(float(one @ other) / lengths, 5) if lengths > 0 else 0.0


def _digest(group: Sequence[Outcome]) -> str:
    """A name for a group that another one with other bytes doesn't have."""
    digest = hashlib.sha256()
    for one in group:
        digest.update(one.place.to_bytes(8, "little") + one.item_id)
    return digest.hexdigest()[:32]


def _store(path: Path, checks: Sequence[Check]) -> None:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    schema = pa.schema(
        {
            "place": number,
            "item_id": text,
            "problem": text,
            "format": text,
            "width": number,
            "height": number,
            "perceptual_hash": pa.uint64(),
            "recorded": text,
            "hash_holds": pa.bool_(),
            "agreement": pa.float64(),
        }
    )
    write_parquet(path, pa.Table.from_pylist([asdict(one) for one in checks], schema=schema))


def _load(path: Path, group: Sequence[Outcome]) -> list[Check] | None:
    """Stored checks; None if they are damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        checks = [Check(**row) for row in pq.read_table(path).to_pylist()]
    except (pa.ArrowException, OSError, TypeError):
        return None
    return checks if [one.place for one in checks] == [one.place for one in group] else None
