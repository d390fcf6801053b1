"""Which error of ours an exception of Python or of a library stands for."""

import errno
import re

from transferset.errors import DataError, DiskError, OutOfMemoryError, TransfersetError
from transferset.open_files import open_files_error

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_PATH_ERRNOS = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}
_DISK_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|\(os error (28|122|27)\)"
)
_MEMORY_WORDS = re.compile(
    r"can't allocate memory|not enough memory|out of memory|std::bad_alloc|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_PATH_HINTS = {
    errno.EACCES: "get read and write permission there, or use another location",
    errno.EPERM: "get read and write permission there, or use another location",
    errno.ENAMETOOLONG: "use a shorter name",
}


def known_error(error: BaseException) -> TransfersetError | None:
    """The error of ours that `error` stands for, following what it was raised from; None for a bug."""
    if isinstance(error, TransfersetError) and type(error).exit_code != DataError.exit_code:
        return error
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if (isinstance(link, OSError) and link.errno in _DISK_ERRNOS) or _DISK_WORDS.search(str(link)):
            return DiskError(_os_message(link), _disk_hint(link))
        if (too_many := open_files_error(link)) is not None:
            return too_many
        if is_memory_error(link):
            return OutOfMemoryError(
                f"out of memory: {link}".rstrip(": "), "use a smaller --batch-size or fewer --workers"
            )
    if isinstance(error, TransfersetError):
        return error
    if isinstance(error, OSError) and error.errno in _PATH_ERRNOS:
        return DataError(_os_message(error), _PATH_HINTS.get(error.errno or 0))
    return None


def _disk_hint(error: BaseException) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EROFS:
        return "the file system is read-only: use another location"
    if code == errno.EIO:
        return "the disk is failing: check it, then re-run the same command"
    return "free some space, then re-run the same command"


def is_memory_error(error: BaseException) -> bool:
    """Whether it says that the memory of the host or of a device did not suffice."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    named = bool(kinds & {"OutOfMemoryError", "MemoryError"})
    return named or (isinstance(error, RuntimeError) and _MEMORY_WORDS.search(str(error)) is not None)


def _os_message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
