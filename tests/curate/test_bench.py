"""bench and build-index --dry-run on real small pools."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.bench import BenchOptions, bench
from curate.index.build import build_index
from curate.index.building import estimate
from curate.index.building.estimate import estimate_build
from curate.index.index import open_index
from curate.index.options import BuildOptions
from transferset.errors import DataError, UsageError
from transferset.rates import joint

Make = Callable[..., Any]
ENCODER = "timm:test_efficientnet@none"
OPTIONS = BuildOptions(
    encoder=ENCODER, image_size=32, runtime="eager", batch_size=4, workers=2, threads=1, faiss=True
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short probes, and nothing is compiled."""
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.3)
    monkeypatch.setenv("CXX", "no-such-compiler")


@pytest.fixture
def pool(tmp_path: Path, picture: Make, encode: Make) -> Path:
    (tmp_path / "pool").mkdir()
    for number in range(40):
        (tmp_path / f"pool/{number}.jpg").write_bytes(encode(picture(64, 48, seed=number)))
    (tmp_path / "pool/bad.jpg").write_bytes(b"<html>")
    return tmp_path / "pool"


def test_bench_times_every_stage_and_names_the_slowest(pool: Path) -> None:
    report = bench([pool], BenchOptions(ENCODER, 32, batch_size=4, threads=1, seconds=0.1, device="cpu"))
    assert (report.images, report.unreadable) == (41, 1)
    names = [rate.stage.split()[0] for rate in report.stages]
    assert names == ["read", "decode", "encode", "write"]
    assert {"eager"} <= set(report.encoders) <= {"eager", "openvino"}
    assert "C++ compiler" in report.left_out["compile"]
    assert report.stages[2] == report.encoders[report.chosen]
    assert report.predicted == pytest.approx(joint(report.stages))
    slowest = min(report.stages, key=lambda rate: rate.per_second)
    assert report.bottleneck == slowest.stage
    assert 0.25 <= report.share <= 1
    json.dumps(report.to_dict(), allow_nan=False)


def test_bench_of_nothing_readable_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match="decoded"):
        bench([tmp_path / "pool"], BenchOptions(ENCODER, 32, seconds=0.1))
    with pytest.raises(UsageError, match="--seconds"):
        bench([tmp_path / "pool"], BenchOptions(ENCODER, 32, seconds=0))


def test_a_dry_run_tells_what_a_build_then_takes_and_writes_nothing(pool: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    told = estimate_build([pool], tmp_path / "index", OPTIONS)
    assert sorted(tmp_path.rglob("*")) == before
    assert (told.new_images, told.counted, told.rows) == (41, True, 41)
    assert told.unreadable == pytest.approx(1 / 41, rel=0.3)
    assert told.rate > 0 and told.seconds == pytest.approx(41 / told.rate)
    assert told.faiss is not None and "flat is quick" in told.faiss["reason"]
    assert told.memory_bytes > 1e7
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert report.faiss is not None and report.faiss["factory"] == told.faiss["factory"]
    assert told.disk_bytes == pytest.approx(report.bytes, rel=0.3)
    json.dumps(told.to_dict(), allow_nan=False)


def test_a_dry_run_on_an_index_counts_only_what_is_new(
    pool: Path, tmp_path: Path, picture: Make, encode: Make
) -> None:
    build_index([pool], tmp_path / "index", OPTIONS)
    (pool / "new.jpg").write_bytes(encode(picture(seed=99)))
    told = estimate_build([pool], tmp_path / "index")
    assert (told.new_images, told.rows, told.runtime) == (1, 41, "eager f32")
    assert open_index(tmp_path / "index").rows == 40
    with pytest.raises(UsageError, match="--batch-size 5"):
        estimate_build([pool], tmp_path / "index", replace(OPTIONS, batch_size=5))


def test_a_dry_run_of_an_empty_pool_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    with pytest.raises(DataError, match="no image, tar or table"):
        estimate_build([tmp_path / "pool"], tmp_path / "index", OPTIONS)


def test_the_commands(pool: Path, tmp_path: Path, run_python: Make) -> None:
    shared = ["--pool", str(pool), "--encoder", ENCODER, "--image-size", "32", "--batch-size", "4", "--json"]
    done = run_python(["-m", "curate.cli", "bench", *shared, "--seconds", "0.05"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["encoder"] == ENCODER
    index = ["--index", str(tmp_path / "index"), "--dry-run"]
    done = run_python(["-m", "curate.cli", "build-index", *shared, *index, "--runtime", "eager"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 41
    assert not (tmp_path / "index").exists()
