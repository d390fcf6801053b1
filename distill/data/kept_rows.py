"""Rows of numbers in a file that is filled bit by bit."""

import os
from pathlib import Path

import numpy as np

from transferset.errors import DataError
from transferset.open_files import raise_if_too_many_files
from transferset.writes import atomic_file


class KeptRows:
    """An npy array `shape` of `dtype` (a little-endian float), sparse until it is full; `found`: the file was
    there before. Rows are written with pwrite, so that a full disk is an error and not a crash.

    Raises DataError where the file that is there is damaged or holds something else.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: str) -> None:
        self.found = path.exists()
        if not self.found:
            _create(path, shape, dtype)
        self._rows: np.ndarray | None = _open(path, shape, dtype)
        self._start = path.stat().st_size - self._rows.nbytes
        self._row_bytes = shape[1] * self._rows.itemsize
        self._dtype = dtype
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, numbers: np.ndarray, values: np.ndarray) -> None:
        """Keep `values` (n, width), rounded to the file's dtype, as the rows `numbers` (n,)."""
        for number, row in zip(numbers, values.astype(self._dtype), strict=True):
            self._write(row.tobytes(), self._start + int(number) * self._row_bytes)

    def _write(self, data: bytes, offset: int) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The rows `numbers` (n,), (n, width) in the file's dtype."""
        assert self._rows is not None
        rows: np.ndarray = self._rows[numbers]
        return rows

    def flush(self) -> None:
        """Everything that was written is on the disk."""
        if self._file >= 0:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._rows = None


def _create(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """An npy file of this shape whose rows are holes."""
    with atomic_file(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + shape[0] * shape[1] * np.dtype(dtype).itemsize)


def _open(path: Path, shape: tuple[int, int], dtype: str) -> np.ndarray:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise_if_too_many_files(error)
        raise DataError(
            f"{path} is damaged: {error}", hint="remove the run's directory and train again"
        ) from error
    if stored.shape != shape or stored.dtype != np.dtype(dtype):
        raise DataError(
            f"{path} holds {stored.dtype} {stored.shape} and not {np.dtype(dtype)} {shape}",
            hint="see config.json",
        )
    array: np.ndarray = stored
    return array
