"""The hash of weights, and how their absence is told."""

import errno
import socket

import pytest
import torch
from torch import nn

from transferset.errors import DataError, UsageError
from transferset.models import weights
from transferset.models.spec import parse_spec


def _small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_the_hash_is_of_the_tensors_and_not_of_their_layout() -> None:
    module, same = _small(), _small().to(memory_format=torch.channels_last)
    assert weights.weights_sha256(module) == weights.weights_sha256(same)


def test_the_hash_sees_values_names_types_and_buffers() -> None:
    base = weights.weights_sha256(_small())
    value, buffer = _small(), _small()
    with torch.no_grad():
        value[2].bias[0] += 1e-6  # type: ignore[index]
        buffer[1].running_mean[0] = 1  # type: ignore[index]
    renamed = nn.ModuleDict(dict(zip("abc", _small(), strict=True)))  # type: ignore[arg-type]
    hashes = [
        weights.weights_sha256(m) for m in (value, buffer, renamed, _small().half(), _small().bfloat16())
    ]
    assert len({base, *hashes}) == 6


def test_missing_weights_name_the_spec_and_the_encoder_that_needs_no_network() -> None:
    error = weights.unavailable(parse_spec("timm:resnet18"), OSError("no route\nmore"))
    assert isinstance(error, DataError)
    assert "timm:resnet18: no route" in error.message
    assert "more" not in error.message
    assert "--encoder embedded" in (error.hint or "")


def test_unknown_names_come_with_the_nearest() -> None:
    error = weights.unknown_model(parse_spec("timm:resnet19@none"), ["resnet18", "resnet26", "vit_tiny"])
    assert isinstance(error, UsageError)
    assert "resnet18" in (error.hint or "")
    assert "vit_tiny" not in (error.hint or "")


def test_a_full_disk_is_not_mistaken_for_missing_weights() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as full:
            raise RuntimeError(f"download failed: {full}")  # noqa: B904
    except RuntimeError as wrapped:
        with pytest.raises(OSError, match="No space left"):
            weights.reraise_if_disk_is_full(wrapped)
    weights.reraise_if_disk_is_full(RuntimeError("something else"))


def test_a_hub_that_cannot_be_reached_answers_from_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(weights.urllib.request, "getproxies", dict)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        with weights.hub_or_its_cache():
            assert constants.HF_HUB_OFFLINE
        assert not constants.HF_HUB_OFFLINE
        server.listen()
        with weights.hub_or_its_cache():
            assert not constants.HF_HUB_OFFLINE
