from pathlib import Path

import numpy as np
import pytest

from distill.data.kept_rows import KeptRows
from tests.conftest import FewFiles
from transferset.errors import DataError, OpenFilesError


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_rows_come_back_also_from_a_file_that_was_there(tmp_path: Path, dtype: str) -> None:
    path, numbers = tmp_path / "rows.npy", np.array([7, 0, 3])
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    first = KeptRows(path, (9, 4), dtype)
    assert not first.found
    first.write(numbers, values)
    assert np.array_equal(first.read(numbers[::-1]), values[::-1].astype(dtype))
    first.flush()
    first.close()
    again = KeptRows(path, (9, 4), dtype)
    assert again.found and np.array_equal(again.read(numbers), values.astype(dtype))
    assert np.load(path).dtype == np.dtype(dtype) and not np.load(path)[[1, 2, 4, 5, 6, 8]].any()


def test_the_limit_of_open_files_is_not_told_as_damage(tmp_path: Path, few_files: FewFiles) -> None:
    KeptRows(tmp_path / "rows.npy", (9, 4), "<f4").close()
    with few_files(0), pytest.raises(OpenFilesError):
        KeptRows(tmp_path / "rows.npy", (9, 4), "<f4")


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    KeptRows(path, (9, 4), "<f4").close()
    for shape, dtype in (((9, 5), "<f4"), ((9, 4), "<f2")):
        with pytest.raises(DataError, match=r"rows\.npy holds float32 \(9, 4\) and not float"):
            KeptRows(path, shape, dtype)
    path.write_bytes(b"short")
    with pytest.raises(DataError, match="is damaged"):
        KeptRows(path, (9, 4), "<f4")
