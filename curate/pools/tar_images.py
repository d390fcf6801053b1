"""The images of a tar, and how many a tar or a table holds."""

from collections.abc import Iterable

from curate.pools.items import PlannedPart
from curate.pools.regular import GONE
from curate.pools.remote import PoolPath, RemotePath, is_remote
from curate.pools.roots import Roots
from curate.pools.tables import count_rows
from transferset.errors import DataError, InterruptedRun
from transferset.images import IMAGE_SUFFIXES
from transferset.tars import Member, TarScan, scan, scan_file

TYPICAL_IMAGE = 1 << 14
"""Bytes of an image in a remote tar."""


def image_members(scanned: TarScan) -> list[Member]:
    """The JPEG, PNG and WebP files of a tar, by name, in stored order; hidden files are passed over."""
    return [member for member in scanned.members if split_name(member.name)[1] in IMAGE_SUFFIXES]


def scan_source(path: PoolPath) -> TarScan:
    """`transferset.tars.scan`, but what is no tar at all, or may not be read, is a scan without members.

    Raises InterruptedRun if the file's disk fails, or a remote file is gone.
    """
    try:
        if isinstance(path, RemotePath):
            with path.open() as file:
                return scan_file(file, str(path))
        return scan(path)
    except OSError as error:
        raise InterruptedRun(
            f"{path} cannot be read: {error.strerror or error}",
            hint="when it can be read again, run the same command",
        ) from error
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in GONE:
            raise InterruptedRun(
                error.message, hint="when it can be read again, run the same command"
            ) from error
        return TarScan((), error.message.removeprefix(f"{path} "))


def count_images(path: PoolPath, size: int = 0) -> int:
    """How many images the tar or table `path` holds, as far as it can be read. Of a remote tar this is
    guessed by its `size`: it need not be read twice."""
    if isinstance(path, RemotePath) and path.suffix.lower() == ".tar":
        return size // TYPICAL_IMAGE + 1
    if path.suffix.lower() == ".parquet":
        return count_rows(path)
    return len(image_members(scan_source(path)))


def is_guessed(parts: Iterable[PlannedPart], roots: Roots) -> bool:
    """Whether the number of images in some of the parts is a guess."""
    tars = (source for part in parts for source in part.sources if source.is_tar)
    return any(is_remote(roots.path(source.root)) for source in tars)


def split_name(name: str) -> tuple[str, str]:
    """`a/b.c.JPG` as (`a/b.c`, `.jpg`); no suffix for a hidden file."""
    folder, slash, base = name.rpartition("/")
    if base.startswith("."):
        return name, ""
    stem, dot, suffix = base.rpartition(".")
    return (folder + slash + stem, dot + suffix.lower()) if dot else (name, "")
