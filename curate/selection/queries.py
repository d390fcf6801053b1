"""The query set: the few labelled target images that drive retrieval."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from transferset.copies import item_id
from transferset.cores import available_cores
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, ImageError, decode
from transferset.labelled import LabelledImage, LabelledSet, load_labelled
from transferset.parallel import ordered_map
from transferset.prompts import valid_text
from transferset.reads import read_bytes


@dataclass(frozen=True)
class Query:
    """One query. `query_id` is the item id of its bytes in hex, `name` its path below the query directory.

    The image is in `data` or in the file `path` (read when needed, so that 20,000 queries need no memory);
    a query that comes with a ready `vector` (d,), or (v, d) if it has several views, needs neither; nor does
    one that is a text, in `prompts`.
    """

    query_id: str
    label: str | None
    name: str
    data: bytes | None = None
    path: Path | None = None
    vector: np.ndarray | None = None
    prompts: tuple[str, ...] = ()

    def read(self) -> bytes:
        """The encoded image; DataError if it is gone or has changed since its id was taken."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise DataError(f"query {self.name} has no image")
        data = read_bytes(self.path, "query image")
        if item_id(data).hex() != self.query_id:
            raise DataError(
                f"query image {self.path} changed while it was used", hint="run the command again"
            )
        return data


@dataclass(frozen=True)
class QueryError:
    """A file of the query directory that gave no query, and why."""

    name: str
    label: str | None
    reason: str


@dataclass(frozen=True)
class QuerySet:
    """Distinct readable queries, ordered by (label, query id), and what was left out.

    `repeats` names the images whose bytes an earlier query has already; `notes` are sentences for the user.
    """

    queries: tuple[Query, ...]
    errors: tuple[QueryError, ...] = ()
    repeats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The label of each query."""
        return tuple(query.label for query in self.queries)

    @property
    def classes(self) -> tuple[str | None, ...]:
        """The labels that occur, in order; a flat folder is the one class None."""
        return tuple(dict.fromkeys(self.labels))


def load_queries(query_dir: Path, max_pixels: int = MAX_PIXELS, workers: int | None = None) -> QuerySet:
    """The queries of a labelled folder or table (see `transferset.labelled`); of a set with splits, those
    of train.

    Every image is decoded once, so that a damaged one is known before the index is searched. DataError
    (exit 3) where no image is readable or a class has none. The same bytes under two labels make one query
    with the first label, and a note.
    """
    labelled = load_labelled(query_dir)
    notes = [labelled.warning] if labelled.warning is not None else []
    if labelled.has_splits:
        labelled, note = _train_split(labelled, query_dir)
        notes.append(note)
    threads = workers or available_cores()
    outcomes = ordered_map(
        partial(_read, root=labelled.root, max_pixels=max_pixels), labelled.images, threads, 4 * threads
    )
    query_set = _distinct(outcomes, notes)
    _check_classes(query_dir, labelled, query_set)
    return query_set


def _train_split(labelled: LabelledSet, query_dir: Path) -> tuple[LabelledSet, str]:
    others = sorted(labelled.splits - {"train"})
    if "train" not in labelled.splits:
        raise DataError(
            f"{query_dir} has the splits {', '.join(others)} and no train",
            hint="name the folder whose images are to be the queries",
        )
    left = f"; {', '.join(others)} left alone" if others else ""
    return labelled.split("train"), f"queries are the train split{left}"


def _read(image: LabelledImage, root: Path, max_pixels: int) -> Query | QueryError:
    name = _name(image.path, root)
    label = image.label if image.label is None else valid_text(image.label)
    try:
        data = image.path.read_bytes()
        decode(data, short_side=256, max_pixels=max_pixels)
    except OSError as error:
        return QueryError(name, label, error.strerror or str(error))
    except ImageError as error:
        return QueryError(name, label, error.reason)
    return Query(item_id(data).hex(), label, name, path=image.path)


def _name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return valid_text(name)


def _distinct(outcomes: Iterable[Query | QueryError], notes: list[str]) -> QuerySet:
    found: dict[str, Query] = {}
    errors: list[QueryError] = []
    repeats: list[str] = []
    for outcome in sorted(outcomes, key=lambda one: (one.label or "", one.name)):
        if isinstance(outcome, QueryError):
            errors.append(outcome)
            continue
        first = found.setdefault(outcome.query_id, outcome)
        if first is outcome:
            continue
        repeats.append(outcome.name)
        if first.label != outcome.label:
            notes.append(
                f"{first.name} and {outcome.name} are the same bytes with two labels; "
                f"the query is labelled {first.label}"
            )
    queries = sorted(found.values(), key=lambda query: (query.label or "", query.query_id))
    return QuerySet(tuple(queries), tuple(errors), tuple(repeats), tuple(notes))


def _check_classes(query_dir: Path, labelled: LabelledSet, query_set: QuerySet) -> None:
    if not query_set.queries:
        reasons = "; ".join(f"{error.name}: {error.reason}" for error in query_set.errors[:3])
        raise DataError(f"no query image of {query_dir} is readable" + (f" ({reasons})" if reasons else ""))
    empty = sorted(
        {valid_text(name) for name in labelled.classes}
        - {label for label in query_set.labels if label is not None}
    )
    if not empty:
        return
    failed = [error for error in query_set.errors if error.label == empty[0]]
    why = (
        f" ({failed[0].name}: {failed[0].reason})" if failed else " (all its images also have another label)"
    )
    raise DataError(
        f"{query_dir}: no readable query image in class {', '.join(empty)}{why}",
        hint="add a readable image to each of these classes or remove them",
    )
