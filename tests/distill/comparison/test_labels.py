"""Labels are drawn by seed; smaller draws are part of larger ones."""

import hashlib
from pathlib import Path

import pytest

from distill.comparison.labels import count_drawn, draw_labels, load_task, tell_short
from transferset.errors import DataError
from transferset.labelled import load_labelled


def names(table: Path) -> set[str]:
    return {str(image.path) for image in load_labelled(table).split("train").images}


def test_draws(task: Path, tmp_path: Path) -> None:
    whole = load_task(task)
    draws = {
        (labels, seed): draw_labels(whole, labels, seed, tmp_path / f"{labels}-{seed}.parquet")
        for labels in ("2", "4", "all")
        for seed in (0, 1)
    }
    assert [draws[labels, 0].images for labels in ("2", "4", "all")] == [6, 12, 18]
    assert names(draws["2", 0].table) < names(draws["4", 0].table) < names(draws["all", 0].table)
    assert names(draws["2", 0].table) != names(draws["2", 1].table)
    assert draws["all", 0].sha256 == draws["all", 1].sha256 != draws["2", 0].sha256
    read = load_labelled(draws["2", 0].table)
    assert {split: len(read.split(split).images) for split in ("train", "val", "test")} == {
        "train": 6,
        "val": 12,
        "test": 15,
    }


def test_a_budget_that_is_larger_than_a_class(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The class gives all it has, which is told; 6 of each are there."""
    whole = load_task(task)
    assert [count_drawn(whole, labels) for labels in ("4", "500", "all")] == [12, 18, 18]
    assert draw_labels(whole, "500", 0, tmp_path / "drawn.parquet").images == 18
    tell_short(whole, ["4", "6", "500", "all"])
    told = capsys.readouterr().err.splitlines()
    expected = (
        "note: 500 per class: 3 of 3 classes have fewer training images and give all they have, 18 labels in "
        "total"
    )
    assert told == [expected]


def test_a_draw_is_a_pure_function(task: Path, tmp_path: Path) -> None:
    whole = load_task(task)
    tables = [draw_labels(whole, "3", 5, tmp_path / name / "drawn.parquet").table for name in "ab"]
    first, second = (hashlib.sha256(table.read_bytes()).hexdigest() for table in tables)
    assert first == second


def test_a_table_is_drawn_from_like_a_folder(task: Path, tmp_path: Path) -> None:
    given = tmp_path / "task.csv"
    rows = [f"{image.path},{image.label},{image.split}" for image in load_labelled(task).images]
    given.write_text("\n".join(["image,label,split", *rows]))
    from_table = draw_labels(load_task(given), "2", 0, tmp_path / "from-table.parquet")
    from_folder = draw_labels(load_task(task), "2", 0, tmp_path / "from-folder.parquet")
    assert names(from_table.table) == names(from_folder.table)


def test_a_task_needs_all_splits(task: Path) -> None:
    with pytest.raises(DataError, match="no train and no val and no test split"):
        load_task(task / "train")
