import io
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from curate.index.index import Index
from curate.selection.queries import Query
from curate.transfer_set import shards as module
from curate.transfer_set.plan import StoredPlan
from curate.transfer_set.samples import Sample
from curate.transfer_set.shards import plan_shards, remove_others, tar_header, write_shard
from curate.transfer_set.writing import _finish
from transferset.errors import DataError
from transferset.tars import group_samples, scan


def _samples(sizes: list[int]) -> list[Sample]:
    return [
        Sample(
            f"{n:032x}", "jpg" if n % 2 else "png", size, None, {"item_id": f"{n:032x}", "caption": "ü" * n}
        )  # type: ignore[arg-type]
        for n, size in enumerate(sizes)
    ]


def _bytes(sample: Sample) -> bytes:
    return bytes([int(sample.item_id, 16) % 251]) * sample.size


@pytest.mark.parametrize("name", ["a", "0" * 32 + ".jpg", "x" * 100])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 123_456_789, (1 << 33) - 1])
def test_headers_are_those_that_tarfile_makes(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    assert tar_header(name, size) == info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def test_what_does_not_fit_a_header_is_refused() -> None:
    for name, size in (("x" * 101, 1), ("x", 1 << 33)):
        with pytest.raises(ValueError, match="ustar"):
            tar_header(name, size)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_shard_is_the_tar_that_tarfile_would_write(tmp_path: Path, workers: int) -> None:
    samples = _samples([0, 1, 511, 512, 513, 5_000, 20_480, *range(300, 400)])
    (shard,) = plan_shards(samples, 1_000)
    write_shard(tmp_path, shard, _bytes, workers)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for extension, data in ((sample.extension, _bytes(sample)), ("json", sample.json())):
                info = tarfile.TarInfo(f"{sample.item_id}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    written = (tmp_path / "000000.tar").read_bytes()
    assert written == expected.getvalue()
    assert len(written) == shard.size


def test_offsets_are_known_before_anything_is_written(tmp_path: Path) -> None:
    samples = _samples([700, 10, 0, 512])
    (shard,) = plan_shards(samples, 1_000)
    write_shard(tmp_path, shard, _bytes, 2)
    grouped = group_samples(scan(tmp_path / shard.name).members)
    assert [one.key for one in grouped] == [sample.item_id for sample in samples]
    for one, sample, offset in zip(grouped, samples, shard.offsets, strict=True):
        assert (one.members[sample.extension].offset, one.members[sample.extension].size) == (
            offset,
            sample.size,
        )


def test_shards_are_cut_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def cuts(sizes: list[int], shard_size: int) -> list[int]:
        return [len(shard.samples) for shard in plan_shards(_samples(sizes), shard_size)]

    assert cuts([1] * 25, 10) == [10, 10, 5]
    assert cuts([1] * 20, 10) == [10, 10]
    assert cuts([], 10) == []
    monkeypatch.setattr(module, "LARGEST_SHARD", 100)
    assert cuts([40, 40, 40, 300, 10], 10) == [2, 1, 1, 1]
    names = [shard.name for shard in plan_shards(_samples([1] * 3), 1)]
    assert names == ["000000.tar", "000001.tar", "000002.tar"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "000000.tar").write_bytes(b"before")
    (shard,) = plan_shards(_samples([10, 20]), 10)

    def fail(sample: Sample) -> bytes:
        raise DataError("gone")

    with pytest.raises(DataError, match="gone"):
        write_shard(tmp_path, shard, fail, 2)
    with pytest.raises(DataError, match="has 3 bytes, its index says 10"):
        write_shard(tmp_path, shard, lambda sample: b"abc", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.tar"]
    assert (tmp_path / "000000.tar").read_bytes() == b"before"


def test_the_checksum_is_the_files(tmp_path: Path) -> None:
    import hashlib

    (shard,) = plan_shards(_samples([10, 20]), 10)
    checksum: Any = write_shard(tmp_path, shard, _bytes, 1)
    assert checksum == hashlib.sha256((tmp_path / shard.name).read_bytes()).hexdigest()


def test_the_digest_tells_what_a_shard_holds() -> None:
    samples = _samples([700, 10, 512, 3])
    others = [samples[::-1], samples[:3], _samples([700, 10, 512, 4]), [*samples[:3], *_samples([3])]]
    digests = {shard.digest for some in (samples, *others) for shard in plan_shards(some, 1_000)}
    assert len(digests) == 5
    assert [shard.digest in digests for shard in plan_shards(_samples([700, 10, 512, 3]), 1_000)] == [True]


def test_a_shard_of_another_selection_is_written_again(tmp_path: Path) -> None:
    first, second = _queries(0, 1, 2, 3), _queries(0, 9, 1, 2)
    plan = StoredPlan(tmp_path)
    for samples in (first, second):
        (shard,) = plan_shards(samples, 4)
        record = _finish(tmp_path, shard, cast(Index, None), plan, 1)
        assert record == _finish(tmp_path, shard, cast(Index, None), plan, 1)
        data = (tmp_path / "shards" / shard.name).read_bytes()
        for sample, offset in zip(samples, shard.offsets, strict=True):
            assert data[offset : offset + sample.size] == cast(Query, sample.origin).read()


def _queries(*numbers: int) -> list[Sample]:
    queries = [Query(f"{n:032x}", None, str(n), data=b"image %d" % n) for n in numbers]
    return [Sample(one.query_id, "jpg", 7, one, {"item_id": one.query_id}) for one in queries]


def test_shards_of_a_longer_selection_go(tmp_path: Path) -> None:
    for name in ("000000.tar", "000001.tar", "note.txt"):
        (tmp_path / name).touch()
    remove_others(tmp_path, ["000000.tar"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.tar", "note.txt"]
    remove_others(tmp_path / "none", [])
