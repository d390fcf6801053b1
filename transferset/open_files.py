"""The limits of open and mapped files, told as what they are: never as damage, and never as a file that has
gone."""

import errno

from transferset.errors import OpenFilesError

_HINTS = {
    errno.EMFILE: "raise the limit (`ulimit -n 65536`), then re-run the same command",
    errno.ENOMEM: "free some memory, or raise the limit of mapped files (`sysctl vm.max_map_count`)",
    errno.ENFILE: "the whole machine has no more: end other programs, then re-run the same command",
}


def open_files_error(error: BaseException) -> OpenFilesError | None:
    """What `error` stands for, if it says that no more files can be opened or mapped."""
    if not isinstance(error, OSError) or error.errno not in _HINTS:
        return None
    where = f"{error.filename}: " if error.filename else ""
    what = "out of memory or of mappings" if error.errno == errno.ENOMEM else "too many open files"
    return OpenFilesError(f"{where}{what}", hint=_HINTS[error.errno])


def raise_if_too_many_files(error: BaseException) -> None:
    """For whoever would tell `error` as unreadable or damaged: raises OpenFilesError where it is none of
    that."""
    told = open_files_error(error)
    if told is not None:
        raise told from error
