"""Writing suggestions: images, a table to fill in, a page to look at, and the manifest last."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.guard import ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.thresholds import Calibration
from curate.suggestion.page import build_page
from curate.suggestion.suggested import IMAGES, KIND, PLOTS, Suggested, Suggestion
from curate.transfer_set.manifest import FORMAT_VERSION, MANIFEST, REPORT, describe_guard
from transferset import __version__
from transferset.console import say
from transferset.copies import item_id
from transferset.images import EXTENSIONS
from transferset.parallel import ordered_map
from transferset.progress import progress
from transferset.prompts import valid_text
from transferset.writes import sha256_file, write_bytes, write_json

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

TABLE = "suggestions.csv"
COLUMNS = (
    "image", "label", "nearest_class", "similarity", "stands_for", "gain", "nearest_query", "item_id",
    "source", "key", "url", "caption",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class MadeOf:
    """What suggestions are made of: index, queries, what was excluded and how near copies were told, what was
    chosen, how many were asked for."""

    index: "Index"
    query_set: QuerySet
    excluded: ExcludedSet | None
    near: Calibration | None
    found: Suggested
    requested: int


def write_suggestions(out: Path, made_of: MadeOf, arguments: dict[str, Any], workers: int) -> dict[str, Any]:
    """Write everything that is not there yet; returns the manifest. The caller holds the folder's lock.
    DataError, with what to do, where the pool's bytes can't be read."""
    found = made_of.found
    positions = np.array([one.position for one in found.suggestions], dtype=np.int64)
    items = made_of.index.items(positions)
    names = [_image_name(item) for item in items]
    _write_images(out, made_of.index, items, names, workers)
    write_bytes(out / TABLE, _table(made_of.query_set, found.suggestions, items, names).encode("utf-8"))
    outcome = _describe_outcome(made_of)
    guard = describe_guard(made_of.excluded, made_of.near)
    html, plot = build_page(made_of.index, made_of.query_set, found, outcome, guard)
    write_bytes(out / PLOTS / "coverage.png", plot)
    write_bytes(out / REPORT, html.encode("utf-8"))
    files = [*(name for name in names if name), TABLE, f"{PLOTS}/coverage.png", REPORT]
    manifest = {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "transferset_version": __version__,
        "arguments": arguments,
        "outcome": outcome,
        "guard": guard,
        "query_errors": [asdict(error) for error in made_of.query_set.errors],
        "files": {name: sha256_file(out / name) for name in files},
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def _image_name(item: "ItemRow") -> str:
    """Where the image is written, below the folder; empty where the pool holds only its URL."""
    if item.source is None and item.path is None:
        return ""
    return f"{IMAGES}/{item.item_id.hex()}.{EXTENSIONS[item.format]}"


def _write_images(
    out: Path, index: "Index", items: Sequence["ItemRow"], names: Sequence[str], workers: int
) -> None:
    def finish(one: tuple["ItemRow", str]) -> None:
        item, name = one
        path = out / name
        if not (path.is_file() and item_id(path.read_bytes()) == item.item_id):
            write_bytes(path, index.read_bytes(item))

    here = [(item, name) for item, name in zip(items, names, strict=True) if name]
    with progress("writing images", len(here), "images") as bar:
        for _ in ordered_map(finish, here, workers, 4 * workers):
            bar.advance()
    if len(here) < len(items):
        say(f"{len(items) - len(here)} images are not available here: {TABLE} has their URLs")


def _table(
    query_set: QuerySet, suggestions: Sequence[Suggestion], items: Sequence["ItemRow"], names: Sequence[str]
) -> str:
    """A CSV that is a labelled set as soon as the column `label` is filled in."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one, item, name in zip(suggestions, items, names, strict=True):
        query = query_set.queries[one.query]
        numbers = [f"{one.similarity:.4f}", one.stands_for, f"{one.gain:.6f}"]
        source = item.source if item.source is not None else item.path
        rest = (query.name, item.item_id.hex(), source, item.key, item.url, item.caption)
        writer.writerow([name, "", _cell(query.label), *numbers, *map(_cell, rest)])
    return buffer.getvalue()


def _cell(value: str | None) -> str:
    """Text that UTF-8 can hold and that no spreadsheet takes for a formula: such a one begins with '."""
    text = valid_text(value or "").replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) else text


def _describe_outcome(made_of: MadeOf) -> dict[str, Any]:
    found = made_of.found
    labels = made_of.query_set.labels
    classes = Counter(labels[one.query] for one in found.suggestions)
    return {
        "queries": len(made_of.query_set.queries),
        "candidates": found.candidates,
        "requested": made_of.requested,
        "suggested": len(found.suggestions),
        "missing": made_of.requested - len(found.suggestions),
        "coverage": {
            "queries": round(found.curve[0], 4),
            "with_suggestions": round(found.curve[-1], 4),
            "with_random": round(found.random, 4),
        },
        "nearest_classes": [
            {"label": label, "suggested": classes[label]} for label in made_of.query_set.classes
        ],
    }
