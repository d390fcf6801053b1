import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curate import cli
from curate.copies.finished_set import guard
from curate.encoding.pipeline import PipelineOptions
from curate.index.index import open_index
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from transferset import copies
from transferset.entry_point import run_cli
from transferset.errors import UsageError
from transferset.images import decode

Make = Callable[..., Any]


@pytest.fixture
def transfer_set(small_pool: Any, query_dir: Path, tmp_path: Path) -> Path:
    options = RetrieveOptions(SelectOptions(total=12), workers=2)
    retrieve(small_pool.index, query_dir, tmp_path / "out", options)
    return tmp_path / "out"


def _plant(transfer_set: Path, small_pool: Any, encode: Make, folder: Path) -> None:
    import pyarrow.parquet as pq

    from transferset.copies import item_id

    by_id = {item_id(data).hex(): data for data in small_pool.images.values()}
    first, second = pq.read_table(transfer_set / "samples.parquet").column("item_id").to_pylist()[:2]
    folder.mkdir()
    (folder / "bytes.jpg").write_bytes(by_id[first])
    (folder / "pixels.png").write_bytes(encode(decode(by_id[second]), "png", compress_level=1))


def test_copies_in_a_finished_set_are_named_and_exit_with_3(
    transfer_set: Path, small_pool: Any, encode: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _plant(transfer_set, small_pool, encode, tmp_path / "test")
    given = ["guard", "--index", str(small_pool.index), "--transfer-set", str(transfer_set)]
    with pytest.raises(SystemExit) as caught:
        run_cli(cli.app, [*given, "--against", str(tmp_path / "test"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert caught.value.code == 3
    assert found["found"] == {"exact bytes": 1, "same pixels": 1, "near copy": 0}
    assert {leak["match"] for leak in found["leaks"]} == {"test/bytes.jpg", "test/pixels.png"}


def test_images_above_the_usual_limit_of_pixels_are_compared_too(
    transfer_set: Path, small_pool: Any, encode: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(transfer_set, small_pool, encode, tmp_path / "test")
    monkeypatch.setattr(copies, "decode", partial(decode, max_pixels=1_000))  # the usual limit, made small
    pipeline = PipelineOptions(max_pixels=10_000)
    found = guard(
        [tmp_path / "test"], transfer_set, open_index(small_pool.index), near=False, pipeline=pipeline
    )
    assert sorted(leak.why for leak in found.leaks) == ["exact bytes", "same pixels"]


def test_a_clean_set_exits_with_0(
    transfer_set: Path, small_pool: Any, query_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["guard", "--index", str(small_pool.index), "--transfer-set", str(transfer_set)]
    with pytest.raises(SystemExit) as caught:
        run_cli(cli.app, [*given, "--against", str(query_dir)])
    assert not caught.value.code
    assert "0 copies among 12 samples" in capsys.readouterr().out


def test_thresholds_must_be_known(transfer_set: Path, small_pool: Any, query_dir: Path) -> None:
    index = open_index(small_pool.index)
    index.manifest.pop("thresholds", None)
    with pytest.raises(UsageError, match="never calibrated"):
        guard([query_dir], transfer_set, index)
