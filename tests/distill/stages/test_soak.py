"""`adapt`, `label`, `train` and `finetune` killed (SIGKILL) at random moments, again and again until they are
done: the same bits as without a kill. Long: `make soak`."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.stages.label import LabelOptions, label
from tests.distill.small import TINY
from tests.distill.stages import killed
from tests.random_kills import until_done, work_seconds

KILLS = 20
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
    seconds = work_seconds(killed.start(EAGER, [*given, "--out", undisturbed]), undisturbed)
    whole = (undisturbed / result).read_bytes()
    rng, kills, trials = random.Random(0), 0, 0
    while kills < KILLS:
        out = tmp_path / f"trial-{trials}"
        kills += until_done(lambda: killed.start(EAGER, [*given, "--out", out]), out, rng, seconds)  # noqa: B023
        assert (out / result).read_bytes() == whole, f"trial {trials}, {kills} kills"
        assert not list(out.rglob(".tmp-*")) and not (out / ".lock").exists()
        trials += 1
    print(f"\n{command}: {trials} trials, {kills} kills, {result} equal each time")
