"""What the columns of a metadata table (Parquet) say about an image, whoever wrote it."""

import datetime
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

URL = ("url",)
CAPTION = ("caption", "text")
WIDTH = ("original_width", "width")
HEIGHT = ("original_height", "height")
KEY = ("key",)
PATH = ("image_path", "path", "file_name")
LARGEST_VALUE = 4_096
"""Characters of one value in `extra`; a longer one is left out."""
LARGEST_EXTRA = 65_536
LARGEST_TEXT = 1 << 20
"""Characters of a caption or key; what is longer is cut."""
_LARGEST_SIDE = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a metadata table. Width and height are 0 where the table doesn't say; `extra` is the rest as
    a JSON object."""

    key: str | None = None
    path: str | None = None
    url: str | None = None
    caption: str | None = None
    width: int = 0
    height: int = 0
    extra: str | None = None


def column_of(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first column of `wanted`, whatever its case; None if the table has none of them."""
    by_lower = {name.lower(): name for name in reversed(list(names))}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def read_rows(
    batch: "pa.RecordBatch | pa.Table", besides: Iterable[str] = (), sized: bool = True
) -> list[TableRow]:
    """The rows of a table, without its columns `besides`. With `sized` False the size in pixels is taken as
    one of the other columns: the image itself tells it."""
    left_out = set(besides)
    names = [
        name
        for name in dict.fromkeys(batch.schema.names)
        if name not in left_out and not _is_vector(batch.schema.types[batch.schema.names.index(name)])
    ]
    columns = {name: values(batch.column(batch.schema.names.index(name))) for name in names}
    roles = (KEY, PATH, URL, CAPTION, WIDTH, HEIGHT)
    own = [column_of(names, wanted) if sized or wanted not in (WIDTH, HEIGHT) else None for wanted in roles]
    key, path, url, caption, width, height = (
        columns[name] if name is not None else [None] * batch.num_rows for name in own
    )
    if own[2] is not None and own[1] is not None:
        own.remove(own[1])  # beside a URL the path has no field of its own
    rest = {name: columns[name] for name in names if name not in own}
    return [
        TableRow(
            _text(key[row]),
            _text(path[row]),
            _text(url[row]),
            _text(caption[row]),
            _side(width[row]),
            _side(height[row]),
            _extra({name: column[row] for name, column in rest.items()}),
        )
        for row in range(batch.num_rows)
    ]


def values(column: "pa.Array | pa.ChunkedArray") -> list[Any]:
    """A column as Python values; text that is not UTF-8 is mended."""
    import pyarrow as pa

    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        found = [None if one is None else one.decode("utf-8", "replace") for one in raw]
    except (ValueError, OverflowError, pa.ArrowException):  # times that Python's can't hold
        found = [None] * len(column)
    return found


def _is_vector(kind: "pa.DataType") -> bool:
    """Lists of numbers (embeddings, token ids) say nothing that a person reads, and are large."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value[:LARGEST_TEXT] if isinstance(value, str) and value.strip() else None


def _side(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value) if 0 < value <= _LARGEST_SIDE else 0


def _extra(pairs: dict[str, Any]) -> str | None:
    """The values as a JSON object, without empty ones and those that are too large; None if none is left."""
    texts = {}
    for name, value in pairs.items():
        plain = _plain(value)
        if plain is None or (isinstance(plain, str) and len(plain) > LARGEST_VALUE):
            continue
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        if len(text) <= LARGEST_VALUE:
            texts[name] = text
    fields = [f"{json.dumps(name)}:{texts[name]}" for name in sorted(texts)]
    while sum(map(len, fields)) > LARGEST_EXTRA:
        fields.remove(max(fields, key=len))
    return "{" + ",".join(fields) + "}" if fields else None


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; None for what is no value (null, NaN, an empty text)."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value or None
    if isinstance(value, bytes):
        return value.hex() if len(value) <= LARGEST_VALUE // 2 else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value] if len(value) <= LARGEST_VALUE else None
    return None if value is None else str(value)
