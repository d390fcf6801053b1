"""TensorBoard's event files, as TensorBoard reads them."""

import shutil
from pathlib import Path

from distill.loop.run_directory import RunDirectory


def _scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory), purge_orphaned_data=False)
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def _run(path: Path, start: int, *, part: str | None = None) -> RunDirectory:
    """Another piece of a run, from a step on."""
    run = RunDirectory(path)
    run.rewind(start, part)
    for step in range(start + 1, start + 4):
        run.log({"step": step, "loss": step / 4, "lr": 0.5, **({"part": part} if part else {})})
    return run


def test_the_numbers_of_the_log_are_there(tmp_path: Path) -> None:
    run = _run(tmp_path, 0)
    run.log({"step": 3, "score": 0.75})
    run.log({"step": 3, "event": "skipped", "samples": [1, 2]})
    assert _scalars(tmp_path / "tensorboard") == {
        "loss": [(1, 0.25), (2, 0.5), (3, 0.75)],
        "lr": [(1, 0.5), (2, 0.5), (3, 0.5)],
        "score": [(3, 0.75)],
        "events/skipped": [(3, 1.0)],
    }


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    _run(tmp_path, 0)
    run = _run(tmp_path, 1)
    run.close()
    assert _scalars(tmp_path / "tensorboard")["loss"] == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    times = [entry["time"] for entry in run.metrics()]
    assert times == sorted(times)


def test_deleted_files_come_back(tmp_path: Path) -> None:
    _run(tmp_path, 0).close()
    shutil.rmtree(tmp_path / "tensorboard")
    _run(tmp_path, 3)
    assert [step for step, _ in _scalars(tmp_path / "tensorboard")["loss"]] == [1, 2, 3, 4, 5, 6]


def test_folds_have_folders_of_their_own(tmp_path: Path) -> None:
    _run(tmp_path, 0, part="fold-0")
    _run(tmp_path, 0, part="fold-1")
    _run(tmp_path, 2, part="fold-0")
    _run(tmp_path, 0)
    for folder, steps in (("fold-0", [1, 2, 3, 4, 5]), ("fold-1", [1, 2, 3]), ("", [1, 2, 3])):
        assert [step for step, _ in _scalars(tmp_path / "tensorboard" / folder)["loss"]] == steps
