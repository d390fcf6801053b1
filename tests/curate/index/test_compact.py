import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.index.build import build_index
from curate.index.compact import CompactOptions, compact
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from curate.index.info import info
from curate.index.options import BuildOptions
from curate.pools import partition
from transferset.copies import item_id

OPTIONS = BuildOptions(
    encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=4, workers=2, threads=1
)


@pytest.fixture
def pool(tmp_path, picture, encode, write_tar, monkeypatch) -> Path:
    """A tar of six and twenty loose images, one of them damaged: three parts."""
    monkeypatch.setattr(partition, "FOLDER_FILES", 10)
    folder = tmp_path / "pool"
    members = {f"{number}.jpg": encode(picture(seed=100 + number)) for number in range(6)}
    write_tar(folder / "t.tar", members)
    for number in range(20):
        (folder / f"{number:02d}.jpg").write_bytes(encode(picture(seed=number)) if number != 15 else b"x")
    return folder


def rows_of(path: Path) -> dict[bytes, tuple[str, np.ndarray]]:
    index = open_index(path)
    found = {}
    for part in index.parts:
        for item in index.items(part.number << 32 | np.arange(part.rows)):
            found[item.item_id] = (item.key, index.embeddings(part.number)[item.row])
    return found


def test_forgotten_rows_leave_and_all_else_stays(pool, tmp_path):
    path = tmp_path / "index"
    build_index([pool], path, OPTIONS)
    before = rows_of(path)
    gone = [
        item_id((pool / "03.jpg").read_bytes()),
        next(key for key, row in before.items() if row[0] == "2"),
    ]
    forget(path, ForgetOptions(item_ids=[one.hex() for one in gone]))
    tried = compact(path, CompactOptions(dry_run=True))
    assert (tried.forgotten, tried.gone, tried.parts, tried.images) == (2, 0, 2, 23)
    assert rows_of(path).keys() == before.keys()

    report = compact(path)
    assert (report.forgotten, report.gone, report.parts, report.images) == (2, 0, 2, 23)
    after = rows_of(path)
    assert after.keys() == before.keys() - set(gone)
    assert all((after[key][1] == before[key][1]).all() for key in after)
    assert sorted(folder.name for folder in (path / "parts").iterdir()) == ["000002", "000003", "000004"]
    kept = [file.read_bytes() for file in path.rglob("items.arrow")]
    assert len(kept) == 3 and not any(one in rows for one in gone for rows in kept)
    assert info(path)["caches"] == {"ids": True, "faiss": True}
    assert len(open_index(path).search(before[gone[0]][1][None].astype(np.float32), 23, "faiss")[0][0]) == 23

    assert compact(path).parts == 0
    assert build_index([pool], path, OPTIONS).new_parts == 0, "what was forgotten is still known"
    (pool / "new.jpg").write_bytes((pool / "03.jpg").read_bytes())
    again = build_index([pool], path, OPTIONS)
    assert (again.new_images, again.forgotten, again.new_parts) == (0, 1, 1)
    assert (path / "parts/000005").is_dir(), "numbers are never used again"


def test_what_left_the_pool_leaves_the_index(pool, tmp_path, picture, encode):
    path = tmp_path / "index"
    build_index([pool], path, OPTIONS)
    (pool / "t.tar").unlink()
    (pool / "00.jpg").unlink()
    (pool / "15.jpg").unlink()
    (pool / "19.jpg").write_bytes(encode(picture(seed=77)))
    (pool / "18.jpg").touch()
    assert compact(path, CompactOptions(keep_gone=True)).parts == 0
    report = compact(path)
    assert (report.forgotten, report.gone, report.parts, report.images) == (0, 8, 3, 17)
    assert info(path)["errors"] == {}
    again = build_index([pool], path, OPTIONS)
    assert (again.new_images, again.images, again.gone) == (1, 18, [])


def test_a_pool_that_is_out_of_reach_is_not_gone(pool, tmp_path):
    path = tmp_path / "index"
    build_index([pool], path, OPTIONS)
    pool.rename(tmp_path / "elsewhere")
    report = compact(path)
    assert (report.gone, report.parts, report.out_of_reach) == (0, 0, (str(pool),))
    assert compact(path, CompactOptions({str(pool): str(tmp_path / "elsewhere")})).out_of_reach == ()


def test_everything_may_go(pool, tmp_path):
    path = tmp_path / "index"
    build_index([pool], path, OPTIONS)
    forget(path, ForgetOptions(item_ids=[one.hex() for one in rows_of(path)]))
    assert compact(path).images == 0
    index = open_index(path)
    assert (index.rows, index.distinct) == (0, 0)
    assert (index.search(np.ones((1, index.dimension), np.float32), 3)[0] == -1).all()
    shutil.rmtree(path / "ids")
    assert build_index([pool], path, OPTIONS).new_parts == 0


def test_an_open_index_that_holds_its_parts_stays_whole(pool, tmp_path):
    path = tmp_path / "index"
    build_index([pool], path, OPTIONS)
    held = open_index(path)
    held.hold()
    forget(path, ForgetOptions(images=[pool / "00.jpg"]))
    compact(path)
    positions, _ = held.search(np.ones((1, held.dimension), np.float32) / held.dimension**0.5, 30)
    assert len(held.items(positions[positions >= 0])) == 24
    assert held.reopened().rows == 24


def test_error_tables_follow(pool, tmp_path):
    path = tmp_path / "index"
    build_index([pool], path, OPTIONS)
    forget(path, ForgetOptions(images=[pool / "12.jpg"]))
    compact(path)
    rows = pq.read_table(path / "parts/000003/errors.parquet").to_pylist()
    assert [(row["kind"], row["path"], row["key"]) for row in rows] == [
        ("image", "15.jpg", "15"),
        ("forgotten", "12.jpg", None),
    ]
