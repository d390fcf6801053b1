"""Files that are mapped without being kept open; and the limits of open and mapped files, told as what they
are: never as damage, and never as a file that has gone."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from transferset.errors import OpenFilesError

if TYPE_CHECKING:
    import pyarrow as pa

_HINTS = {
    errno.EMFILE: "raise the limit (`ulimit -n 65536`), then re-run the same command",
    errno.ENOMEM: "free some memory, or raise the limit on mapped files (`sysctl vm.max_map_count`)",
    errno.ENFILE: "the whole machine has run out: close other programs, then re-run the same command",
}


def map_file(path: Path) -> "pa.Buffer":
    """The bytes of a file. Arrow closes it and keeps the mapping for as long as something refers to it;
    `mmap` and `np.memmap` would keep the file open, too."""
    import pyarrow as pa

    with pa.memory_map(os.fsencode(path)) as file:
        return file.read_buffer()


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
