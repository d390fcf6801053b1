"""What metadata tables say, whatever their columns are called and hold."""

import datetime
import decimal
import json

import pyarrow as pa
import pytest

from curate.pools.columns import LARGEST_EXTRA, LARGEST_VALUE, TableRow, column_of, read_rows


def rows(columns: dict, **options) -> list[TableRow]:
    return read_rows(pa.record_batch(columns), **options)


def test_names_count_in_any_case_and_the_original_size_first():
    found = rows(
        {
            "URL": ["http://x"],
            "TEXT": ["a cat"],
            "WIDTH": [5],
            "Original_Width": [50],
            "HEIGHT": [4],
            "Key": ["k"],
        }
    )
    assert found == [TableRow("k", None, "http://x", "a cat", 50, 4, '{"WIDTH":5}')]
    assert column_of(["Text", "caption"], ("caption", "text")) == "caption"
    assert column_of(["x"], ("caption",)) is None


def test_sizes_are_metadata_where_the_image_tells_its_own():
    assert rows({"width": [5], "height": [4]}, sized=False) == [TableRow(extra='{"height":4,"width":5}')]


def test_the_path_stays_beside_a_url_and_names_the_item_without_one():
    assert rows({"url": ["u"], "image_path": ["p"]})[0].extra == '{"image_path":"p"}'
    assert rows({"image_path": ["p"]}) == [TableRow(path="p")]


def test_everything_else_is_json():
    found = rows(
        {
            "n": pa.array([1], pa.uint64()),
            "x": [0.5],
            "yes": [True],
            "nan": [float("nan")],
            "none": pa.array([None], pa.int8()),
            "empty": [""],
            "md5": pa.array([b"\x01\xff"], pa.binary(2)),
            "when": [datetime.datetime(2026, 1, 2, 3, 4, 5)],
            "far": pa.array([2**62], pa.timestamp("s")),
            "price": [decimal.Decimal("1.20")],
            "tags": [["a", "b"]],
            "deep": [{"a": [1.5, float("inf")], "b": None}],
            "embedding": pa.array([[0.1] * 8], pa.list_(pa.float32())),
            "tokens": pa.array([[1] * 8], pa.list_(pa.int64(), 8)),
        }
    )
    assert json.loads(found[0].extra or "") == {
        "n": 1,
        "x": 0.5,
        "yes": True,
        "md5": "01ff",
        "when": "2026-01-02T03:04:05",
        "price": "1.20",
        "tags": ["a", "b"],
        "deep": {"a": [1.5, None], "b": None},
    }


def test_what_is_too_large_is_left_out():
    found = rows({"long": ["x" * (LARGEST_VALUE + 1)], "short": ["y"], "bytes": [b"z" * 10_000]})
    assert found[0].extra == '{"short":"y"}'
    many = rows({f"c{number}": ["x" * (LARGEST_VALUE - 10)] for number in range(40)})[0].extra or ""
    assert len(many) <= LARGEST_EXTRA + 100 and len(json.loads(many)) == 16


def test_text_that_is_not_utf8_is_mended():
    raw = pa.array([b"caf\xe9", b"ok"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    found = read_rows(pa.record_batch({"caption": text, "note": text}))
    assert found[0] == TableRow(caption="caf\ufffd", extra='{"note":"caf\\ufffd"}')
    assert found[1].caption == "ok"


@pytest.mark.parametrize("value", [0, -3, 2**40, None])
def test_sizes_that_are_none_count_as_unknown(value):
    assert rows({"width": pa.array([value], pa.int64())})[0].width == 0


def test_a_table_without_rows_has_none():
    assert rows({"url": pa.array([], pa.string())}) == []
