from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.selection.queries import load_queries
from transferset.copies import item_id
from transferset.errors import DataError

Make = Callable[..., Any]


@pytest.fixture
def write(picture: Make, encode: Make) -> Callable[..., bytes]:
    def make(path: Path, seed: int = 0, cut: int | None = None) -> bytes:
        path.parent.mkdir(parents=True, exist_ok=True)
        data: bytes = encode(picture(seed=seed))[:cut]
        path.write_bytes(data)
        return data

    return make


def test_queries_are_distinct_images_in_the_order_of_label_and_id(tmp_path: Path, write: Make) -> None:
    first = write(tmp_path / "b" / "one.jpg", 1)
    write(tmp_path / "b" / "two.jpg", 2)
    write(tmp_path / "a" / "three.jpg", 3)
    write(tmp_path / "b" / "again.jpg", 1)
    found = load_queries(tmp_path)
    assert [query.label for query in found.queries] == ["a", "b", "b"]
    assert [query.query_id for query in found.queries[1:]] == sorted(
        query.query_id for query in found.queries[1:]
    )
    (kept,) = [query for query in found.queries if query.query_id == item_id(first).hex()]
    assert kept.name == "b/again.jpg" and kept.read() == first
    assert found.repeats == ("b/one.jpg",)
    assert found.classes == ("a", "b")
    assert not found.errors and not found.notes


def test_unreadable_files_are_listed_with_their_reason(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "a" / "good.jpg", 1)
    write(tmp_path / "a" / "cut.jpg", 2, cut=-40)
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "text.webp").write_bytes(b"this is no picture")
    found = load_queries(tmp_path)
    assert [query.name for query in found.queries] == ["a/good.jpg"]
    reasons = {error.name: error.reason for error in found.errors}
    assert set(reasons) == {"a/cut.jpg", "a/empty.png", "a/text.webp"}
    assert reasons["a/cut.jpg"].startswith("truncated")


def test_a_class_without_a_readable_image_is_an_error_that_names_it(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "a" / "good.jpg", 1)
    write(tmp_path / "lost" / "cut.jpg", 2, cut=-40)
    with pytest.raises(DataError, match=r"class lost \(lost/cut.jpg: truncated"):
        load_queries(tmp_path)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"no query image .* is readable"):
        load_queries(tmp_path)


def test_a_flat_folder_is_one_unnamed_class(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "x.jpg", 1)
    assert load_queries(tmp_path).classes == (None,)


def test_of_a_set_with_splits_train_is_used_and_said(tmp_path: Path, write: Make) -> None:
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        write(tmp_path / split / "a" / "x.jpg", seed)
    found = load_queries(tmp_path)
    assert [query.name for query in found.queries] == ["train/a/x.jpg"]
    assert any("train" in note for note in found.notes)


def test_splits_without_train_are_an_error(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "test" / "a" / "x.jpg", 1)
    with pytest.raises(DataError, match="no train"):
        load_queries(tmp_path)


def test_the_same_bytes_under_two_labels_are_told(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "a" / "x.jpg", 1)
    write(tmp_path / "b" / "y.jpg", 1)
    write(tmp_path / "b" / "z.jpg", 2)
    found = load_queries(tmp_path)
    assert [query.label for query in found.queries] == ["a", "b"]
    assert found.notes == ("a/x.jpg and b/y.jpg are the same bytes with two labels; the query is labelled a",)
    (tmp_path / "b" / "z.jpg").unlink()
    with pytest.raises(DataError, match=r"class b .*another label"):
        load_queries(tmp_path)


def test_the_pixel_limit_is_the_callers(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "x.jpg", 1)
    with pytest.raises(DataError, match="too many pixels"):
        load_queries(tmp_path, max_pixels=100)


def test_a_query_that_changes_while_it_is_used_is_noticed(tmp_path: Path, write: Make) -> None:
    write(tmp_path / "x.jpg", 1)
    (query,) = load_queries(tmp_path).queries
    write(tmp_path / "x.jpg", 2)
    with pytest.raises(DataError, match="changed"):
        query.read()
