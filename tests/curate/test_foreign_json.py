import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.foreign_json import MOST_NESTED, parse_json, stored_object
from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.pools import metadata
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.filters import Filters, blocked_rows
from curate.selection.select_options import SelectOptions

DEEP = "[" * 5_000 + "]" * 5_000


def test_what_no_file_can_hold_is_escaped_or_none() -> None:
    strings = b'"a\\udfffb", "\\ud83d\\ude00", "\xc3\xa9"'
    found = parse_json(b'{"\\ud800": [' + strings + b", 1e999, NaN, 2.5, 12345678901234567890, true]}")
    values = ["a\\udfffb", "\U0001f600", "é", None, None, 2.5, 12345678901234567890, True]
    assert found == {"\\ud800": values}
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
    assert parse_json(b'"\xed\xa0\x80"') == "\\ud800"
    assert parse_json('{"a": 1}'.encode("utf-16")) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, DEEP, "[" * (MOST_NESTED + 1) + "]" * (MOST_NESTED + 1)]
)
def test_what_is_no_json_or_too_deep_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_a_stored_object_is_one_or_none() -> None:
    assert stored_object('{"a":"\\ud800","b":"\\u00e9"}') == {"a": "\\ud800", "b": "é"}
    assert stored_object("{" + ",".join(f'"{n}":[]' for n in range(200)) + "}") == {
        str(n): [] for n in range(200)
    }
    for text in (None, "", "[1]", "{", '{"a":' + DEEP + "}", '{"a":' + "[" * 200 + "]" * 200 + "}"):
        assert stored_object(text) is None


STRANGE = b'{"license": "\\ud800", "t": "\\ud800", "score": 3}'


@pytest.fixture(params=["", "of older metadata"])
def strange_index(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tinted: Any,
    encode: Any,
    write_tar: Any,
) -> Index:
    """Of a tar with names and metadata that are no UTF-8; also as an index that holds the latter as they
    came."""
    if request.param:
        monkeypatch.setattr(metadata, "parse_json", json.loads)
    members = {}
    for number in range(6):
        members[f"\udcff{number}.jpg"] = encode(tinted(number % 3, number))
        members[f"\udcff{number}.json"] = STRANGE if number else b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    write_tar(tmp_path / "pool" / "a.tar", members)
    options = BuildOptions(
        encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=4, faiss=False
    )
    build_index([tmp_path / "pool"], tmp_path / "index", options)
    return open_index(tmp_path / "index")


def test_a_pool_with_names_and_metadata_that_are_no_utf_8_is_built_filtered_and_retrieved(
    strange_index: Index, query_dir: Path, tmp_path: Path
) -> None:
    assert strange_index.rows == 6
    assert blocked_rows(strange_index, Filters(where=("extra.score == 3",))).sum() == 1
    out = tmp_path / "out"
    retrieve(strange_index.path, query_dir, out, RetrieveOptions(SelectOptions(total=6), (), workers=2))
    rows = pq.read_table(out / "samples.parquet").to_pylist()
    assert {row["licence"] for row in rows} == {None, "\\ud800"}
    keys = {item.key for part in strange_index.parts for item in part.read(np.arange(6))}
    assert keys == {f"\\udcff{number}" for number in range(6)}
