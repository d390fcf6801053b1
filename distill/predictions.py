"""What a model says of images, and the forms in which it is handed on: lines, JSON, tables."""

import contextlib
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from transferset.errors import UsageError
from transferset.prompts import valid_text
from transferset.writes import atomic_file, atomic_path, check_file, sweep_temporaries_of


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image: the most probable class and its probability, `probabilities` (C,) of all. `rejected`: it is
    none of the classes (None: no threshold was used). `error`: why it could not be read; the rest is None
    then."""

    image: str
    item_id: str | None
    predicted: str | None
    probability: float | None
    rejected: bool | None
    probabilities: np.ndarray | None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without the other classes' probabilities."""
        names = ("image", "item_id", "predicted", "probability", "rejected", "error")
        return {name: getattr(self, name) for name in names}

    def to_row(self) -> dict[str, Any]:
        """The same for a table, which is UTF-8: bytes of a file name that are not are escaped."""
        return {**self.to_dict(), "image": valid_text(self.image)}


class TableWriter(Protocol):
    """A table under way."""

    def write(self, predictions: list[Prediction]) -> None:
        """Some more rows."""


@contextlib.contextmanager
def table_writer(path: Path, classes: tuple[str, ...]) -> Iterator[TableWriter]:
    """A table of predictions, one row per image, that stands at `path` when all of it is written.

    `.parquet`: the fields of `Prediction`, `probabilities` as a list in the order of the classes, which are
    in the schema's metadata as JSON. `.csv`: the same without `probabilities`.
    """
    sweep_temporaries_of(path)
    if path.suffix == ".csv":
        with atomic_file(path, "w") as file:
            yield _Csv(file)
    else:
        with atomic_path(path) as temporary:
            writer = _Parquet(temporary, classes)
            try:
                yield writer
            finally:
                writer.close()


def check_table(path: Path) -> None:
    """UsageError for a format that is not known, or where no file can be written."""
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--table {path} ends in neither .parquet nor .csv")
    check_file(path, "--table")


class _Csv:
    def __init__(self, file: IO[str]) -> None:
        names = ("image", "item_id", "predicted", "probability", "rejected", "error")
        self.writer = csv.DictWriter(file, names, lineterminator="\n")
        self.writer.writeheader()

    def write(self, predictions: list[Prediction]) -> None:
        self.writer.writerows(prediction.to_row() for prediction in predictions)


class _Parquet:
    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        strings = {name: pa.string() for name in ("image", "item_id", "predicted")}
        rest = {"probability": pa.float32(), "rejected": pa.bool_(), "error": pa.string()}
        fields = {**strings, **rest, "probabilities": pa.list_(pa.float32())}
        self.schema = pa.schema(list(fields.items()), metadata={"classes": json.dumps(classes)})
        self.writer = pq.ParquetWriter(path, self.schema, compression="zstd")

    def write(self, predictions: list[Prediction]) -> None:
        import pyarrow as pa

        rows = [{**one.to_row(), "probabilities": one.probabilities} for one in predictions]
        self.writer.write_table(pa.Table.from_pylist(rows, schema=self.schema))

    def close(self) -> None:
        self.writer.close()
