"""The limit of open files, told as what it is: never as damage, and never as a file that has gone."""

import errno

from transferset.errors import OpenFilesError

_HINTS = {
    errno.EMFILE: "raise the limit (`ulimit -n 65536`), then re-run the same command",
    errno.ENFILE: "the whole machine has no more: end other programs, then re-run the same command",
}


def open_files_error(error: BaseException) -> OpenFilesError | None:
    """What `error` stands for, if it says that no more files can be opened."""
    if not isinstance(error, OSError) or error.errno not in _HINTS:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return OpenFilesError(f"{where}too many open files", hint=_HINTS[error.errno])


def raise_if_too_many_files(error: BaseException) -> None:
    """For whoever would tell `error` as unreadable or damaged: raises OpenFilesError where it is none of
    that."""
    told = open_files_error(error)
    if told is not None:
        raise told from error
