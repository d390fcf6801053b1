from pathlib import Path

import pytest
import torch

from distill.loop.checkpoints import Checkpoints, read_tensors, write_tensors
from transferset.errors import DataError


def _save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, {"w": torch.full((3,), float(step))}, {"at": step})


def _newest(checkpoints: Checkpoints) -> int | None:
    found = checkpoints.newest()
    if found is not None:
        assert found[0]["w"].tolist() == [float(found[1]["at"])] * 3
    return None if found is None else int(found[1]["at"])


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert _newest(checkpoints) is None
    _save(checkpoints, 5, 10, 100)
    assert _newest(checkpoints) == 100
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert names == [f"step-{step:08d}.{end}" for step in (10, 100) for end in ("json", "safetensors")]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "no json", "half a json"])
def test_a_damaged_one_is_told_and_passed_over(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 1, 2)
    tensors, state = tmp_path / "step-00000002.safetensors", tmp_path / "step-00000002.json"
    data = tensors.read_bytes()
    match damage:
        case "truncated":
            tensors.write_bytes(data[:-1])
        case "flipped":
            tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "gone":
            tensors.unlink()
        case "no json":
            state.unlink()
        case _:
            state.write_bytes(state.read_bytes()[:20])
    (tmp_path / ".tmp-step-00000003.safetensors-1-0").write_bytes(b"left by a killed writer")
    assert _newest(checkpoints) == 1
    told = capsys.readouterr().err
    assert (f"{tensors} is damaged or incomplete" in told) == (damage != "no json")
    assert not list(tmp_path.glob(".tmp-*"))
    _save(checkpoints, 2)
    assert _newest(checkpoints) == 2


def test_a_run_that_goes_back_keeps_what_it_writes_then(tmp_path: Path) -> None:
    """Checkpoints of steps that are done again must not push out the one that was gone back to."""
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 10, 20)
    checkpoints.forget_after(10)
    _save(checkpoints, 13)
    assert sorted(int(path.stem.removeprefix("step-")) for path in tmp_path.glob("*.json")) == [10, 13]


def test_equal_tensors_are_equal_bytes(tmp_path: Path) -> None:
    weights = torch.randn(4, 3, 2, 2)
    write_tensors(tmp_path / "a", {"x": weights, "y": torch.zeros(2)})
    write_tensors(tmp_path / "b", {"y": torch.zeros(2), "x": weights.to(memory_format=torch.channels_last)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(read_tensors(tmp_path / "a")["x"], weights)
    (tmp_path / "a").write_bytes(b"12345678901")
    with pytest.raises(DataError, match="cannot be read"):
        read_tensors(tmp_path / "a")


def _model(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3,), value)}


def test_the_best_models_that_checkpoints_name_are_kept(tmp_path: Path) -> None:
    """A run that goes back to the older checkpoint finds the model that was the best then."""
    checkpoints = Checkpoints(tmp_path)
    for step, best in ((5, 5), (10, 10), (15, 10), (20, 20)):
        if step == best:
            checkpoints.save_best(step, _model(step))
        checkpoints.save(step, _model(0), {}, best)
    assert sorted(path.name for path in tmp_path.glob("best-*.safetensors")) == [
        "best-00000010.safetensors",
        "best-00000020.safetensors",
    ]
    assert checkpoints.best(10)["w"].tolist() == [10.0] * 3
    with pytest.raises(DataError):
        checkpoints.best(5)
    path = tmp_path / "best-00000020.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="is damaged"):
        checkpoints.best(20)


def test_saving_goes_on_beside_a_damaged_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(1, _model(1))
    checkpoints.save(1, _model(0), {}, 1)
    (tmp_path / "step-00000001.json").write_text("[")
    checkpoints.save(2, _model(0), {"at": 2}, 1)
    assert checkpoints.best(1)["w"].tolist() == [1.0] * 3 and checkpoints.newest() is not None
