"""`curate build-index` on ready embeddings, killed (SIGKILL) and run again: the same bytes as without the
kill."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trees import checksums

Make = Callable[..., Any]

# The command in a process of its own, with small pieces; it kills itself within the third one.
BUILD = """
import os, signal, sys
from curate.index.building import ready_part
from curate.pools import embeddings, listing
listing.PIECE_ROWS, embeddings.BLOCK_ROWS = 40, 10
if sys.argv.pop(1) == "killed":
    read, count = ready_part.read_blocks, 0
    def dying(*arguments):
        global count
        for block in read(*arguments):
            count += 1
            if count == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            yield block
    ready_part.read_blocks = dying
from curate.cli import main
main()
"""


def command(moment: str, pool: Path, index: Path) -> list[str]:
    options = ["--encoder", "timm:test_efficientnet@none", "--image-size", "32", "--runtime", "eager"]
    return ["-c", BUILD, moment, "build-index", "--pool", str(pool), "--index", str(index), *options]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A file of 130 rows and one of 20: five pieces of up to 40."""
    for name in ("img_emb", "metadata"):
        (tmp_path / "pool" / name).mkdir(parents=True)
    for number, rows in ((0, 130), (1, 20)):
        vectors = np.random.default_rng(number).standard_normal((rows, 256)).astype(np.float16)
        np.save(tmp_path / f"pool/img_emb/img_emb_{number}.npy", vectors)
        table = pa.table({"url": [f"https://example.org/{number}/{row}" for row in range(rows)]})
        pq.write_table(table, tmp_path / f"pool/metadata/metadata_{number}.parquet", row_group_size=33)
    return tmp_path / "pool"


def test_a_killed_build_goes_on(pool: Path, run_python: Make) -> None:
    unbroken, index = pool.parent / "unbroken", pool.parent / "index"
    assert run_python(command("never", pool, unbroken)).returncode == 0
    assert run_python(command("killed", pool, index)).returncode == -signal.SIGKILL
    written = {path: path.stat().st_mtime_ns for path in index.glob("parts/[0-9]*/done.json")}
    assert len(written) == 2 and not (index / "manifest.json").exists()
    resumed = run_python(command("never", pool, index))
    assert resumed.returncode == 0, resumed.stderr
    assert checksums(index) == checksums(unbroken)
    assert {path: path.stat().st_mtime_ns for path in written} == written, "what was done is not done again"
