"""The index that a benchmark retrieves from: a ready one, or one that is built."""

import time
from collections.abc import Sequence
from pathlib import Path

from curate.index.build import build_index
from curate.index.options import BuildOptions
from transferset.lock import DirectoryLock
from transferset.writes import read_json, write_json

COSTS = "index.json"


def pool_index(ready: Path | None, pool: Sequence[Path], out: Path, encoder: str) -> Path:
    """`ready`, or the index of `pool` in `out`, built once; what that costs is kept beside it (COSTS)."""
    if ready is not None:
        return ready
    index = out / "index"
    with DirectoryLock(out, ".index.lock", wait=True):
        if not (index / "manifest.json").exists():
            start = time.perf_counter()
            build_index(list(pool), index, BuildOptions(encoder=encoder))
            count = int(read_json(index / "manifest.json")["distinct"])
            write_json(out / COSTS, {"images": count, "seconds": time.perf_counter() - start})
    return index
