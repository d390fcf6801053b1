"""Files that are either whole or not there: temporary name, fsync, rename, fsync of the directory."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from transferset.errors import DataError, UsageError
from transferset.open_files import raise_if_too_many_files

if TYPE_CHECKING:
    import pyarrow as pa

TEMPORARY_PREFIX = ".tmp-"
_LONGEST_NAME = 200
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _temporary_name(path: Path) -> Path:
    name = path.name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore")
    return path.parent / f"{TEMPORARY_PREFIX}{name}-{os.getpid()}-{secrets.token_hex(4)}"


def sync(path: Path) -> None:
    """What a file or folder holds is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def check_file(path: Path, name: str) -> None:
    """UsageError if the option `name` cannot be a file at `path`: to be told before the work, and not after.
    Nothing is made."""
    if path.is_dir():
        raise UsageError(f"{name} {path} is a folder", hint="name a file in it")
    parent = next(one for one in path.absolute().parents if one.exists())
    if not parent.is_dir():
        raise UsageError(f"{name} {path}: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{name} {path}: nothing can be written to {parent}")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for libraries that want a name; renamed to `path` if the body succeeds.

    The parent directory is made. On an error the temporary is removed and what stood at `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException as error:
        remove(temporary)
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            error.filename = str(path)  # write() names no file
        raise
    sync(path.parent)


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """An open file that becomes `path` when the body succeeds (see `atomic_path`); text is UTF-8 with
    `\\n`."""
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(path) as temporary, temporary.open(mode.replace("w", "x"), **text) as file:
        yield file


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as JSON: two spaces, sorted keys, a newline at the end; NaN and infinity are refused."""
    text = json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
    write_bytes(path, text.encode("ascii") + b"\n")


def write_parquet(path: Path, table: "pa.Table") -> None:
    """Write an Arrow table as Parquet (zstd); the same table and library version give the same bytes."""
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_json(path: Path) -> Any:
    """Parse the JSON file `path`; DataError where it is missing, unreadable or damaged."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: it is not JSON ({error})") from error
    except OSError as error:
        raise_if_too_many_files(error)
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's bytes as 64 hex digits, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(directory: Path) -> int:
    """Bytes of all files below `directory`; what other processes remove meanwhile is passed over."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).stat().st_size
    return total


def sweep_temporaries(directory: Path, besides: str | None = None) -> None:
    """Remove what a killed writer left in `directory` (not below it). Call it only while holding its lock.

    Temporaries of the file `besides`, which another lock guards, stay.
    """
    for path in Path(directory).glob(f"{TEMPORARY_PREFIX}*"):
        if besides is None or not path.name.startswith(f"{TEMPORARY_PREFIX}{besides}-"):
            remove(path)


def sweep_temporaries_of(path: Path) -> None:
    """Remove what killed writers of the file `path` have left beside it; what a live process is writing
    stays. For files in directories that have no lock."""
    for left in path.parent.glob(f"{TEMPORARY_PREFIX}{glob.escape(path.name)}-*-*"):
        pid = left.name.split("-")[-2]
        if pid.isdigit() and not _is_alive(int(pid)):
            remove(left)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
