"""What a folder holds, to compare it with another."""

from pathlib import Path

from transferset.writes import sha256_file


def tree(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below it, by its path in it."""
    return {name: path.read_bytes() for name, path in _files(folder).items()}


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below it, by its path in it."""
    return {name: sha256_file(path) for name, path in _files(folder).items()}


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
