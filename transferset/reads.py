"""Files that are read as a whole."""

from pathlib import Path

from transferset.errors import DataError


def read_bytes(path: Path, what: str = "") -> bytes:
    """A file's content; DataError where it can't be read, which says `what` the file is."""
    try:
        return path.read_bytes()
    except OSError as error:
        named = f"{what} {path}" if what else path
        raise DataError(f"{named} cannot be read: {error.strerror or error}") from error
