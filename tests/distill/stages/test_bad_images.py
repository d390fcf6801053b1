"""Bad and strange images in label folders, through every command: what can be read is used, the rest is
counted, and a class of which nothing can be read is named."""

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.distill.small import TINY

Run = Callable[..., tuple[int, dict[str, object], str]]
CHEAP = ["--threads", 1, "--workers", 1, "--device", "cpu", "--json"]
SHORT = ["--image-size", 32, "--steps", 2, "--batch-size", 8]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def giant_header() -> bytes:
    """A PNG that claims 40,000 × 40,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def strange(rgb: np.ndarray) -> dict[str, bytes]:
    """Files that can be read."""
    image = Image.fromarray(rgb)
    deep = Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
    return {
        "16bit.png": saved(deep, "png"),
        "cmyk.jpg": saved(image.convert("CMYK"), "jpeg"),
        "palette.png": saved(image.quantize(16), "png"),
        "alpha.png": saved(image.convert("RGBA"), "png"),
        "grey.jpg": saved(image.convert("L"), "jpeg"),
        "animated.webp": saved(image, "webp", save_all=True, append_images=[image.rotate(90)]),
        "animated.png": saved(image, "png", save_all=True, append_images=[image.rotate(90)]),
        "a png.jpg": saved(image, "png"),
        "upper.JPEG": saved(image, "jpeg"),
    }


def bad(rgb: np.ndarray) -> dict[str, tuple[bytes, str]]:
    """Files that cannot be read, and why."""
    image = Image.fromarray(rgb)
    return {
        "cut.jpg": (saved(image, "jpeg")[:-200], "truncated"),
        "cut.png": (saved(image, "png")[:-1000], "truncated"),
        "empty.jpg": (b"", "empty"),
        "words.jpg": (b"this is no image at all", "not an image"),
        "gif.jpg": (saved(image, "gif"), "unsupported format gif"),
        "giant.png": (giant_header(), "too many pixels: 1600000000 > 100000000"),
    }


@pytest.fixture
def messy(tmp_path: Path, labelled: Path, noise: Callable[..., np.ndarray]) -> Path:
    """The labelled set with strange and bad images of class red in train and in val."""
    root = tmp_path / "messy"
    shutil.copytree(labelled, root)
    for split, seed in (("train", 900), ("val", 901)):
        for name, data in strange(noise(2, seed)).items():
            (root / split / "red" / name).write_bytes(data)
        for name, (data, _) in bad(noise(2, seed)).items():
            (root / split / "red" / name).write_bytes(data)
        (root / split / "red" / "ignored.gif").write_bytes(b"GIF89a")
        (root / split / "red" / "notes.txt").write_text("no image, and not said to be one")
    return root


@pytest.fixture
def distill_json(distill: Callable[..., tuple[int, str, str]]) -> Run:
    """`distill_json(*arguments)`: exit code, the JSON object, stderr."""

    def run(*arguments: object) -> tuple[int, dict[str, object], str]:
        code, out, err = distill(*arguments)
        return code, json.loads(out or "{}"), err

    return run


def adapting(data: Path, out: Path) -> list[object]:
    return ["adapt", "--data", data, "--teacher", TINY, "--out", out, "--image-size", 32,
            "--runtime", "eager", *CHEAP]  # fmt: skip


def finetuning(data: Path, out: Path) -> list[object]:
    return ["finetune", "--data", data, "--student", TINY, "--out", out, *SHORT, *CHEAP]


def evaluating(model: Path, data: Path, split: str) -> list[object]:
    return ["evaluate", "--model", model, "--data", data, "--split", split, "--runtime", "eager", *CHEAP]


def training(tmp_path: Path, teacher: Path, data: Path) -> list[object]:
    return ["train", "--shards", tmp_path / "noise.tar", "--teacher", teacher, "--student", TINY,
            "--data", data, "--labelled-share", 0.5, "--out", tmp_path / "run", "--runtime", "eager",
            *SHORT, "--steps", 6, *CHEAP]  # fmt: skip


def test_adapt(messy: Path, tmp_path: Path, distill_json: Run) -> None:
    code, report, err = distill_json(*adapting(messy, tmp_path / "out"))
    assert code == 0, err
    assert report["dropped"] == 12
    assert report["images"] == {"train": 18 + 7, "val": 12 + 9}  # three of train have the same pixels
    assert "6 images could not be read; the first:" in err
    reasons = json.loads((tmp_path / "out" / "unreadable.json").read_text())
    expected = {name: reason for name, (_, reason) in bad(np.zeros((9, 9, 3), np.uint8)).items()}
    for split in ("train", "val"):
        for name, reason in expected.items():
            assert reasons[str(messy / split / "red" / name)].startswith(reason)


def test_finetune(messy: Path, tmp_path: Path, distill_json: Run) -> None:
    code, report, err = distill_json(*finetuning(messy, tmp_path / "out"))
    assert code == 0, err
    assert report["dropped"] == 12
    assert f"6 of 31 train images of {messy} could not be read; the first:" in err
    assert f"6 of 27 val images of {messy} could not be read" in err


def test_evaluate(messy: Path, teacher: Path, distill_json: Run) -> None:
    code, found, err = distill_json(*evaluating(teacher, messy, "val"))
    assert code == 0, err
    assert found["n"] == 12 + 9
    unreadable = found["unreadable"]
    assert isinstance(unreadable, dict)
    assert {Path(path).name for path in unreadable} == bad(np.zeros((9, 9, 3), np.uint8)).keys()
    assert "6 of 27 val images could not be read; the first:" in err
    code, _, err = distill_json(*evaluating(teacher, messy, "val"), "--max-error-rate", "0.2")
    assert code == 3 and "22.22%" in err and "allowed 20.00%" in err


def test_train(
    messy: Path,
    tmp_path: Path,
    teacher: Path,
    distill_json: Run,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> None:
    write_tar(tmp_path / "noise.tar", {f"{n}.jpg": encode(noise(n % 3, n)) for n in range(8)})
    code, report, err = distill_json(*training(tmp_path, teacher, messy))
    assert code == 0, err
    assert report["dropped"] == 12, "each once, although it stands in the list more often"
    assert f"6 of 27 val images of {messy} could not be read" in err
    recorded = json.loads((tmp_path / "run" / "unreadable.json").read_text())
    assert len(recorded) == 6 and recorded[str(messy / "train" / "red" / "empty.jpg")] == "empty"


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_of_which_nothing_can_be_read_is_named(
    split: str,
    labelled: Path,
    tmp_path: Path,
    teacher: Path,
    distill_json: Run,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> None:
    """A class that val lacks is no error of adapt, which cross-validates; nor are labels that train does not
    use."""
    data = tmp_path / "data"
    shutil.copytree(labelled, data)
    for image in (data / split / "green").iterdir():
        image.write_bytes(b"")
    write_tar(tmp_path / "noise.tar", {f"{n}.jpg": encode(noise(n % 3, n)) for n in range(8)})
    outcomes = {
        "adapt": distill_json(*adapting(data, tmp_path / "teacher")),
        "finetune": distill_json(*finetuning(data, tmp_path / "tuned")),
        "evaluate": distill_json(*evaluating(teacher, data, split)),
        "train": distill_json(*training(tmp_path, teacher, data)),
    }
    fine = {"train": "train", "val": "adapt"}[split]
    for command, (code, report, err) in outcomes.items():
        if command == fine:
            assert code == 0, err
            assert report["dropped"] == (6 if split == "train" else 4)
        else:
            assert code == 3, f"{command}: {err}"
            assert "no readable" in err and "class green" in err, f"{command}: {err}"
            assert "Traceback" not in err


def test_nothing_at_all_can_be_read(labelled: Path, tmp_path: Path, teacher: Path, distill_json: Run) -> None:
    data = tmp_path / "data"
    shutil.copytree(labelled / "train", data)
    for image in data.rglob("*.png"):
        image.write_bytes(b"x")
    for arguments, told in (
        (adapting(data, tmp_path / "teacher"), "none of the 18 train images could be read"),
        (finetuning(data, tmp_path / "tuned"), "no readable image of class blue, green, red"),
        (evaluating(teacher, data, "all"), "none of the 18 images could be read"),
    ):
        code, _, err = distill_json(*arguments)
        assert code == 3
        assert told in err and "not an image" in err
