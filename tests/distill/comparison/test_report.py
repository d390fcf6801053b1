"""What the report shows of answers that are made up here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.comparison.answers import Answers, Row, compared, reference
from distill.comparison.cells import Cell
from distill.comparison.comparison import Comparison
from distill.comparison.costs import Cost, total
from distill.comparison.disagreement import disagreements, divergence
from distill.comparison.estimate import Estimate
from distill.comparison.ledger import ledger_lines, stages_of
from distill.comparison.report import write_report
from distill.comparison.runner import DONE, Outcome
from distill.comparison.summary import summary
from distill.comparison.tables import compared_line, print_estimates
from tests.distill.comparison.made_up import CLASSES, HOSTILE, a_recipe, a_row, of_seeds
from transferset.report import text


def test_the_reference_is_task_oriented_on_the_last_set() -> None:
    rows = [
        a_row("labels-only", "", "10", 0.2),
        a_row("task-agnostic", "retrieved", "10", 0.9),
        a_row("task-oriented", "random", "10", 0.4),
        a_row("task-oriented", "retrieved", "10", 0.5),
    ]
    found = reference(rows, a_recipe([10]), "10")
    assert found is rows[3]
    assert reference(rows[:1], a_recipe([10]), "10") is rows[0]
    assert reference(rows, a_recipe([10]), "5") is None


def test_seeds_that_one_row_lacks_are_told(tmp_path: Path) -> None:
    ours, other = a_row("task-oriented", "retrieved", "10", 0.6), a_row("labels-only", "", "10", 0.3)
    found = compared(ours, of_seeds(other, 0, 2))
    assert found is not None and (found.seeds, found.alone) == ((0, 2), (1,))
    both = compared(of_seeds(ours, 0, 2), of_seeds(other, 0, 2))
    assert both is not None and both.difference == found.difference
    one = compared(of_seeds(ours, 1), other)
    assert one is not None and one.difference.runs == (1, 1)
    assert compared_line(one)[-2:] == [
        "above (a single seed: nothing is known about others)",
        "1 (not in both: 0, 2)",
    ]
    apart = [of_seeds(ours, 0), of_seeds(other, 1)]
    assert compared(*apart) is None
    outcomes = [outcome for row in apart for outcome in row.outcomes.values()]
    write_report(Comparison(tmp_path, a_recipe([10]), outcomes, apart, []))
    html = (tmp_path / "report.html").read_text()
    assert "no seed in common: task-oriented + retrieved and labels-only (10 per class)" in html


def test_one_seed_has_no_spread() -> None:
    row = of_seeds(a_row("task-oriented", "retrieved", "10", 0.4), 0)
    assert row.spread.std is None and "±" not in row.spread.percent


def test_balanced_differences_count_every_class_the_same() -> None:
    """One row is right on the rare class alone, the other on the frequent one."""
    labels = np.repeat([0, 1], [270, 30])

    def made(right: int) -> Row:
        row = a_row("task-oriented", "retrieved", "10", 0.5)
        said = np.eye(3)[np.where(labels == right, right, 2)]
        images = row.answers[0].images
        by_seed = {seed: Answers(images, labels, said, CLASSES) for seed in row.answers}
        return Row(row.key, row.outcomes, by_seed, "balanced_accuracy")

    found = compared(made(1), made(0))
    assert found is not None and found.difference.mean == pytest.approx(0)


def test_costs_of_a_cell() -> None:
    row = a_row("task-oriented", "retrieved", "10", 0.5)
    work = row.outcomes[0].work
    assert work is not None
    found = total(work.costs)
    assert (found.images, found.flops, found.seconds) == (170, 6.1e9, 12.0)  # without tuning


def test_divergence() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert divergence(certain, np.array([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx([1, 0])


def test_images_on_which_they_disagree(tmp_path: Path) -> None:
    teacher, student = a_row("teacher", "", "10", 0.9), a_row("task-oriented", "retrieved", "10", 0.3)
    Image.new("RGB", (300, 200), "red").save(tmp_path / "0.png")
    found = disagreements(teacher, student, tmp_path, count=300)
    assert found and all(one.teacher[0] != one.student[0] for one in found)
    assert [one.divergence for one in found] == sorted((one.divergence for one in found), reverse=True)
    assert all(one.thumbnail.startswith("data:") == (one.image == "0.png") for one in found)


def test_the_report_stands_alone_and_escapes(tmp_path: Path) -> None:
    rows = [
        a_row("teacher", "", "10", 0.9),
        a_row("task-oriented", "retrieved", "10", 0.6),
        a_row("labels-only", "", "10", 0.3),
    ]
    outcomes = [one for row in rows for one in row.outcomes.values()]
    failed = Outcome(Cell("labels-only", "99", 0), tmp_path, "failed", reason=HOSTILE)
    comparison = Comparison(tmp_path, a_recipe([10]), [*outcomes, failed], rows, [])
    write_report(comparison)
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert "http" not in html.replace("http-equiv", "")
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG" and image.width > 600
    again = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    write_report(comparison)
    assert again == {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}


def test_the_ledger_says_what_is_shared_and_what_is_in_no_total(tmp_path: Path) -> None:
    row = a_row("task-oriented", "retrieved", "10", 0.6)
    outcomes = list(row.outcomes.values())
    lines = ledger_lines(Comparison(tmp_path, a_recipe([10]), outcomes, [row], []))
    by_stage = {line[2]: line[3:] for line in lines}
    assert by_stage["adapt"] == ["", "", "3.0", "shared"]
    assert by_stage["train"] == ["100", "1.0e+09", "9.0", ""]
    assert by_stage["train: evaluate"] == ["20", "1.0e+08", "", ""] and "train: head" not in by_stage
    assert by_stage["train: teacher"] == ["50", "5.0e+09", "", ""]
    assert by_stage["tuning"] == ["7", "7.0e+09", "4.0", "not in the total"]


def test_a_shared_command_has_its_parts_in_the_row_of_the_teacher_alone() -> None:
    costs = [
        Cost("adapt", 0, 0.0, 3.0, shared=True),
        Cost("adapt: features", 30, 3e9, 0.0, shared=True),
        Cost("adapt: evaluate", 10, 1e9, 0.0, shared=True),
    ]

    def stages(row: Row) -> dict[str, tuple[int, float, float]]:
        outcomes = {}
        for seed, one in row.outcomes.items():
            assert one.work is not None
            outcomes[seed] = replace(one, work=replace(one.work, costs=costs))
        lines = stages_of(Row(row.key, outcomes, row.answers, "top1"))
        return {one.stage: (one.images, one.flops, one.seconds) for one in lines}

    parts = stages(a_row("teacher", "", "10", 0.9))
    assert parts == {"adapt": (30, 3e9, 3.0), "adapt: evaluate": (10, 1e9, 0.0)}
    assert stages(a_row("task-oriented", "retrieved", "10", 0.6)) == {"adapt": (40, 4e9, 3.0)}


def test_the_report_says_what_was_measured(tmp_path: Path) -> None:
    rows = [a_row("teacher", "", "10", 0.9), a_row("task-oriented", "retrieved", "10", 0.6)]
    outcomes = [one for row in rows for one in row.outcomes.values()]
    failed = Outcome(Cell("labels-only", "10", 0), tmp_path, "failed", reason="no")
    comparison = Comparison(tmp_path, a_recipe([10]), [*outcomes, failed], rows, [])
    measured, given, progress = summary(comparison)
    assert measured.startswith("Measured: top-1 on 300 test images of 3 classes (task)")
    assert (
        "Student: timm:test_efficientnet@none. Teacher: embedded. Transfer sets: random, retrieved." in given
    )
    assert "Labels: 10 per class, drawn anew for each of 3 seeds." in given
    assert progress.startswith("6 of 7 cells") and "listed at the end" in progress
    write_report(comparison)
    html = (tmp_path / "report.html").read_text()
    assert all(text(sentence) in html for sentence in (measured, given, progress))
    assert html.count("<figcaption>") >= 4  # every plot says what it shows


def test_the_report_says_which_budgets_are_larger_than_the_data(tmp_path: Path) -> None:
    row, large = a_row("labels-only", "", "10", 0.3), a_row("labels-only", "", "500", 0.3)
    outcomes = {
        seed: replace(one, work=replace(one.work, label_images=36))  # type: ignore[type-var]
        for seed, one in large.outcomes.items()
    }
    rows = [row, Row(large.key, outcomes, large.answers, "top1")]
    _, given, _ = summary(Comparison(tmp_path, a_recipe([10, 500]), [], rows, []))
    assert given.endswith(" Not every class has 500 training images: 500 per class is 36 labels in total.")
    assert given.count("Not every class") == 1


@pytest.mark.parametrize(("seconds", "most"), [(20.0, "1 min"), (1500.0, "50 min"), (5400.0, "3.0 hours")])
def test_what_is_left_is_told_in_minutes_below_an_hour(
    seconds: float, most: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [Cell("labels-only", "10", seed) for seed in range(3)]
    done = Estimate(cells[0], DONE, seconds=1e5)
    print_estimates([done, *(Estimate(cell, "not run yet", seconds=seconds) for cell in cells[1:])])
    assert f"2 of 3 cells are left, at most about {most}:" in capsys.readouterr().err


def test_no_cell_is_done(tmp_path: Path) -> None:
    cell = Cell("labels-only", "10", 0)
    comparison = Comparison(tmp_path, a_recipe([10]), [Outcome(cell, tmp_path, "not run yet")], [], [])
    write_report(comparison)
    assert "not run yet" in (tmp_path / "report.html").read_text()
