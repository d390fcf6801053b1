from pathlib import Path

import pyarrow as pa
import pytest

from distill.data.origins import KEPT, origins
from tests.distill.data.memory import peak_bytes
from transferset.writes import write_parquet


def _set(root: Path, licences: list[str | None], sources: list[str | None] | None = None) -> Path:
    columns: dict[str, list[str | None]] = {"licence": licences}
    if sources is not None:
        columns["source"] = sources
    root.mkdir()
    write_parquet(root / "samples.parquet", pa.table(columns))
    return root


def test_the_most_frequent_are_named_and_the_others_counted(tmp_path: Path) -> None:
    kinds = [f"licence {number}" for number in range(KEPT + 2) for _ in range(number + 1)]
    found = origins([_set(tmp_path / "set", [*kinds, None, ""])], len(kinds) + 2)
    assert found["images"] == len(kinds) + 2
    assert found["licence"] == {
        "counts": {f"licence {number}": number + 1 for number in range(2, KEPT + 2)},
        "others": 2,
        "images_of_others": 3,
        "unknown": 2,
    }
    assert found["source"] == {"counts": {}, "others": 0, "images_of_others": 0, "unknown": len(kinds) + 2}


def test_several_sets_are_counted_together(tmp_path: Path) -> None:
    first = _set(tmp_path / "a", ["CC0", None], ["0.tar", "x/y/1.JPG"])
    second = _set(tmp_path / "b", ["CC0", "r" * 500], ["queries", "x/y/2.png"])
    (tmp_path / "c").mkdir()
    found = origins([str(tmp_path / "[ab]"), tmp_path / "c"], 7)
    assert found == origins([first, second], 7)
    assert found["licence"]["counts"] == {"CC0": 2, "r" * 100 + "…": 1} and found["licence"]["unknown"] == 4
    assert found["source"]["counts"] == {"x/y/": 2, "0.tar": 1, "queries": 1}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x.jpg", "./"),
        ("/a/x.WebP", "/a/"),
        ("a//b/./x.y.jpeg", "a/b/"),
        ("a/x.jpg/", "a/"),
        ("a/..png", "a/"),
        ("a/.png", "a/.png"),
        ("a/x.jpg.tar", "a/x.jpg.tar"),
        ("a/x.jpg\n", "a/x.jpg\n"),
        ("a\nb/ü.jpg", "a\nb/"),
        ("d" * 120 + "/x.jpg", "d" * 100 + "…"),
    ],
)
def test_what_a_source_is_called(tmp_path: Path, source: str, told: str) -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        root = tmp_path / str(kind)[:6]
        root.mkdir()
        write_parquet(root / "samples.parquet", pa.table({"source": pa.array([source] * 2, kind)}))
        assert origins([root], 2)["source"]["counts"] == {told: 2}


def test_a_loose_image_is_no_object(tmp_path: Path) -> None:
    count = 20_000
    sources: list[str | None] = [f"folder/{row:08d}.jpg" for row in range(count)]
    root = _set(tmp_path / "set", ["CC0"] * count, sources)
    assert origins([root], count)["source"]["counts"] == {"folder/": count}
    assert peak_bytes(lambda: origins([root], count)) < 50 * count
