from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from distill.data.label_shards import (
    LABELLED,
    ShardFacts,
    map_tensors,
    open_shard,
    paths,
    read_facts,
    units_of,
    write_shard,
    write_tensors,
)
from distill.data.samples import join, samples_of_files
from tests.conftest import FewFiles
from transferset.errors import DataError, OpenFilesError

TENSORS: Mapping[str, np.ndarray] = {
    "log_probabilities": np.arange(12, dtype=np.float16).reshape(3, 2, 2),
    "classes": np.arange(6, dtype=np.uint16).reshape(3, 2),
    "wide": np.arange(3, dtype=np.int32),
    "log_sum_exp": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
    "readable": np.array([1, 0, 1], np.uint8),
}
FACTS = ShardFacts("000000.tar", 6, 2, "ids", "", {"1": "truncated"})


def test_mapped_tensors_are_those_that_safetensors_reads(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t.safetensors", TENSORS)
    found, expected = map_tensors(tmp_path / "t.safetensors"), load_file(tmp_path / "t.safetensors")
    assert found.keys() == expected.keys() == TENSORS.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and np.array_equal(found[name], tensor)
    write_tensors(tmp_path / "e.safetensors", {"nothing": np.empty((0, 3), np.float16)})
    assert map_tensors(tmp_path / "e.safetensors")["nothing"].shape == (0, 3)


def test_mapped_files_are_not_kept_open(tmp_path: Path, few_files: FewFiles) -> None:
    copies = [tmp_path / f"{number}.safetensors" for number in range(100)]
    write_tensors(copies[0], TENSORS)
    for copy in copies[1:]:
        copy.hardlink_to(copies[0])
    map_tensors(copies[0])
    with few_files(2):
        opened = [map_tensors(copy) for copy in copies]
    for copy in copies:
        copy.unlink()
    for tensors in opened:
        assert all(np.array_equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_the_limit_of_open_files_is_not_told_as_damage(tmp_path: Path, few_files: FewFiles) -> None:
    write_shard(tmp_path, 0, FACTS, [dict(TENSORS)])
    open_shard(tmp_path, 0)
    for read in (lambda: map_tensors(paths(tmp_path, 0)[0]), lambda: open_shard(tmp_path, 0)):
        with few_files(0), pytest.raises(OpenFilesError) as told:
            read()
        assert "ulimit -n" in str(told.value.hint)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{", b"\x02" + b"\0" * 7 + b"[]",
     b"\x40" + b"\0" * 7 + b'{"a": {"dtype": "F16", "shape": [9], "data_offsets": [0, 4]}}   '],
)  # fmt: skip
def test_damage_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.safetensors").write_bytes(data)
    with pytest.raises(DataError, match=r"t\.safetensors is damaged"):
        map_tensors(tmp_path / "t.safetensors")


def test_a_shard_is_joined_of_its_pieces_and_proven_by_its_checksum(tmp_path: Path) -> None:
    written = write_shard(tmp_path, 3, FACTS, [dict(TENSORS), dict(TENSORS)])
    assert read_facts(tmp_path, 3) == written and written.sha256
    opened = open_shard(tmp_path, 3)
    assert opened.readable.tolist() == [True, False, True] * 2
    assert opened.tensors["classes"].shape == (6, 2) and "readable" not in opened.tensors
    path, beside = paths(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_facts(tmp_path, 3) is None
    with pytest.raises(DataError, match="missing or damaged"):
        open_shard(tmp_path, 3)
    beside.unlink()
    assert read_facts(tmp_path, 3) is None


def test_features_are_apart_from_what_is_said_of_classes(tmp_path: Path) -> None:
    features = np.linspace(-1, 1, 24, dtype=np.float16).reshape(3, 2, 4)
    write_shard(tmp_path, 0, FACTS, [{**TENSORS, "features": features}])
    write_shard(tmp_path, 1, FACTS, [dict(TENSORS)])
    with_features, without = open_shard(tmp_path, 0), open_shard(tmp_path, 1)
    assert with_features.features is not None and np.array_equal(with_features.features, features)
    assert without.features is None and with_features.tensors.keys() == without.tensors.keys()


def test_units_are_tars_and_then_the_labelled_images_once(tmp_path: Path) -> None:
    first = samples_of_files([tmp_path / "a.tar", tmp_path / "b.tar"])
    transfer = first.subset(np.array([0, 0, 1, 1, 1]))
    samples = join(transfer, samples_of_files([tmp_path / f"{n}.png" for n in range(4)]), repeat=3)
    units = units_of(samples, 5, 4, views=8)
    assert [(unit.name, unit.rows.tolist(), unit.views) for unit in units] == [
        ("a.tar", [0, 1], 8),
        ("b.tar", [2, 3, 4], 8),
        (LABELLED, [5, 6, 7, 8], 24),
    ]


def test_images_of_a_tar_need_not_stand_together(tmp_path: Path) -> None:
    files = samples_of_files([tmp_path / f"{n}.tar" for n in range(4)])
    source = np.array([3, 1, 3, 0, 1, 1, 3, 2])
    units = units_of(files.subset(source), 7, 0, views=1)
    assert [(unit.name, unit.rows.tolist()) for unit in units] == [
        ("3.tar", [0, 2, 6]),
        ("1.tar", [1, 4, 5]),
        ("0.tar", [3]),
    ]
    assert {unit.rows.dtype for unit in units} == {np.dtype(np.int64)}
    assert units_of(files, 0, 0, views=1) == []
