"""`curate fetch` killed at chosen moments, at random ones, or on a full disk: the same command goes on, with
the same bytes."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.index.index import Index, open_index
from tests.curate.fetch import web
from tests.runs import succeeded
from tests.trees import tree

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
IMAGES, CHOSEN, SHARDS = 330, 300, 10
KILLS, KILLS_A_RUN = 30, 4
# What to wait for before a kill, in the order in which it comes.
STAGES = ("begun", "chunk 1", "chunk 2", "chunk 3", "checked", "shard 1", "shard 4", "shard 8", "end")

# The command in a process of its own that kills itself (SIGKILL, so that nothing is cleaned up) at a moment.
KILLED = """
import os, signal, sys
from curate.fetch import processes, writing

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv.pop(1)
if moment == "within the downloads":
    run, count = processes.Workers.run, 0
    def dying_run(self, table, number):
        global count
        run(self, table, number)
        count += 1
        if count == 2:
            die()
    processes.Workers.run = dying_run
elif moment == "before the manifest":
    writing.build_report = die
from curate.cli import main
main()
"""

# The command where no file may pass 40,000 bytes, which fails as a full disk does.
CRAMPED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
from curate.cli import main
main()
"""


@dataclass(frozen=True)
class Task:
    """A site, and the unfetched set of its images in `chosen`; `command` lacks --transfer-set."""

    site: web.Site
    chosen: Path
    command: list[str]


@pytest.fixture(scope="module")
def task(
    tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make, run_python: Make
) -> Iterator[Task]:
    root = tmp_path_factory.mktemp("task")
    for folder in ("images", "pool/img_emb", "pool/metadata", "queries/a", "queries/b"):
        (root / folder).mkdir(parents=True)
    with web.sites() as serve:
        site = serve()
        site.files |= {f"/{n}.png": encode(picture(32, 32, seed=n), "png") for n in range(IMAGES)}
        site.behave["/7.png"] = web.status(503)
        for path, data in site.files.items():
            (root / f"images{path}").write_bytes(data)
        for number in range(4):
            data = encode(picture(32, 32, seed=900 + number), "png")
            (root / "queries" / "ab"[number % 2] / f"{number}.png").write_bytes(data)

        def curate(*arguments: object) -> None:
            succeeded(run_python(["-m", "curate.cli", *map(str, arguments)]))

        encoder = ("--encoder", "timm:test_efficientnet@none", "--image-size", 32, "--runtime", "eager")
        curate("build-index", "--pool", root / "images", "--index", root / "with-images", *encoder)
        _ready_embeddings(open_index(root / "with-images"), root / "pool", site)
        curate("build-index", "--pool", root / "pool", "--index", root / "index", *encoder)
        amount = ("--total", CHOSEN, "--shard-size", CHOSEN // SHARDS)
        queries = ("--query-dir", root / "queries")
        curate("retrieve", "--index", root / "index", *queries, *amount, "--out", root / "set")
        command = ["fetch", "--index", str(root / "index"), "--allow-private-hosts", "--retries", "0"]
        yield Task(site, root / "set", [*command, "--workers", "2"])


def _ready_embeddings(index: Index, folder: Path, site: web.Site) -> None:
    (part,) = index.parts
    np.save(folder / "img_emb/img_emb_0.npy", part.embeddings)
    urls = [site.url(f"/{item.key}.png") for item in index.items(np.arange(part.rows))]
    pq.write_table(pa.table({"url": urls}), folder / "metadata/metadata_0.parquet")


@pytest.fixture(scope="module")
def unbroken(task: Task, tmp_path_factory: pytest.TempPathFactory, run_python: Make) -> dict[str, bytes]:
    """What a run that nobody kills writes."""
    out = _copy(task, tmp_path_factory.mktemp("unbroken"))
    succeeded(run_python(["-m", "curate.cli", *task.command, "--transfer-set", str(out)]))
    assert len(list((out / "shards").glob("*.tar"))) == SHARDS
    return tree(out)


def _copy(task: Task, folder: Path) -> Path:
    return Path(shutil.copytree(task.chosen, folder / "set"))


@pytest.mark.parametrize(("moment", "hits"), [("within the downloads", 44), ("before the manifest", 0)])
def test_a_killed_run_goes_on(
    moment: str, hits: int, task: Task, unbroken: dict[str, bytes], tmp_path: Path, run_python: Make
) -> None:
    out = _copy(task, tmp_path)
    one_at_a_time = ("--threads", "1")
    killed = run_python(["-c", KILLED, moment, *task.command, *one_at_a_time, "--transfer-set", str(out)])
    assert killed.returncode == -9, killed.stderr
    assert b'"to fetch"' in (out / "manifest.json").read_bytes()
    before = task.site.hits.total()

    resumed = succeeded(run_python(["-m", "curate.cli", *task.command, "--transfer-set", str(out)]))
    assert "resuming with the images fetched before" in resumed.stderr
    assert task.site.hits.total() - before == hits, "what is there is not downloaded again"
    assert tree(out) == unbroken


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    task: Task, unbroken: dict[str, bytes], tmp_path: Path, run_python: Make
) -> None:
    out = _copy(task, tmp_path)
    full = run_python(["-c", CRAMPED, *task.command, "--transfer-set", str(out)])
    assert full.returncode == 6, full.stderr
    assert "Traceback" not in full.stderr
    assert not list(out.rglob(".tmp-*"))
    succeeded(run_python(["-m", "curate.cli", *task.command, "--transfer-set", str(out)]))
    assert tree(out) == unbroken


@pytest.mark.soak
def test_a_run_killed_again_and_again(task: Task, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    """Kills at random moments."""
    rng = random.Random(0)
    kills: Counter[str] = Counter()
    trials = 0
    while kills.total() < KILLS:
        (tmp_path / str(trials)).mkdir()
        out = _copy(task, tmp_path / str(trials))
        command = [sys.executable, "-m", "curate.cli", *task.command, "--transfer-set", str(out)]
        for stage in sorted(rng.sample(range(len(STAGES)), KILLS_A_RUN)):
            process = _start(command)
            _wait(process, out, STAGES[stage], rng)
            process.kill()
            if process.wait() == -9:
                kills[_state(out)] += 1
        assert _start(command).wait() == 0
        assert tree(out) == unbroken, f"trial {trials}, {dict(kills)}"
        trials += 1
    print(f"\n{trials} runs, {kills.total()} kills: {dict(kills)}")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )


def _wait(process: subprocess.Popen[bytes], out: Path, stage: str, rng: random.Random) -> None:
    """Wait until the run is so far, then a little longer; its end comes first sometimes."""
    kind, _, number = stage.partition(" ")
    pattern = {
        "begun": ".fetch/begun.json",
        "chunk": ".fetch/round-0/*.parquet",
        "checked": ".fetch/checked/*.parquet",
    }.get(kind, "shards/[0-9]*.tar")
    wanted = SHARDS if kind == "end" else int(number or 1)
    while process.poll() is None and _count(out, pattern) < wanted:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.1))


def _count(out: Path, pattern: str) -> int:
    return len(list(out.glob(pattern)))


def _state(out: Path) -> str:
    """What a kill left behind."""
    if b'"to fetch"' not in (out / "manifest.json").read_bytes():
        return "after the manifest"
    if not (out / ".fetch/begun.json").exists():
        return "before it had begun"
    if _count(out, "shards/[0-9]*.tar"):
        return "within the shards"
    chunks = _count(out, ".fetch/round-0/*.parquet")
    return "after the downloads" if chunks == -(-CHOSEN // 128) else "within the downloads"
