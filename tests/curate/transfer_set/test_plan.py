from pathlib import Path

import pytest

from curate.selection.background import Background
from curate.selection.removed import Removed
from curate.selection.selection import Pick, Selection
from curate.transfer_set.manifest import ShardRecord
from curate.transfer_set.plan import StoredPlan, read_selection, require_folder_for, write_selection
from transferset.errors import DataError, UsageError
from transferset.writes import sha256_file, write_json

SELECTION = Selection(
    picks=(Pick(1 << 40, 0, 3, 0.25, (2, 1)), Pick(5, None, None, None)),
    quotas=(3, 2),
    removed=(Removed(7, "same pixels", "test/ü.png"),),
    floored=(1,),
    background=Background(2, (0.25, 0.5), (0.125, 0.0), (0, 4, 0)),
)
ARGUMENTS = {"selection": {"total": 5, "seed": 0, "min_similarity": None}, "queries": {"sha256": "ab" * 32}}


def test_a_selection_comes_back_as_it_was(tmp_path: Path) -> None:
    write_selection(tmp_path / "s.parquet", SELECTION)
    assert read_selection(tmp_path / "s.parquet") == SELECTION


def test_a_damaged_selection_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="damaged"):
        read_selection(tmp_path / "s.parquet")


def test_an_unfinished_set_goes_on_only_with_its_own_arguments(tmp_path: Path) -> None:
    assert require_folder_for(tmp_path / "new", ARGUMENTS) is False
    plan = StoredPlan(tmp_path)
    assert plan.load_selection() is None
    plan.begin(ARGUMENTS, SELECTION)
    assert require_folder_for(tmp_path, ARGUMENTS) is False
    assert StoredPlan(tmp_path).load_selection() == SELECTION
    other = {**ARGUMENTS, "selection": {"total": 6, "seed": 0, "min_similarity": 0.5}}
    with pytest.raises(UsageError) as caught:
        require_folder_for(tmp_path, other)
    assert "selection.min_similarity: none there, 0.5 now; selection.total: 5 there, 6 now" in str(
        caught.value
    )
    plan.end()
    assert require_folder_for(tmp_path, other) is False


def test_a_selection_that_nothing_vouches_for_is_not_used(tmp_path: Path) -> None:
    plan = StoredPlan(tmp_path)
    write_selection(plan.folder / "selection.parquet", SELECTION)
    assert plan.load_selection() is None
    assert require_folder_for(tmp_path, ARGUMENTS) is False


def test_a_shard_counts_as_finished_only_if_it_is_whole(tmp_path: Path) -> None:
    plan = StoredPlan(tmp_path)
    plan.begin(ARGUMENTS, SELECTION)
    shard = tmp_path / "shards" / "000000.tar"
    assert plan.finished_shard(shard.name, "ab") is None
    shard.parent.mkdir()
    shard.write_bytes(b"whole")
    assert plan.finished_shard(shard.name, "ab") is None
    record = ShardRecord(shard.name, 1, 5, sha256_file(shard), "ab")
    plan.store_shard(record)
    assert plan.finished_shard(shard.name, "ab") == record
    assert plan.finished_shard(shard.name, "cd") is None, "it holds other samples"
    shard.write_bytes(b"wrong")
    assert plan.finished_shard(shard.name, "ab") is None


def test_a_record_that_does_not_say_what_its_shard_holds_is_not_trusted(tmp_path: Path) -> None:
    plan = StoredPlan(tmp_path)
    shard = tmp_path / "shards" / "000000.tar"
    shard.parent.mkdir()
    shard.write_bytes(b"whole")
    old = {"name": shard.name, "samples": 1, "bytes": 5, "sha256": sha256_file(shard)}
    write_json(plan.folder / "shards" / f"{shard.name}.json", old)
    assert plan.finished_shard(shard.name, "ab") is None


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "shards", tmp_path / ".plan" / "shards"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".tmp-x-1-2").write_bytes(b"half")
    StoredPlan(tmp_path)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        require_folder_for(tmp_path / "f", ARGUMENTS)
