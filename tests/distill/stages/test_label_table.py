"""`distill label --table`: a row for every image, and how random images of a pool look to the teacher."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distill.data.compact_logits import targets
from distill.data.label_store import LabelStore, open_store, rows_of
from distill.stages.label import label
from tests.distill.stages.stores import VIEWS, label_options
from transferset.copies import item_id
from transferset.errors import DataError, UsageError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("label") / "store"
    label(label_options(shards, teacher, out))
    return out


def test_the_table_has_one_row_an_image(store: Path, shards: Path, teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "tables" / "t.parquet"
    report = label(label_options(shards, teacher, store, table=path))
    assert report.labelled_now == 0 and report.table == str(path)
    table = pq.read_table(path)
    assert json.loads(table.schema.metadata[b"classes"]) == ["blue", "green", "red"]
    rows = table.to_pylist()
    assert len(rows) == 45 and [row["shard"] for row in rows[14:16]] == ["000000.tar", "000001.tar"]
    lost = rows[15 + 7]
    assert lost["item_id"] and lost["probabilities"] is lost["entropy"] is lost["predicted"] is None
    one = rows[3]
    p = np.array(one["probabilities"])
    mean = _mean_probabilities(open_store(store), 0, 3)
    assert np.allclose(p, mean, atol=1e-3) and p.sum() == pytest.approx(1, abs=1e-5)
    assert one["entropy"] == pytest.approx(float(-(p * np.log(p)).sum()), abs=1e-4)
    assert one["predicted"] == ["blue", "green", "red"][int(p.argmax())]
    assert one["hinted_label"] is None and lost["on_task"] is None
    sizes = open_store(store).shards[0].tensors["log_sum_exp"][3]
    assert np.ptp(sizes) > 0 and one["on_task"] == pytest.approx(sizes.mean(), abs=1e-5)
    assert b"random_on_task" not in table.schema.metadata
    before = path.read_bytes()
    label(label_options(shards, teacher, store, table=path))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_the_table_tells_how_random_images_look(
    store: Path,
    shards: Path,
    teacher: Path,
    tmp_path: Path,
    encode: Callable[..., bytes],
    noise: Callable[..., np.ndarray],
) -> None:
    """Scored as those of the set are: the same images, in tars or in files, get the same scores."""
    path, folder = tmp_path / "t.parquet", tmp_path / "loose"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(encode(noise(1, 999)))
    (folder / "1.jpg").write_bytes(b"no image")
    given = {"table": path, "reject_from": (str(shards), str(folder))}
    label(label_options(shards, teacher, store, **given))
    table = pq.read_table(path)
    random = json.loads(table.schema.metadata[b"random_on_task"])
    assert (random["unreadable"], random["pool"], len(random["scores"])) == (2, ["set", "loose"], 45)
    of_set = np.array([row["on_task"] for row in table.to_pylist() if row["on_task"] is not None])
    apart = np.abs(of_set[:, None] - np.array(random["scores"])[None])
    assert len(of_set) == 44 and apart.min(axis=1).max() < 1e-3 < np.diff(np.sort(of_set)).mean()
    label(label_options(shards, teacher, store, **given, reject_images=7))
    few = json.loads(pq.read_schema(path).metadata[b"random_on_task"])
    assert len(few["scores"]) + few["unreadable"] == 7 and set(few["scores"]) <= set(random["scores"])


def test_random_images_that_cannot_be_read_or_are_not_there(
    store: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "0.jpg").write_bytes(b"no image")
    path = tmp_path / "t.parquet"
    with pytest.raises(DataError, match="none of the 1 images of --reject-from"):
        label(label_options(shards, teacher, store, table=path, reject_from=(str(tmp_path),)))
    with pytest.raises(UsageError, match="nowhere does not exist"):
        label(label_options(shards, teacher, tmp_path / "new", table=path, reject_from=("nowhere",)))
    assert not path.exists() and not (tmp_path / "new").exists()


def _mean_probabilities(opened: LabelStore, shard: int, row: int) -> np.ndarray:
    rows = rows_of(opened.shards[shard], np.full(VIEWS, row), np.arange(VIEWS))
    mean: np.ndarray = np.exp(targets(rows, opened.layout)).mean(axis=0)
    return mean


@pytest.mark.parametrize("fetched", [False, True])
def test_ids_and_hinted_labels_come_from_the_transfer_set(
    fetched: bool,
    teacher: Path,
    tmp_path: Path,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> None:
    import pyarrow as pa

    from transferset.tars import scan

    root = tmp_path / "set"  # where it was fetched, its item ids are those of URLs
    members = {f"{n}.jpg": encode(noise(n, n)) for n in range(3)}
    tar = write_tar(root / "shards" / "000000.tar", members)
    places = scan(tar).members
    ids = [item_id(data).hex() for data in members.values()]
    urls = [item_id(b"https://example.org/%d" % n).hex() for n in range(3)]
    table = {
        **({"item_id": urls, "bytes_id": ids} if fetched else {"item_id": ids}),
        "shard": ["000000.tar"] * 3,
        "offset": [member.offset for member in places],
        "size": [member.size for member in places],
        "hinted_label": ["blue", None, "red"],
    }
    pq.write_table(pa.table(table), root / "samples.parquet")
    label(label_options(root, teacher, tmp_path / "store", table=tmp_path / "t.parquet"))
    found = pq.read_table(tmp_path / "t.parquet")
    assert found.column("hinted_label").to_pylist() == ["blue", None, "red"]
    assert found.column("item_id").to_pylist() == (urls if fetched else ids)
    assert found.column("bytes_id").to_pylist() == ids
    label(label_options(root / "shards", teacher, tmp_path / "store", table=tmp_path / "tars.parquet"))
    of_tars = pq.read_table(tmp_path / "tars.parquet")
    assert of_tars.column("item_id").to_pylist() == ids, "there is no table that names them otherwise"
    assert of_tars.column("hinted_label").to_pylist() == [None] * 3
