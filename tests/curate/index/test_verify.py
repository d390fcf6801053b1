import shutil

import pytest

from curate.index.build import build_index
from curate.index.options import BuildOptions
from curate.index.verify import verify
from transferset.errors import DataError


@pytest.fixture
def own(small_pool, tmp_path):
    """A copy of the small index, with caches."""
    shutil.copytree(small_pool.index, tmp_path / "index")
    build_index([small_pool.pool], tmp_path / "index", BuildOptions())
    return tmp_path / "index"


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def test_a_whole_index_has_no_damage(own):
    report = verify(own)
    assert report.damaged == ()
    assert [one.path for one in report.checked][3:7] == [
        f"parts/000000/{name}" for name in ("done.json", "embeddings.npy", "errors.parquet", "items.arrow")
    ]


def test_damage_is_named_and_the_remedy_works(own, small_pool):
    flip(own / "parts/000001/embeddings.npy")
    (own / "parts/000001/items.arrow").unlink()
    damaged = verify(own).damaged
    assert [one.path for one in damaged] == ["parts/000001/embeddings.npy", "parts/000001/items.arrow"]
    assert "delete" in damaged[0].repair and "parts/000001" in damaged[0].repair
    shutil.rmtree(own / "parts/000001")
    assert build_index([small_pool.pool], own, BuildOptions()).new_images == 24
    assert verify(own).damaged == ()


@pytest.mark.parametrize("name", ["ids/*/positions.npy", "ids/*/item_ids.npy", "faiss/*/index.faiss"])
def test_caches_are_compared_with_the_parts(own, small_pool, name):
    flip(next(own.glob(name)))
    damaged = verify(own).damaged
    assert [one.path.partition("/")[0] for one in damaged] == [name.partition("/")[0]]
    shutil.rmtree(next(own.glob(name)).parent)
    build_index([small_pool.pool], own, BuildOptions())
    assert verify(own).damaged == ()


@pytest.mark.parametrize("name", ["plan.json", "manifest.json", "parts.parquet", "parts/000000/done.json"])
def test_tables_too(own, name):
    flip(own / name, 5)
    assert name in verify(own).damaged[0].path


def test_a_folder_that_is_no_index(tmp_path):
    with pytest.raises(DataError, match="is not an index"):
        verify(tmp_path)
