"""Export of shards against a bare `tarfile` loop.

    python benchmarks/export.py INDEX [TOTAL] [--make IMAGES]

`--make` first builds, if INDEX is not there, an index of so many made-up JPEGs of 3 to 5 kB in local tars
of 10,000 beside it (150,000 for the full size). Draws TOTAL items (default 4,000) of an index at random and
writes them twice, in turns: with what `curate retrieve` uses (look up the items, read their bytes from the
pool, check them against their ids, make the provenance, write shards atomically with checksums) and with a
loop over the standard library's `tarfile` that has the very same members in memory already. Both write real
files with an fsync each. Prints samples per second of each, the ratio (aim: at least 0.8), and by how much
the export raises the anonymous memory of the process (which holds the members for the bare loop already).
"""

import argparse
import io
import os
import shutil
import statistics
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

import numpy as np
import simplejpeg
from PIL import Image
from process_memory import Peak

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.index.part import ItemRow
from curate.retrieval import retrieve_items
from curate.retrieve_options import DEFAULT_SHARD_SIZE
from curate.selection.queries import Query
from curate.selection.select_options import SelectOptions
from curate.selection.selection import Selection
from curate.transfer_set.manifest import SHARDS, ShardRecord
from curate.transfer_set.plan import StoredPlan
from curate.transfer_set.samples import Sample, build_samples
from curate.transfer_set.shards import plan_shards, write_shard

IMAGES_A_TAR = 10_000
QUERY = Query("00" * 16, None, "none")


def export(index: Index, selection: Selection, out: Path, workers: int) -> None:
    """What `write_transfer_set` does for the shards, from the selection on."""
    samples = build_samples(index, [QUERY], selection, include_queries=False, seed=0)
    plan = StoredPlan(out)

    def read(sample: Sample) -> bytes:
        return index.read_bytes(cast(ItemRow, sample.origin))  # no query is among them

    for shard in plan_shards(samples, DEFAULT_SHARD_SIZE):
        checksum = write_shard(out / SHARDS, shard, read, workers)
        plan.store_shard(ShardRecord(shard.name, len(shard.samples), shard.size, checksum, shard.digest))


def bare(members: list[list[tuple[str, bytes]]], out: Path) -> None:
    """The same members from memory through `tarfile`, a shard a file, each synced."""
    for number, shard in enumerate(members):
        with (out / f"{number:06d}.tar").open("wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for name, data in shard:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())


def make_index(path: Path, images: int) -> None:
    """An index, by a tiny encoder with random weights, of smooth pictures with some noise."""
    pool = path.with_name(f"{path.name}-pool")
    pool.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for start in range(0, images, IMAGES_A_TAR):
        tar_path = pool / f"{start // IMAGES_A_TAR:05d}.tar"
        with tarfile.open(tar_path, "w") as tar:
            for number in range(start, min(images, start + IMAGES_A_TAR)):
                coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
                smooth = np.asarray(
                    Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC), np.int16
                )
                noisy = np.clip(smooth + rng.integers(-14, 15, (96, 96, 1)), 0, 255).astype(np.uint8)
                data = simplejpeg.encode_jpeg(np.ascontiguousarray(noisy), quality=78)
                info = tarfile.TarInfo(f"{number:09d}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    encoder = "timm:test_efficientnet@none"
    build_index([pool], path, BuildOptions(encoder=encoder, image_size=32, runtime="eager", faiss=False))


class AnonymousPeak:
    """Context: the largest RssAnon of this process in it, above that at its beginning; MiB."""

    def __enter__(self) -> Self:
        self.peak = Peak()
        self.peak.look(os.getpid())
        self.before = self.peak.anonymous
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.peak.look(os.getpid())

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._watcher.join()
        self.above = self.peak.anonymous - self.before


def members_of(folder: Path) -> list[list[tuple[str, bytes]]]:
    """All members of the shards in a folder, in order."""
    shards = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            shards.append([(info.name, tar.extractfile(info).read()) for info in tar])  # type: ignore[union-attr]
    return shards


@dataclass
class Times:
    """Wall and core seconds of the rounds of one way to write."""

    wall: list[float] = field(default_factory=list)
    core: list[float] = field(default_factory=list)

    def add(self, work: Callable[[Path], None], folder: Path) -> None:
        """Run once into an empty folder, started with nothing left to sync."""
        folder.mkdir()
        os.sync()
        wall, core = time.perf_counter(), time.process_time()
        work(folder)
        self.wall.append(time.perf_counter() - wall)
        self.core.append(time.process_time() - core)
        shutil.rmtree(folder)

    def line(self, name: str, samples: int) -> str:
        """One line of the result."""
        rate = samples / statistics.median(self.wall)
        core = statistics.median(self.core) / samples
        return f"{name:20}{rate:10,.0f} samples/s {core * 1e6:8.0f} core-µs a sample"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("total", type=int, nargs="?", default=4_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--make", type=int, metavar="IMAGES", help="build INDEX of made-up images")
    arguments = parser.parse_args()
    if arguments.make and not arguments.index.exists():
        make_index(arguments.index, arguments.make)
    index = open_index(arguments.index)
    selection = retrieve_items(index, None, [QUERY], SelectOptions(total=arguments.total, strategy="random"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        work = Path(temporary)
        (work / "first").mkdir()
        export(index, selection, work / "first", arguments.workers)
        members = members_of(work / "first" / SHARDS)
        bare(members, work / "first")
        ours, theirs = Times(), Times()
        for _ in range(arguments.rounds):
            theirs.add(lambda folder: bare(members, folder), work / "bare")
            with AnonymousPeak() as memory:
                ours.add(lambda folder: export(index, selection, folder, arguments.workers), work / "export")
    samples = sum(len(shard) for shard in members) // 2
    size = sum(len(data) for shard in members for _, data in shard) / samples
    print(f"{samples} samples of {size:,.0f} bytes, {arguments.workers} workers")
    print(theirs.line("bare tarfile loop", samples))
    print(ours.line("export", samples))
    print(f"export takes {memory.above:.0f} MiB of anonymous memory more")
    rounds = sorted(bare_time / our_time for bare_time, our_time in zip(theirs.wall, ours.wall, strict=True))
    ratio = statistics.median(theirs.wall) / statistics.median(ours.wall)
    print(f"ratio               {ratio:10.2f} ({len(rounds)} rounds: {rounds[0]:.2f} to {rounds[-1]:.2f})")


if __name__ == "__main__":
    main()
