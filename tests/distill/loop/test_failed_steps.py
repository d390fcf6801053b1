"""Steps that were not finite, as they are kept."""

from pathlib import Path

import pytest
import torch
from torch import nn

from distill.loop.failed_steps import (
    KEPT,
    FailedSteps,
    failed_step,
    loss_facts,
    loss_from_facts,
    read_failed_step,
)
from distill.loop.gradients import Found
from distill.loop.mode import Mode
from distill.methods.dual_head import DualHead
from distill.methods.feature_matching import ContrastiveMatch, CosineMatch, SmoothL1Match
from distill.methods.feature_term import FeatureTerm
from distill.methods.joint import Joint
from distill.methods.patch_matching import PatchMatch
from distill.methods.pseudo_labels import PseudoLabels
from distill.methods.retention import Retention
from distill.methods.supervised import Supervised
from distill.methods.task_oriented import TaskOriented
from distill.methods.top_k import TopKTaskOriented
from tests.distill.loop.toys import batch_of, student
from transferset.errors import DataError

LOSSES = [
    TaskOriented(2.0),
    TopKTaskOriented(1.5),
    PseudoLabels(),
    CosineMatch(),
    ContrastiveMatch(0.1),
    Supervised(0.1, (1.0, 0.5)),
    Retention(Supervised(0.1), 0.5),
    DualHead(TaskOriented(), 3, 0.5, 0.1),
    DualHead(FeatureTerm(TaskOriented(2.0), 3, 0.5), 8, 0.5, 0.1),
    Joint((TaskOriented(2.0), PseudoLabels()), (3, 2), (3, 2), (1.0, 0.5)),
    SmoothL1Match(),
    PatchMatch(3, 2),
]


def _keep(directory: Path, step: int) -> Path:
    state = student().module.state_dict()
    mode, found = Mode("bf16"), Found(float("nan"), float("inf"))
    given = {"step": step, "seed": step - 1, "parts": 2, "clip": 1.0, "head_only": False, "mode": mode}
    return FailedSteps(directory).keep(failed_step(batch_of(step), state, found, TaskOriented(), **given))


def test_batch_weights_and_circumstances_come_back(tmp_path: Path) -> None:
    failed = read_failed_step(_keep(tmp_path, 7))
    batch = batch_of(7)
    assert (failed.step, failed.seed, failed.parts, failed.mode) == (7, 6, 2, Mode("bf16"))
    assert failed.found == {"loss": "nan", "gradient_norm": "inf"}
    assert failed.tensors["images"].numpy().tolist() == batch.images.tolist()
    assert failed.tensors["indices"].tolist() == batch.indices.tolist()
    for name, tensor in student().module.state_dict().items():
        assert torch.equal(failed.tensors[f"model.{name}"], tensor)


def test_only_the_newest_few_are_kept(tmp_path: Path) -> None:
    for step in range(1, KEPT + 3):
        _keep(tmp_path, step)
    steps = [f"step-{step:08d}" for step in range(3, KEPT + 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{step}.{end}" for step in steps for end in ("json", "safetensors")
    )


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_are_described_and_made_again(loss: object) -> None:
    facts = loss_facts(loss)
    assert facts is not None and loss_from_facts(facts) == loss


def test_only_losses_of_ours_are_made() -> None:
    assert loss_facts(nn.functional.cross_entropy) is None
    for name in ("os:system", "distill.methods.task_oriented:TYPE_CHECKING", "distill.methods.nothing:Loss"):
        with pytest.raises(DataError):
            loss_from_facts({"class": name, "fields": {}})
    with pytest.raises(DataError):
        loss_from_facts(None)


@pytest.mark.parametrize("damage", ["flipped", "gone", "no json", "other json"])
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    path = _keep(tmp_path, 1)
    data = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "gone":
            path.unlink()
        case "no json":
            path.with_suffix(".json").unlink()
        case _:
            path.with_suffix(".json").write_text("[]")
    with pytest.raises(DataError, match="step-00000001"):
        read_failed_step(path)
