import errno
import resource
import shutil

import numpy as np
import pytest

from curate.index.index import open_index
from curate.index.open_files import allow_open_files
from transferset.errors import OpenFilesError


def test_the_soft_limit_grows_with_the_parts_and_never_shrinks():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        allow_open_files(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
        allow_open_files(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 712
        allow_open_files(1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 712
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_mapped_part_holds_one_open_file(make_index, unit_rows, few_files):
    index = open_index(make_index([unit_rows(3, 4, seed) for seed in range(20)]))
    with few_files(22):
        index.hold()
        assert [item.key for item in index.items(np.array([19 << 32, 7 << 32 | 2]))] == ["19/0", "7/2"]


def test_a_held_index_answers_when_a_build_has_removed_its_faiss_file(make_index, unit_rows):
    rows = unit_rows(30, 8)
    index = open_index(make_index([rows]))
    index.hold()
    shutil.rmtree(index.path / "faiss")
    positions, _ = index.search(rows[:3], 1, "faiss")
    assert positions[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
def test_what_can_not_be_mapped_is_not_damaged(make_index, unit_rows, monkeypatch, code):
    index = open_index(make_index([unit_rows(3, 4)]))

    def load(*_, **__):
        raise OSError(code, "no")

    monkeypatch.setattr(np, "load", load)
    with pytest.raises(OpenFilesError):
        index.embeddings(0)
