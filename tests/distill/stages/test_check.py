import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.cli import app
from distill.stages.check import CheckOptions, check
from transferset.entry_point import run_cli
from transferset.errors import UsageError


@pytest.fixture
def data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noise: Callable[[int, int], np.ndarray],
    encode: Callable[..., bytes],
) -> Path:
    """train and val with six and four images of each of three classes, no two alike."""
    monkeypatch.setenv("TRANSFERSET_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 6), ("val", 4)):
        for channel, label in enumerate(("blue", "green", "red")):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                picture = noise(channel, 1000 * count + 100 * channel + number)
                (folder / f"{number}.png").write_bytes(encode(picture, "png"))
    return tmp_path / "data"


def test_a_clean_set(data: Path) -> None:
    report = check(CheckOptions(data, workers=1))
    assert report.clean and report.classes["red"] == {"train": 6, "val": 4}
    assert report.notes == ("there is no test split",)


def test_mistakes_are_named_and_shown(
    data: Path, tmp_path: Path, noise: Callable[[int, int], np.ndarray], encode: Callable[..., bytes]
) -> None:
    shutil.copy(data / "val/red/0.png", data / "train/blue/x.png")
    (data / "train/red/bad.png").write_bytes(b"<b>")
    (data / "test/violet").mkdir(parents=True)
    (data / "test/violet/0.png").write_bytes(encode(noise(1, 999), "png"))
    for number in range(2, 6):
        (data / f"train/green/{number}.png").unlink()
        (data / f"train/green/{number - 1}.png").unlink(missing_ok=True)
    report = check(CheckOptions(data, tmp_path / "report.html", workers=1))
    told = " | ".join(report.notes)
    assert not report.clean
    for part in (
        "copies of images in another split",
        "under two labels: 1 (red and blue",
        "1 images cannot be read; the first: ",
        "1 classes of test have no training image: violet",
        "test lacks 3 of 3 classes: blue, green, red",
        "classes are imbalanced (1 to 7 training images)",
        "1 classes have a single training image: green",
    ):
        assert part in told
    page = (tmp_path / "report.html").read_text()
    assert "This set has mistakes." in page and "train/blue/x.png" in page and "bad.png" in page
    assert json.dumps(report.to_dict())


def test_what_can_not_be_checked(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no labels"):
        check(CheckOptions(data / "train" / "red"))
    with pytest.raises(UsageError, match=r"does not end in \.html"):
        check(CheckOptions(data, tmp_path / "report.txt"))
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check(CheckOptions(data, tmp_path / "report.html"))


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(data: Path, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data / "val/red/0.png", data / "train/red/x.png")
    with pytest.raises(SystemExit) as ended:
        run_cli(app, ["check", "--data", str(data), *(["--json"] if as_json else [])])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out)["exact"][0]["kind"] == "bytes"
    else:
        assert "mistakes" in out and not out.startswith("{")
