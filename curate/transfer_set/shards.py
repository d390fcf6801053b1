"""WebDataset shards whose bytes depend on nothing but their samples."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.transfer_set.samples import Sample
from transferset.errors import DataError
from transferset.parallel import ordered_map
from transferset.writes import atomic_file

LARGEST_SHARD = 1 << 30
_READ_TOGETHER = 32
_PIECE_BYTES = 1 << 18
_BLOCK = tarfile.BLOCKSIZE
_PADDING = [bytes(-size % _BLOCK) for size in range(_BLOCK)]


@dataclass(frozen=True)
class Shard:
    """A shard before it is written: everything about it is known but the images' bytes.

    `texts` are the provenances as written, `offsets` where each image's bytes start in the tar, `size` is
    the tar's.
    """

    name: str
    samples: tuple[Sample, ...]
    texts: tuple[bytes, ...]
    offsets: tuple[int, ...]
    size: int

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the samples that the shard holds, in their order: ids, extensions, sizes and
        provenances."""
        told = hashlib.sha256()
        for sample, text in zip(self.samples, self.texts, strict=True):
            told.update(f"{sample.item_id}.{sample.extension} {sample.size} {len(text)}\n".encode())
            told.update(text)
        return told.hexdigest()


def plan_shards(samples: Sequence[Sample], shard_size: int) -> Iterator[Shard]:
    """Cut samples into shards of `shard_size`, fewer where they would pass `LARGEST_SHARD` bytes."""
    start = number = 0
    while start < len(samples):
        stop, total = start, 0
        while stop < min(start + shard_size, len(samples)):
            total += samples[stop].size
            if total > LARGEST_SHARD and stop > start:
                break
            stop += 1
        yield _lay_out(f"{number:06d}.tar", samples[start:stop])
        start, number = stop, number + 1


def _lay_out(name: str, samples: Sequence[Sample]) -> Shard:
    texts = tuple(sample.json() for sample in samples)
    offsets = []
    end = 0
    for sample, text in zip(samples, texts, strict=True):
        offsets.append(end + _BLOCK)
        end += 2 * _BLOCK + _padded(sample.size) + _padded(len(text))
    end += 2 * _BLOCK
    return Shard(name, tuple(samples), texts, tuple(offsets), end + -end % tarfile.RECORDSIZE)


def write_shard(folder: Path, shard: Shard, read: Callable[[Sample], bytes], workers: int) -> str:
    """Write one shard atomically; returns its SHA-256 in hex.

    `read` gives a sample's bytes, already checked against its id; `workers` threads call it ahead of the
    writing.
    """
    digest = hashlib.sha256()

    def hashed(piece: bytes) -> bytes:
        digest.update(piece)
        return piece

    with atomic_file(folder / shard.name) as file:
        # One thread hashes in order what this one writes next.
        for piece in ordered_map(hashed, _pieces(shard, read, workers), 1, 2):
            file.write(piece)
    return digest.hexdigest()


def remove_others(folder: Path, names: Sequence[str]) -> None:
    """Remove the shards of an earlier selection that has more of them than `names`."""
    kept = set(names)
    for path in folder.glob("*.tar"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _pieces(shard: Shard, read: Callable[[Sample], bytes], workers: int) -> Iterator[bytes]:
    """The tar's bytes, some samples at a time."""
    starts = range(0, len(shard.samples), _READ_TOGETHER)
    groups = (shard.samples[start : start + _READ_TOGETHER] for start in starts)
    reads = ordered_map(lambda group: [read(sample) for sample in group], groups, workers, 2 * workers)
    images = (data for group in reads for data in group)
    waiting: list[bytes] = []
    size = written = 0
    for sample, text, data in zip(shard.samples, shard.texts, images, strict=True):
        if len(data) != sample.size:
            raise DataError(f"item {sample.item_id} has {len(data)} bytes, its index says {sample.size}")
        members = (
            *_member(f"{sample.item_id}.{sample.extension}", data),
            *_member(f"{sample.item_id}.json", text),
        )
        waiting += members
        size += sum(map(len, members))
        if size >= _PIECE_BYTES:
            yield b"".join(waiting)
            waiting, written, size = [], written + size, 0
    yield b"".join((*waiting, bytes(shard.size - written - size)))


def _member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    return tar_header(name, len(data)), data, _PADDING[len(data) % _BLOCK]


def _padded(size: int) -> int:
    return size + -size % _BLOCK


def _prototype() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


_PROTOTYPE = _prototype()
_CHECKSUM = sum(_PROTOTYPE[:148]) + sum(_PROTOTYPE[156:]) + 8 * ord(" ") - 11 * ord("0")


def tar_header(name: str, size: int) -> bytes:
    """The ustar header of a file: what `tarfile` makes (time 0, owner 0 without a name, mode 0644), with
    name, size and checksum filled in, because making it anew takes tarfile longer than everything else in
    a shard."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size >= 1 << 33:
        raise ValueError(f"name or size don't fit a ustar header: {name}, {size}")
    octal = b"%011o" % size
    checksum = b"%06o\0 " % (_CHECKSUM + sum(encoded) + sum(octal))
    return b"".join(
        (encoded, _PROTOTYPE[len(encoded) : 124], octal, _PROTOTYPE[135:148], checksum, _PROTOTYPE[156:])
    )
