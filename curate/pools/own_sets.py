"""Folders that `curate` wrote images of a pool into: transfer sets, suggestions. In a pool they are no images
of their own."""

from collections.abc import Collection
from pathlib import Path

from transferset.errors import DataError
from transferset.writes import read_json

_MANIFEST = "manifest.json"
_BEGUN = Path(".plan", "arguments.json")


def own_set(folder: Path, names: Collection[str]) -> str | None:
    """What `curate` has written, or begun to write, to a folder that holds `names`: "transfer set", …; None:
    nothing. Manifests of other programs are no matter."""
    if _BEGUN.parts[0] in names and _is_file(folder / _BEGUN):
        return "half-written set"
    if _MANIFEST not in names or not _is_file(folder / _MANIFEST):
        return None
    try:
        manifest = read_json(folder / _MANIFEST)
    except DataError:
        return None
    if isinstance(manifest, dict) and {"transferset_version", "arguments", "kind"} <= manifest.keys():
        return str(manifest["kind"])
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that may not be read
        return False
