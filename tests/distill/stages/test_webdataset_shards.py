"""Training from shards that `webdataset` itself wrote, given in every way that `--shards` takes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from distill import cli
from transferset.entry_point import run_cli

STUDENT = "timm:test_efficientnet@none"


@pytest.fixture
def folder(tmp_path: Path, noise: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> Path:
    """Three shards of up to eight samples: JPEG and PNG, with labels, metadata and other members; some keys
    stand in folders, some have a dot. The last sample has no image at all."""
    (tmp_path / "shards").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "shards" / "set-%06d.tar"), maxcount=8, verbose=0) as sink:
        for number in range(18):
            rgb = noise(number % 3, 700 + number)
            image = {"jpg": encode(rgb)} if number % 2 else {"png": rgb}
            key = f"part/{number:04d}" if number < 9 else f"{number:04d}"
            sink.write({"__key__": key, **image, "cls": number % 3, "json": {"number": number}})
        dotted = {"0.jpg": encode(noise(0, 800)), "1.jpg": encode(noise(1, 801)), "0.json": {"view": 0}}
        sink.write({"__key__": "pair", **dotted})
        sink.write({"__key__": "photo.v2", "jpg": encode(noise(2, 802)), "left.seg.png": noise(2, 803)})
        sink.write({"__key__": "words", "txt": "no image", "json": {}})
    return tmp_path / "shards"


def test_a_folder_a_glob_and_one_tar(
    folder: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(shards: object, name: str) -> tuple[dict[str, object], str]:
        given = ["train", "--shards", shards, "--teacher", teacher, "--student", STUDENT]
        given += ["--out", tmp_path / name, "--image-size", 32, "--steps", 4, "--batch-size", 8]
        given += ["--runtime", "eager", "--threads", 1, "--device", "cpu", "--json"]
        with pytest.raises(SystemExit) as caught:
            run_cli(cli.app, [str(argument) for argument in given])
        printed = capsys.readouterr()
        assert not caught.value.code, printed.err
        assert (tmp_path / name / "model.safetensors").is_file()
        return json.loads(printed.out), printed.err

    def samples(name: str) -> int:
        found: int = json.loads((tmp_path / name / "config.json").read_text())["inputs"]["samples"]
        return found

    whole, told = train(folder, "folder")
    assert samples("folder") == 20
    assert whole["dropped"] == 3
    assert "left out 3 samples" in told and "set-000002.tar:pair: only 0.jpg is used, not 1.jpg" in told
    train(folder / "set-*.tar", "glob")
    assert samples("glob") == 20
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("folder", "glob")]
    assert models[0] == models[1], "the same shards, whatever they were called by"
    one, told = train(folder / "set-000000.tar", "tar")
    assert samples("tar") == 8
    assert one["dropped"] == 0 and "left out" not in told
