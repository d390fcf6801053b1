"""`build-index` against the joint rate that its stages predict, and its memory on a larger pool.

    python benchmarks/index_rate.py --pool POOL --work DIR [--encoder embedded] [--images 4000] [--memory]

On the first parts of the pool (at least IMAGES images) it measures alone, each on all cores: reading with
hashing, decoding with rendering and perceptual hash, encoding. Then it builds an index of the same parts and
compares the steady rate of its encoding stage (aim: at least 0.9). How far reading and encoding overlap, also
from one part to the next, shows with an encoder that needs no core, as on a GPU, and takes exactly as long as
reading and decoding: one after the other would be half as fast as both at once. `--memory` compares the peak
memory of building the first parts with that of building the whole pool (each in a process of its own).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from curate.encoding.pipeline import PartItems, PipelineOptions, encode_parts
from curate.index.build import build_index
from curate.index.encoder import begin
from curate.index.options import BuildOptions
from curate.pools import PartReader, Roots, count_images, list_pools, plan_parts
from transferset.copies import item_id, perceptual_hash
from transferset.images import decode, read_header
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map
from transferset.rates import Rate, joint, measure
from transferset.tars import TarReader, scan

BUILD = """
import re
from pathlib import Path
from curate.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def lines(rates: Iterable[Rate], actual: float) -> list[str]:
    """The measured stages, the prediction and how much of it was reached."""
    rates = list(rates)
    predicted = joint(rates)
    stages = [f"{r.stage:<22}{r.per_second:>9.0f} images/s{r.core_ms:>8.2f} core-ms/image" for r in rates]
    return [
        *stages,
        f"predicted joint rate {predicted:.0f}, measured {actual:.0f}, ratio {actual / predicted:.2f}",
    ]


def first_tars(pool: Path, images: int) -> list[Path]:
    """The first tars of a pool that hold at least this many images."""
    chosen: list[Path] = []
    count = 0
    for tar in sorted(pool.glob("*.tar")):
        if count >= images:
            break
        chosen.append(tar)
        count += sum(member.name.endswith(IMAGE_SUFFIXES) for member in scan(tar).members)
    return chosen


def read_all(tars: list[Path], workers: int) -> list[bytes]:
    """The bytes of every image, hashed as an item id on the way."""
    found: list[bytes] = []
    for tar in tars:
        members = [member for member in scan(tar).members if member.name.endswith(IMAGE_SUFFIXES)]
        with TarReader(tar) as reader:

            def one(place: tuple[int, int], reader: TarReader = reader) -> bytes:
                data = reader.read(*place)
                item_id(data)
                return data

            places = [(member.offset, member.size) for member in members]
            found += ordered_map(one, places, workers=workers, window=256)
    return found


class Elsewhere:
    """Stands for an encoder on a device of its own: it takes `seconds` a batch and no core."""

    def __init__(self, model: FrozenModel, seconds: float) -> None:
        self.batch_size, self.preprocessing = model.batch_size, model.preprocessing
        self.seconds = seconds
        self.batches = 0

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        self.batches += 1
        return np.ones((len(batch), 8), np.float32)


def overlap(model: FrozenModel, tars: list[Path], host: float, workers: int) -> str:
    """How near the pipeline over all parts comes to both at once, where `host` is what reading and decoding
    give alone, images per second."""
    roots = Roots(Path.cwd())
    parts = plan_parts(list_pools(tars, roots).sources, lambda source: count_images(roots.locate(source)))
    readers = (PartReader(part, roots) for part in parts)
    elsewhere = Elsewhere(model, model.batch_size / host)
    work = (PartItems(None, reader.items(), reader.read) for reader in readers)
    start, images = time.perf_counter(), 0
    for _, outcomes in encode_parts(elsewhere, work, PipelineOptions(workers)):  # type: ignore[arg-type]
        images += sum(1 for _ in outcomes)
    seconds = time.perf_counter() - start
    both = elsewhere.batches * elsewhere.seconds  # padded batches take as long as full ones
    after = both + images / host
    return (
        f"overlap: {images / seconds:.0f} images/s with an encoder elsewhere as fast as reading and "
        f"decoding; one after the other {images / after:.0f}, both at once {images / both:.0f}: "
        f"{(after - seconds) / (after - both):.0%} of what can overlap does"
    )


def peak_memory(arguments: list[str]) -> float:
    """Peak resident memory, MiB, of a build in a process of its own, as the kernel tells it there: the
    `ru_maxrss` of child processes is the largest of all so far, and not below that of this process."""
    command = [sys.executable, "-c", BUILD, "build-index", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="a folder of WebDataset tars")
    parser.add_argument(
        "--work", type=Path, required=True, help="scratch folder; the indexes in it are replaced"
    )
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    tars = first_tars(chosen.pool, chosen.images)
    encoder = begin(BuildOptions(encoder=chosen.encoder)).model
    preprocessing = encoder.preprocessing
    data: list[bytes] = []

    def read() -> int:
        data[:] = read_all(tars, workers)
        return len(data)

    def prepare(one: bytes) -> np.ndarray:
        read_header(one)
        rgb = decode(one, short_side=preprocessing.resize_short_side)
        perceptual_hash(rgb)
        return preprocessing.render(rgb)

    def decoding() -> int:
        return sum(1 for _ in ordered_map(prepare, data, workers=workers, window=256))

    def encoding() -> int:
        for _ in range(len(data) // encoder.batch_size):
            encoder(batch)
        return len(data) // encoder.batch_size * encoder.batch_size

    reading = measure("read and hash", read)
    batch = np.stack([prepare(one) for one in data[: encoder.batch_size]])
    rates = [
        reading,
        measure("decode and render", decoding),
        measure(f"encode ({encoder.info.runtime})", encoding),
    ]
    out = chosen.work / "index_rate"
    shutil.rmtree(out, ignore_errors=True)
    report = build_index(tars, out, BuildOptions(encoder=chosen.encoder))
    print(*lines(rates, report.rate), sep="\n")
    print(overlap(encoder, tars, joint(rates[:2]), workers))
    if chosen.memory:
        shutil.rmtree(out)
        some = [part for tar in tars for part in ("--pool", str(tar))]
        small = peak_memory([*some, "--index", str(out), "--encoder", chosen.encoder])
        shutil.rmtree(out)
        large = peak_memory(["--pool", str(chosen.pool), "--index", str(out), "--encoder", chosen.encoder])
        print(
            f"peak memory {small:.0f} MiB on {len(data)} images, {large:.0f} MiB on the whole pool: "
            f"{large / small - 1:+.1%}"
        )


if __name__ == "__main__":
    main()
