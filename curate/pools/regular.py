"""Files of a pool are regular ones: a link may lead to a device without an end, or to a pipe that nobody
writes."""

import errno
import os
import stat

from curate.pools.remote import PoolPath, RemotePath
from transferset.errors import DataError

GONE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP}
"""What says that a file is not there, or not for us: a disk that fails says others."""
LARGEST_FILE = 1 << 30
"""Bytes of an encoded image; a larger file is not read at all."""


def check_regular(path: PoolPath) -> int:
    """The size of a file, without opening it (0 for a remote one, which nobody asks). DataError (a reason for
    the error table) if it is no regular one, OSError as `open` raises it."""
    if isinstance(path, RemotePath):
        return 0
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise DataError("not a regular file")
    return status.st_size


def read_regular(path: PoolPath) -> bytes:
    """The whole content of a file; errors as of `check_regular`, and DataError if it is too large."""
    if isinstance(path, RemotePath):
        return path.read_bytes()
    size = check_regular(path)
    check_size(size)
    with path.open("rb") as file:
        return file.read(size + 1)


def check_size(size: int) -> None:
    """DataError (a reason for the error table) for more than is read."""
    if size > LARGEST_FILE:
        raise DataError(f"too large: {size} bytes > {LARGEST_FILE}")
