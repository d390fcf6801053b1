"""Commands of `distill` on a disk that fills up: exit 6, what was there is intact, and with space the same
command goes on to what an undisturbed run writes."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from distill.loop.trainer import Trainer
from tests.disks import leave, small_disk
from tests.distill.small import TINY
from tests.trees import tree

Run = Callable[..., tuple[int, str, str]]
DISK_FULL = 6
CHEAP = ["--threads", 1, "--workers", 1, "--device", "cpu"]
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=40) as directory:
        yield directory


def assert_full(ended: tuple[int, str, str], folder: Path) -> None:
    code, _, told = ended
    assert code == DISK_FULL, told
    assert "No space left on device" in told and "re-run the same command" in told
    assert "Traceback" not in told
    assert not list(folder.rglob(".tmp-*"))


def test_adapt(disk: Path, tmp_path: Path, labelled: Path, distill: Run) -> None:
    """It fails at its lock, at features of train, of val, and at the teacher's files: each time further
    on."""
    given = ["adapt", "--data", labelled, "--teacher", TINY, "--image-size", 32, "--runtime", "eager", *CHEAP]
    given += ["--folds", 2]
    assert distill(*given, "--out", tmp_path / "whole")[0] == 0
    out = disk / "out"
    out.mkdir()
    before: dict[str, bytes] = {}
    reached: set[str] = set()
    for pages in (0, 5, 14, 6, 3):
        leave(disk, pages * PAGE)
        assert_full(distill(*given, "--out", out), disk)
        after = tree(out)
        assert {name: after.get(name) for name in before} == before
        assert "report.json" not in after
        reached |= after.keys() - before.keys()
        before = after
    assert {"config.json", "labels.json"} <= reached and any("features/" in name for name in reached)
    (disk / "filler").unlink()
    assert distill(*given, "--out", out)[0] == 0
    for name in ("head.safetensors", "labels.json", "preprocessing.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_finetune(
    disk: Path, tmp_path: Path, labelled: Path, distill: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nothing, and within the second fold, where a checkpoint does not fit."""
    given = ["finetune", "--data", labelled / "train", "--student", TINY, "--image-size", 32, "--folds", 2,
             "--steps", 6, "--batch-size", 8, "--checkpoint-every", 2, "--eval-every", 3, *CHEAP]  # fmt: skip
    assert distill(*given, "--out", tmp_path / "whole")[0] == 0
    out = disk / "out"
    leave(disk, 8 * PAGE)
    assert_full(distill(*given, "--out", out), disk)
    (disk / "filler").unlink()
    stop_at_step(9, monkeypatch)
    assert distill(*given, "--out", out)[0] == 75
    monkeypatch.undo()
    before = tree(out)
    assert any(name.startswith("checkpoints/fold-1/step-") for name in before)
    for free in (8 * PAGE, 250_000):
        leave(disk, free)
        assert_full(distill(*given, "--out", out), disk)
        after = tree(out)
        kept = {name for name in before if name.startswith("checkpoints/fold-") or name == "config.json"}
        assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    (disk / "filler").unlink()
    assert distill(*given, "--out", out)[0] == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def stop_at_step(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is told to end when this many steps were made, over all folds."""
    step, made = Trainer.train_step, []

    def counted(self: Trainer, batch: object) -> None:
        made.append(1)
        if len(made) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_step", counted)


def test_train_from_nothing(
    disk: Path,
    tmp_path: Path,
    teacher: Path,
    distill: Run,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> None:
    """The store of the teacher's outputs, a checkpoint or the final student does not fit."""
    shards = write_tar(tmp_path / "s.tar", {f"{n}.jpg": encode(noise(n % 3, n)) for n in range(16)})
    given = ["train", "--shards", shards, "--teacher", teacher, "--student", TINY, "--image-size", 32,
             "--runtime", "eager", "--steps", 4, "--batch-size", 8, *CHEAP]  # fmt: skip
    given += ["--checkpoint-every", 2]
    assert distill(*given, "--out", tmp_path / "whole")[0] == 0
    out = disk / "out"
    for free in (0, 3 * PAGE, 8 * PAGE, 2_000_000):
        leave(disk, free)
        assert_full(distill(*given, "--out", out), disk)
        assert not (out / "report.json").exists()
    (disk / "filler").unlink()
    assert distill(*given, "--out", out)[0] == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_evaluate(disk: Path, tmp_path: Path, teacher: Path, labelled: Path, distill: Run) -> None:
    """The answers that stand there stay until the new ones are whole."""
    shutil.copytree(labelled, tmp_path / "data")
    folder = tmp_path / "data" / "val" / "red"
    for number in range(60):
        shutil.copy(folder / f"{number % 4}.png", folder / f"more{number}.png")
    given = ["evaluate", "--model", teacher, "--split", "val", "--runtime", "eager", *CHEAP]
    answers = disk / "answers.parquet"
    assert distill(*given, "--data", labelled, "--predictions", answers)[0] == 0
    before = answers.read_bytes()
    leave(disk, 0)
    assert_full(distill(*given, "--data", tmp_path / "data", "--predictions", answers), disk)
    assert answers.read_bytes() == before
    (disk / "filler").unlink()
    assert distill(*given, "--data", tmp_path / "data", "--predictions", answers)[0] == 0
    assert answers.read_bytes() != before
