"""What a folder holds, to compare it with another."""

from pathlib import Path


def tree(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below it, by its path in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
