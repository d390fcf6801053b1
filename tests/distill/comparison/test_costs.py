"""What a cell of a comparison costs: the ledger of a command as rows, their sum, the clock on the wall."""

from pathlib import Path

import pytest

from distill.comparison.costs import (
    Cost,
    add_seconds,
    cost_of_run,
    read_seconds,
    total,
    wall_clock,
)

LEDGER = {
    "student": {"images": 100, "flops": 1e9},
    "teacher": {"images": 50, "flops": 5e9},
    "evaluate": {"images": 20, "flops": 1e8},
    "head": {"images": 30, "flops": 0.0},
    "data": {"images": 100, "flops": 0.0},
    "wait": {"images": 0, "flops": 0.0},
    "checkpoint": {"images": 0, "flops": 0.0},
}


def test_a_command_is_its_seconds_and_what_each_stage_computed() -> None:
    assert cost_of_run("train", LEDGER, 9.0) == [
        Cost("train", 0, 0.0, 9.0),
        Cost("train: evaluate", 20, 1e8, 0.0),
        Cost("train: head", 30, 0.0, 0.0),
        Cost("train: student", 100, 1e9, 0.0),
        Cost("train: teacher", 50, 5e9, 0.0),
    ]


@pytest.mark.parametrize("name", ["data", "wait", "teacher", "student", "checkpoint"])
def test_stages_that_computed_nothing_of_their_own_are_left_out(name: str) -> None:
    assert [one.stage for one in cost_of_run("train", {name: {"images": 9, "flops": 0.0}}, 1.0)] == ["train"]


def test_every_row_says_whether_it_is_shared_or_of_tuning() -> None:
    found = cost_of_run("label", LEDGER, 9.0, shared=True, tuning=True)
    assert len(found) == 5 and all(one.shared and one.tuning for one in found)


def test_the_total_counts_shared_stages_and_no_tuning() -> None:
    costs = [
        Cost("adapt", 0, 0.0, 3.0, shared=True),
        Cost("adapt: features", 12, 4e9, 0.0, shared=True),
        Cost("train", 0, 0.0, 9.0),
        Cost("train: head", 30, 0.0, 0.0),
        Cost("train: student", 100, 1e9, 0.0),
        Cost("finetune: student", 7, 7e9, 4.0, tuning=True),
    ]
    assert total(costs) == Cost("total", 112, 5e9, 12.0), "images without FLOPs are the same images again"
    assert total([]) == Cost("total", 0, 0.0, 0.0)


def test_a_cost_is_json() -> None:
    assert Cost("train", 1, 2.0, 3.0, shared=True).to_dict() == {
        "stage": "train",
        "images": 1,
        "flops": 2.0,
        "seconds": 3.0,
        "shared": True,
        "tuning": False,
    }


def test_seconds_add_up_from_process_to_process(tmp_path: Path) -> None:
    file = tmp_path / "seconds.json"
    assert read_seconds(file) == 0
    add_seconds(file, 1.5)
    add_seconds(file, 2)
    assert read_seconds(file) == 3.5


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": null}', '{"seconds": "long"}'])
def test_a_damaged_clock_starts_again(tmp_path: Path, text: str) -> None:
    file = tmp_path / "seconds.json"
    file.write_text(text)
    assert read_seconds(file) == 0
    add_seconds(file, 2)
    assert read_seconds(file) == 2


def test_the_clock_counts_also_what_fails(tmp_path: Path) -> None:
    file = tmp_path / "seconds.json"
    add_seconds(file, 10)
    with wall_clock(file):
        pass
    once = read_seconds(file)
    assert 10 < once < 15
    with pytest.raises(OSError), wall_clock(file):
        raise OSError
    assert read_seconds(file) > once


def test_the_clock_stands_still_where_the_work_is_done(tmp_path: Path) -> None:
    file, done = tmp_path / "seconds.json", tmp_path / "report.json"
    with wall_clock(file, done):
        done.write_text("{}")  # the last that the work writes
    worked = read_seconds(file)
    assert worked > 0
    with wall_clock(file, done):
        pass
    assert read_seconds(file) == worked
