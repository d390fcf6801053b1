"""The files of a pool's folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from curate.pools.items import PoolListing
from curate.pools.own_sets import own_set


def walk(
    folder: str, own: str, listing: PoolListing, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """The regular files of a folder in any depth, by the bytes of their names; links are followed, but never
    into a folder that we are in: `above` are device and inode of these.

    The index's `own` folder, hidden files, transfer sets below a pool and what can't be read are passed over;
    `listing` is told of the last two.
    """
    try:
        status = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        listing.skipped.append((folder, f"cannot be read: {error.strerror}"))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above or os.path.realpath(folder) == own:
        return
    kind = own_set(Path(folder), {entry.name for entry in entries}) if above else None
    if kind is not None:
        reason = f"a {kind} that curate wrote, with images of a pool; to index it, name it as --pool"
        listing.skipped.append((folder, reason))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file() or entry.is_symlink()
        except OSError as error:  # a link that leads to itself
            listing.skipped.append((entry.path, f"cannot be read: {error.strerror}"))
            continue
        if is_folder:
            yield from walk(entry.path, own, listing, above | {identity})
        elif is_file:
            yield entry.path
