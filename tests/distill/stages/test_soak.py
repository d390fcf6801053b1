"""`adapt`, `label`, `train` and `finetune` killed (SIGKILL) at random moments, again and again until they are
done: the same bits as without a kill. Long: `make soak`."""

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.stages.label import LabelOptions, label
from tests.distill.stages import killed

TRIALS = int(os.environ.get("TRANSFERSET_SOAK_TRIALS", "5"))
MOST_KILLS = 50
TINY = "timm:test_efficientnet@none"
CHEAP = ["--threads", 1, "--workers", 1, "--device", "cpu"]
SHORT = ["--image-size", 32, "--batch-size", 16, "--lr", 5e-3, "--checkpoint-every", 2]

# Features and outputs are written after every few batches, so that a kill finds some of them on the disk.
EAGER = """
from distill.data import features
from distill.stages import label_writer
features._FLUSH_SECONDS = 0
label_writer.PIECE = 16
from distill.cli import main
main()
"""


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory,
    labelled: Path,
    teacher: Path,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> dict[str, list[object]]:
    """Command lines without --out."""
    members = {f"{number:04d}.jpg": encode(noise(number % 3, number)) for number in range(64)}
    shards = write_tar(tmp_path_factory.mktemp("soak") / "noise.tar", members)
    store = tmp_path_factory.mktemp("soak") / "store"
    label(LabelOptions((shards,), teacher, store, views=3, runtime="eager", data=labelled))
    learning = ["--student", TINY, "--data", labelled, "--steps", 60, "--eval-every", 7, *SHORT, *CHEAP]
    return {
        "adapt": ["adapt", "--data", labelled, "--teacher", TINY, "--image-size", 48, "--runtime", "eager",
                  "--batch-size", 2, *CHEAP],
        "label": ["label", "--shards", shards, "--teacher", teacher, "--views", 40, "--runtime", "eager",
                  "--batch-size", 16, *CHEAP],
        "train": ["train", "--shards", shards, "--teacher", teacher, "--views", 3, "--runtime", "eager",
                  *learning],
        "train stored": ["train", "--shards", shards, "--labels-from", store, *learning],
        "finetune": ["finetune", "--data", labelled / "train", "--student", TINY, "--folds", 3,
                     "--steps", 15, "--eval-every", 4, *SHORT, *CHEAP],
    }  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("adapt", "head.safetensors"),
        ("label", "outputs/000000.safetensors"),
        ("train", "model.safetensors"),
        ("train stored", "model.safetensors"),
        ("finetune", "model.safetensors"),
    ],
)
def test_killed_again_and_again(
    command: str, result: str, commands: dict[str, list[object]], tmp_path: Path
) -> None:
    given, undisturbed = commands[command], tmp_path / "undisturbed"
    process = killed.start(EAGER, [*given, "--out", undisturbed])
    begun = _wait_for_its_lock(process, undisturbed)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    whole, seconds = (undisturbed / result).read_bytes(), time.monotonic() - begun
    rng, kills = random.Random(0), 0
    for trial in range(TRIALS):
        out = tmp_path / f"trial-{trial}"
        kills += _until_done([*given, "--out", out], out, rng, seconds)
        assert (out / result).read_bytes() == whole, f"trial {trial}, {kills} kills"
        assert not list(out.rglob(".tmp-*")) and not (out / ".lock").exists()
    print(f"\n{command}: {TRIALS} trials, {kills} kills, {result} equal each time")


def _until_done(arguments: list[object], out: Path, rng: random.Random, seconds: float) -> int:
    """Start the command, kill it at a random moment of its work, start it again, …; how often it was
    killed."""
    for kills in range(MOST_KILLS):
        process = killed.start(EAGER, arguments)
        _wait_for_its_lock(process, out)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0, seconds) * (1 + kills / 10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        assert process.returncode == 0, errors
        return kills
    raise AssertionError(f"not done after {MOST_KILLS} kills")


def _wait_for_its_lock(process: "subprocess.Popen[str]", out: Path) -> float:
    """Waits until the process has the lock of `out` (a killed one leaves its own there), or has ended; the
    time."""
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((out / ".lock").read_bytes())["pid"] == process.pid:
                break
        time.sleep(0.01)
    return time.monotonic()
