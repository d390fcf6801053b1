import errno
import os

import pyarrow as pa
import pytest

from transferset import errors
from transferset.known_errors import known_error


def test_known_errors_are_found_however_deep() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    outer = errors.DataError("the part cannot be written")
    outer.__cause__ = full
    found = known_error(outer)
    assert isinstance(found, errors.DiskError)
    assert isinstance(
        known_error(RuntimeError("Error: write failed: No space left on device")), errors.DiskError
    )
    assert isinstance(known_error(OSError(errno.EDQUOT, "quota")), errors.DiskError)
    assert isinstance(
        known_error(RuntimeError("DefaultCPUAllocator: not enough memory")), errors.OutOfMemoryError
    )
    gpu = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert isinstance(known_error(gpu), errors.OutOfMemoryError)
    busy = errors.BusyError("busy")
    busy.__cause__ = full
    assert known_error(busy) is busy
    assert known_error(KeyError("x")) is None
    loop = ValueError("a")
    loop.__cause__ = loop
    assert known_error(loop) is None


def test_a_full_device_is_a_disk_error_from_arrow_too() -> None:
    # Through a stream: given a path, pyarrow removes what it could not write, here the device.
    with pytest.raises(OSError, match="No space left") as caught, pa.OSFile("/dev/full", "wb") as full:
        full.write(b"x" * 100_000)
    assert isinstance(known_error(caught.value), errors.DiskError)


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.ENOSPC, errors.DiskError, "free some space"),
        (errno.EROFS, errors.DiskError, "read-only"),
        (errno.EIO, errors.DiskError, "disk is failing"),
        (errno.EACCES, errors.DataError, "read and write permission"),
    ],
)
def test_a_hint_fits_what_the_system_said(code: int, kind: type[errors.TransfersetError], hint: str) -> None:
    found = known_error(OSError(code, os.strerror(code), "/x"))
    assert type(found) is kind and found.message == f"/x: {os.strerror(code)}"
    assert found.hint is not None and hint in found.hint
