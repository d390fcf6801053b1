"""Query-balanced selection at scale: anonymous memory, wall time against the bare products, quotas.

    python benchmarks/selection_scale.py --work DIR [--rows 1000000 --queries 1200 --total 150000]

Writes an index of made-up clustered rows to DIR (once; it is used again) with the project's own writer, and
selects from it in a process of its own. Anonymous memory is RssAnon at its peak over all processes, above
that of an interpreter with the same imports; pages of mapped files are told apart. The bare products are a
float32 matmul of all queries with the whole matrix, which is in memory, in blocks of 65,536 rows with as many
threads. The defaults take about a minute.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from made_index import plan_of, write_index
from process_memory import run_measured

import curate.retrieval as retrieval
from curate.index.index import open_index
from curate.selection.queries import Query
from curate.selection.select_options import SelectOptions

PART_ROWS = 50_000
BLOCK_ROWS = 65_536
IMAGES_A_CENTRE = 250
CLASSES = 20


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


class Made:
    """Rows around centres, centres in groups: the cosine of two rows is about 0.61 at one centre, 0.34 in one
    group and 0 else; sizes of centres fall like a power of their rank."""

    def __init__(self, rows: int, dimension: int, groups: int) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.rows, self.dimension = rows, dimension
        count = max(groups, rows // IMAGES_A_CENTRE)
        self.group_of = torch.arange(count) % groups
        middle = unit(self.noise(groups))
        self.centres = unit(middle[self.group_of] + 0.9 * unit(self.noise(count)))
        self.weights = (torch.arange(count) + 10.0) ** -0.7

    def noise(self, count: int) -> torch.Tensor:
        return torch.randn(count, self.dimension, generator=self.generator)

    def around(self, centres: torch.Tensor) -> torch.Tensor:
        return unit(self.centres[centres] + 0.8 * unit(self.noise(len(centres))))

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, a part a block."""
        for start in range(0, self.rows, PART_ROWS):
            count = min(PART_ROWS, self.rows - start)
            drawn = torch.multinomial(self.weights, count, replacement=True, generator=self.generator)
            yield self.around(drawn).numpy()

    def queries(self, count: int) -> np.ndarray:
        """Queries (count, d) of twenty classes: each class is one group."""
        of_class = torch.arange(count) % CLASSES
        chosen = torch.zeros(count, dtype=torch.int64)
        for label in range(CLASSES):
            members = torch.nonzero(self.group_of == label).flatten()
            own = torch.nonzero(of_class == label).flatten()
            weights = self.weights[members]
            chosen[own] = members[
                torch.multinomial(weights, len(own), replacement=True, generator=self.generator)
            ]
        return self.around(chosen).numpy()


def select(index: Path, total: int, threads: int) -> dict[str, float]:
    """What the child does: open the index, select, and look whether every quota is full."""
    torch.set_num_threads(threads)
    vectors = np.load(index.parent / "queries.npy")
    queries = [
        Query(f"{number:032x}", f"class {number % CLASSES}", str(number), vector=vector)
        for number, vector in enumerate(vectors)
    ]
    start = time.perf_counter()
    opened = open_index(index)
    selection = retrieval.retrieve_items(opened, None, queries, SelectOptions(total=total))
    seconds = time.perf_counter() - start
    full = sum(filled == quota for filled, quota in zip(selection.filled, selection.quotas, strict=True))
    distinct = len({pick.position for pick in selection.picks})
    return {
        "seconds": seconds,
        "full": full / len(queries),
        "picks": len(selection.picks),
        "distinct": distinct,
    }


def products(index: Path, threads: int) -> dict[str, float]:
    """The bare products, twice: the second counts."""
    torch.set_num_threads(threads)
    queries = torch.from_numpy(np.load(index.parent / "queries.npy"))
    opened = open_index(index)
    matrix = torch.cat([torch.from_numpy(np.asarray(part.embeddings, np.float32)) for part in opened.parts])
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for first in range(0, len(matrix), BLOCK_ROWS):
            queries @ matrix[first : first + BLOCK_ROWS].T
        seconds = time.perf_counter() - start
    return {"seconds": seconds}


def make(given: argparse.Namespace) -> Path:
    folder: Path = given.work / f"{given.rows}x{given.dimension}-{given.queries}"
    if not (folder / "queries.npy").exists():
        start = time.perf_counter()
        made = Made(given.rows, given.dimension, given.groups)
        write_index(folder / "index", plan_of(given.dimension), made.blocks(), with_faiss=False)
        np.save(folder / "queries.npy", made.queries(given.queries))
        print(f"index written in {time.perf_counter() - start:.0f} s")
    print(f"rows: {Made.__doc__}")
    return folder / "index"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=240)
    parser.add_argument("--total", type=int, default=30_000)
    parser.add_argument("--groups", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", choices=["imports", "select", "products"], help=argparse.SUPPRESS)
    return parser.parse_args()


def child(given: argparse.Namespace, index: Path) -> dict[str, float]:
    if given.child == "imports":
        torch.set_num_threads(given.threads)
        torch.ones(64, 64) @ torch.ones(64, 64)
        time.sleep(1)
        return {}
    if given.child == "select":
        return select(index, given.total, given.threads)
    return products(index, given.threads)


def main() -> None:
    given = parse()
    if given.child is not None:
        folder = given.work / f"{given.rows}x{given.dimension}-{given.queries}"
        print(json.dumps(child(given, folder / "index")))
        return
    make(given)
    base = run_measured([sys.executable, *sys.argv, "--child", "imports"])
    rounds = []
    for _ in range(given.rounds):
        bare = json.loads(run_measured([sys.executable, *sys.argv, "--child", "products"]).output)
        peak = run_measured([sys.executable, *sys.argv, "--child", "select"])
        found = json.loads(peak.output)
        rounds.append(found["seconds"] / bare["seconds"])
        print(
            f"selection {found['seconds']:.2f} s, bare products {bare['seconds']:.2f} s, "
            f"ratio {rounds[-1]:.2f}"
        )
    print(f"ratio of wall times: {sorted(rounds)[len(rounds) // 2]:.2f} (median; aim: at most 1.5)")
    print(
        f"anonymous memory: {peak.anonymous:.0f} MiB, {peak.anonymous - base.anonymous:.0f} MiB above the "
        f"imports alone (aim: at most 1.5 GB); mapped files {peak.files:.0f} MiB, {peak.processes} processes"
    )
    print(
        f"queries with a full quota: {found['full']:.2%} (aim: 100 %); {found['picks']:,} images, "
        f"{found['distinct']:,} distinct"
    )


if __name__ == "__main__":
    main()
