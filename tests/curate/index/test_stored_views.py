import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curate.index import stored_views as module
from curate.index.compact import CompactOptions, compact
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from curate.index.info import info
from curate.index.layout import VIEWS_CACHE
from curate.index.stored_views import StoredViews, stored_files
from curate.index.verify import verify

VIEWS, DIMENSION = 3, 5
STATE = "0123456789abcdef"


def identity(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def views(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((VIEWS, DIMENSION)).astype(np.float16)


def opened(index: Path, forgotten: Iterable[bytes] = (), state: str = STATE) -> StoredViews:
    return StoredViews(index, state, (VIEWS, DIMENSION), lambda: frozenset(forgotten))


def store(index: Path, numbers: Iterable[int]) -> None:
    with opened(index) as stored:
        for number in numbers:
            stored.add(identity(number), views(number))


def found(index: Path, numbers: Iterable[int], **options) -> dict[int, np.ndarray]:
    by_id = {identity(number): number for number in numbers}
    return {by_id[one]: rows.copy() for one, rows in opened(index, **options).found(by_id)}


def test_what_is_stored_is_found_to_the_bit(tmp_path):
    store(tmp_path, range(7))
    store(tmp_path, range(7, 9))
    again = found(tmp_path, [8, 3, 40])
    assert again.keys() == {8, 3}
    assert all((again[number] == views(number)).all() for number in again)


def test_another_state_or_another_shape_is_no_use(tmp_path):
    store(tmp_path, range(3))
    assert found(tmp_path, range(3), state="f" * 16) == {}
    other = StoredViews(tmp_path, STATE, (VIEWS, DIMENSION + 1), frozenset)
    assert list(other.found([identity(1)])) == []


def test_files_are_written_while_images_are_added(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IMAGES_A_FILE", 4)
    with opened(tmp_path) as stored:
        for number in range(10):
            stored.add(identity(number), views(number))
        assert found(tmp_path, range(10)).keys() == set(range(8))
        monkeypatch.setattr(module, "SECONDS_A_FILE", 0.0)
        stored.add(identity(10), views(10))
        assert found(tmp_path, range(11)).keys() == set(range(11))


def test_what_was_added_before_an_error_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as stored:
        stored.add(identity(1), views(1))
        raise KeyboardInterrupt
    assert found(tmp_path, [1]).keys() == {1}


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "text", "renamed"])
def test_a_damaged_file_is_removed_and_the_rest_counts(tmp_path, harm):
    store(tmp_path, range(3))
    (victim,) = stored_files(tmp_path)
    store(tmp_path, [3])
    data = victim.read_bytes()
    harmed = {
        "flip": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "cut": data[:-10],
        "empty": b"",
        "text": b"not a cache" * 50,
    }
    if harm == "renamed":
        victim = victim.rename(victim.with_name("0" * 32 + ".safetensors"))
    else:
        victim.write_bytes(harmed[harm])
    stored = opened(tmp_path)
    assert [one for one, _ in stored.found([identity(number) for number in range(4)])] == [identity(3)]
    assert stored.damaged == 1 and not victim.exists()


def test_where_nothing_can_be_written_work_goes_on_and_that_is_told_once(tmp_path, monkeypatch, capsys):
    (tmp_path / VIEWS_CACHE).write_text("a file where the folder should be")
    monkeypatch.setattr(module, "IMAGES_A_FILE", 1)
    store(tmp_path, range(3))
    assert capsys.readouterr().err.count("can't be written to") == 1
    assert found(tmp_path, range(3)) == {}


def test_what_was_used_longest_ago_leaves(tmp_path, monkeypatch):
    for number in range(4):
        store(tmp_path, [number])
        for path in stored_files(tmp_path):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
    assert found(tmp_path, [0]).keys() == {0}, "and is used now"
    size = stored_files(tmp_path)[0].stat().st_size
    monkeypatch.setattr(module, "MOST_BYTES", 3 * size)
    store(tmp_path, [4])
    assert found(tmp_path, range(5)).keys() == {0, 3, 4}


def test_remains_of_killed_writers_leave_and_those_of_live_ones_stay(tmp_path):
    store(tmp_path, [0])
    folder = stored_files(tmp_path)[0].parent
    for name, age in ((".tmp-a.safetensors-1-00", 7_200), (".tmp-b.safetensors-1-00", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    store(tmp_path, [1])
    assert sorted(path.name for path in folder.glob(".tmp-*")) == [".tmp-b.safetensors-1-00"]
    assert found(tmp_path, [0, 1]).keys() == {0, 1}


def test_writers_at_once_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IMAGES_A_FILE", 2)
    monkeypatch.setattr(module, "MOST_BYTES", 4_000)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [store(tmp_path, range(20)), found(tmp_path, range(20))], range(8)))
    last = found(tmp_path, range(20))
    assert last and all((last[number] == views(number)).all() for number in last)
    assert all(module.is_whole(path) for path in stored_files(tmp_path))


def test_forgotten_items_are_neither_given_out_nor_stored(tmp_path):
    store(tmp_path, range(3))
    assert found(tmp_path, range(3), forgotten=[identity(1)]).keys() == {0, 2}
    with opened(tmp_path, forgotten=[identity(7)]) as stored:
        stored.add(identity(7), views(7))
        stored.add(identity(8), views(8))
    assert found(tmp_path, [7, 8]).keys() == {8}


@pytest.fixture
def own(small_pool, tmp_path) -> Path:
    shutil.copytree(small_pool.index, tmp_path / "index", ignore=shutil.ignore_patterns(VIEWS_CACHE))
    return tmp_path / "index"


def test_compact_removes_views_of_forgotten_items(own):
    store(own, [1])
    store(own, [2])
    forget(own, ForgetOptions(item_ids=[identity(1).hex()]))
    compact(own, CompactOptions(keep_gone=True, dry_run=True))
    assert found(own, [1, 2]).keys() == {1, 2}
    compact(own, CompactOptions(keep_gone=True))
    assert found(own, [1, 2]).keys() == {2}
    assert not [path for path in own.rglob("*.safetensors") if identity(1) in path.read_bytes()]


def test_verify_looks_at_them_and_info_tells_their_size(own):
    assert info(own)["views_bytes"] == 0
    store(own, range(5))
    (path,) = stored_files(own / VIEWS_CACHE)
    assert info(own)["views_bytes"] == path.stat().st_size
    whole = verify(own)
    assert whole.damaged == () and path.relative_to(own).as_posix() in {one.path for one in whole.checked}
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    (damage,) = verify(own).damaged
    assert damage.path == path.relative_to(own).as_posix() and str(path) in str(damage.repair)
    path.unlink()
    assert verify(own).damaged == () and open_index(own).rows
