"""Copies in a pool: of excluded images, and of other images of the pool."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate import cli
from curate.copies.calibration import calibrate
from curate.index.build import build_index
from curate.index.encoder import IndexEncoder
from curate.index.index import open_index
from curate.index.layout import WHITENING
from curate.index.options import BuildOptions
from curate.index.verify import verify
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from curate.selection.thresholds import stored_calibration
from curate.transfer_set.retrieved_set import RetrieveReport
from transferset.entry_point import run_cli

Make = Callable[..., Any]
COPIES = ("mirrored", "part", "grey", "small")


@dataclass(frozen=True)
class Planted:
    """A pool of 60 pictures in which `COPIES` of one excluded image lie, and one picture three times."""

    index: Path
    queries: Path
    excluded: Path


def _copies(picture: Image.Image) -> dict[str, Image.Image]:
    width, height = picture.size
    return {
        "mirrored": picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "part": picture.crop((width // 8, height // 8, width, height)),
        "grey": picture.convert("L"),
        "small": picture.resize((width // 2, height // 2), Image.Resampling.BICUBIC),
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, tinted: Make, encode: Make) -> Planted:
    root = tmp_path_factory.mktemp("planted")
    pool, queries, excluded = root / "pool", root / "queries", root / "test"
    for folder in (pool, queries / "red", excluded):
        folder.mkdir(parents=True)
    for seed in range(54):
        (pool / f"{seed:02}.jpg").write_bytes(encode(tinted(seed % 3, seed, 96), quality=92))
    test = Image.fromarray(tinted(0, 100, 96))
    (excluded / "one.png").write_bytes(encode(test, "png"))
    for name, copy in _copies(test).items():
        (pool / f"copy-{name}.jpg").write_bytes(encode(copy, quality=85))
    for quality in (70, 55):
        (pool / f"again-{quality}.jpg").write_bytes(encode(tinted(0, 0, 96), quality=quality))
    for seed in (200, 201):
        (queries / "red" / f"{seed}.png").write_bytes(encode(tinted(0, seed, 96), "png"))
    build_index([pool], root / "index", BuildOptions(encoder="embedded", image_size=96, faiss=False))
    index = open_index(root / "index")
    calibrate(index, IndexEncoder(index).model, sample=20)
    return Planted(root / "index", queries, excluded)


def _retrieve(planted: Planted, out: Path, near: bool = True, total: int = 60) -> RetrieveReport:
    options = RetrieveOptions(SelectOptions(total=total), (planted.excluded,), workers=2, near=near)
    return retrieve(planted.index, planted.queries, out, options)


def _keys(out: Path, table: str) -> list[str]:
    import pyarrow.parquet as pq

    return sorted(row["key"] for row in pq.read_table(out / table).to_pylist())


def _written(out: Path) -> list[str]:
    import tarfile

    keys = []
    for shard in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            texts = [tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".json")]  # type: ignore[union-attr]
        keys += [json.loads(one)["key"] for one in texts]
    return keys


def test_copies_of_excluded_images_are_kept_out_and_shown(planted: Planted, tmp_path: Path) -> None:
    report = _retrieve(planted, tmp_path / "out")
    written = _written(tmp_path / "out")
    assert not [key for key in written if key.startswith("copy-")]
    assert report.outcome["removed"]["near copy"] == len(COPIES)
    assert "near copy of an excluded image" in (tmp_path / "out" / "report.html").read_text()


def test_of_near_duplicates_one_stays_and_quotas_fill(planted: Planted, tmp_path: Path) -> None:
    report = _retrieve(planted, tmp_path / "out", total=40)
    written = _written(tmp_path / "out")
    assert len([key for key in written if key in ("00", "again-70", "again-55")]) == 1
    assert report.outcome["retrieved"] == 40 and report.outcome["removed"]["near duplicate"] == 2


def test_no_innocent_image_is_removed(planted: Planted, tmp_path: Path) -> None:
    report = _retrieve(planted, tmp_path / "out")
    assert report.outcome["retrieved"] == 54
    assert len(_keys(tmp_path / "out", "removed.parquet")) == len(COPIES) + 2


def test_without_the_near_checks_copies_pass_and_that_is_said(planted: Planted, tmp_path: Path) -> None:
    report = _retrieve(planted, tmp_path / "out", near=False)
    assert len([key for key in _written(tmp_path / "out") if key.startswith("copy-")]) == len(COPIES)
    assert "not for near copies" in report.manifest["guard"]["statement"]


def test_a_finished_set_is_checked_afterwards(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _retrieve(planted, tmp_path / "out", near=False)
    given = ["guard", "--index", planted.index, "--transfer-set", tmp_path / "out", "--json"]
    with pytest.raises(SystemExit) as caught:
        run_cli(cli.app, [*map(str, given), "--against", str(planted.excluded)])
    assert caught.value.code == 3
    assert json.loads(capsys.readouterr().out)["found"]["near copy"] == len(COPIES)


def test_calibrating_again_changes_nothing(planted: Planted) -> None:
    index = open_index(planted.index)
    model = IndexEncoder(index).model
    first = calibrate(index, model, sample=20)
    stored = stored_calibration(planted.index, open_index(planted.index).manifest)
    assert stored is not None and stored.thresholds == first.calibration.thresholds
    again = calibrate(open_index(planted.index), model, sample=20)
    assert first.stored and again.calibration.digest == first.calibration.digest
    assert again.entry == first.entry
    assert first.entry["copies_found"] >= 0.98 and first.entry["slight_copies_found"] >= 0.98


def test_a_whitening_of_another_calibration_counts_as_none(planted: Planted, tmp_path: Path) -> None:
    manifest = open_index(planted.index).manifest
    data = (planted.index / WHITENING).read_bytes()
    (tmp_path / WHITENING).write_bytes(data)
    assert stored_calibration(tmp_path, manifest) is not None
    (tmp_path / WHITENING).write_bytes(data[:-4] + b"else")
    assert stored_calibration(tmp_path, manifest) is None


def test_verify_looks_at_the_whitening(planted: Planted, tmp_path: Path) -> None:
    shutil.copytree(planted.index, tmp_path / "index")
    assert verify(tmp_path / "index").damaged == ()
    (tmp_path / "index" / WHITENING).write_bytes(b"")
    (damage,) = verify(tmp_path / "index").damaged
    assert damage.path == WHITENING and "curate calibrate" in str(damage.repair)


def test_an_index_without_thresholds_is_calibrated_when_it_is_needed(
    tmp_path: Path, planted: Planted, encode: Make, tinted: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    index = _small_index(tmp_path, encode, tinted)
    options = RetrieveOptions(SelectOptions(total=5), workers=2)
    retrieve(index, planted.queries, tmp_path / "out", options)
    assert "calibrating" in capsys.readouterr().err
    retrieve(index, planted.queries, tmp_path / "again", options)
    assert "calibrating" not in capsys.readouterr().err


def test_thresholds_stay_when_the_pool_grows(tmp_path: Path, encode: Make, tinted: Make) -> None:
    index = _small_index(tmp_path, encode, tinted)
    opened = open_index(index)
    calibrate(opened, IndexEncoder(opened).model, sample=12)
    (tmp_path / "pool" / "new.jpg").write_bytes(encode(tinted(2, 50, 96)))
    build_index([tmp_path / "pool"], index, BuildOptions(faiss=False))
    grown = open_index(index)
    assert grown.rows == 13 and stored_calibration(index, grown.manifest) is not None


def _small_index(folder: Path, encode: Make, tinted: Make) -> Path:
    (folder / "pool").mkdir()
    for seed in range(12):
        (folder / "pool" / f"{seed}.jpg").write_bytes(encode(tinted(1, seed, 96)))
    options = BuildOptions(encoder="embedded", image_size=96, faiss=False)
    build_index([folder / "pool"], folder / "index", options)
    return folder / "index"


def test_an_unreadable_excluded_image_is_compared_by_its_bytes(planted: Planted, tmp_path: Path) -> None:
    excluded = tmp_path / "test"
    excluded.mkdir()
    (excluded / "broken.jpg").write_bytes(np.random.default_rng(0).bytes(500))
    options = RetrieveOptions(SelectOptions(total=10), (excluded,), workers=2)
    report = retrieve(planted.index, planted.queries, tmp_path / "out", options)
    assert report.manifest["guard"]["unreadable"] == 1 and report.outcome["retrieved"] == 10
