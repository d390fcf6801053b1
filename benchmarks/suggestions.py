"""Is labelling what `curate suggest` names better than labelling random images near the task?

    python benchmarks/suggestions.py --task TASK --out DIR [--others DIR ...] [--seeds 8]

TASK has `train` and `val` with a folder a class. The pool is its train split, whose labels are known but not
told, and up to 200 images of each folder in --others, which belong to no class. In each trial a few images a
class are the queries, the suggested ones and as many random ones of the same candidates are labelled in turn,
and a nearest-class-mean classifier and a ridge probe on the encoder's embeddings (`embedded`, 160 px) are
tested on val. The last trial starts with half of the classes. Prints means over seeds, and on how many seeds
the suggestions won.
"""

import argparse
import contextlib
import io
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from curate.index.build import build_index
from curate.index.encoder import IndexEncoder
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.retrieval import encode_queries, retrieve_items
from curate.selection.queries import QuerySet, load_queries
from curate.selection.select_options import SelectOptions
from curate.suggestion.suggest import SuggestOptions, suggest
from transferset.vectors import unit

OTHERS = 200
DRAWS = 5
TRIALS = ((1.0, 1, 1), (1.0, 1, 3), (1.0, 3, 3), (0.5, 5, 4))
"""Share of the classes that have queries, queries a class, and new labels for each of these classes."""


@dataclass(frozen=True)
class Task:
    """The index, every image's label by item id in hex (None: no class), train's files, and val's vectors
    (n, d) and labels (n,)."""

    index: Index
    labels: dict[str, str | None]
    files: dict[str, list[Path]]
    val: np.ndarray
    val_labels: np.ndarray


def prepare(task: Path, others: list[Path], out: Path) -> Task:
    """Lay out the pool, build its index and embed val."""
    pool = out / "pool"
    shutil.copytree(task / "train", pool / "train", dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    for number, folder in enumerate(others):
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        (pool / f"others{number}").mkdir(exist_ok=True)
        for one in rng.permutation(len(found))[:OTHERS].tolist():
            shutil.copy2(found[one], pool / f"others{number}")
    build_index([pool], out / "index", BuildOptions(encoder="embedded", image_size=160, faiss=False))
    index = open_index(out / "index")
    model = IndexEncoder(index).model
    val = load_queries(task / "val")
    labels: dict[str, str | None] = {}
    for part in index.parts:
        for item in part.read(np.arange(part.rows)):
            top, name = Path(item.path or "").parts[:2]
            labels[item.item_id.hex()] = name if top == "train" else None
    files = {folder.name: sorted(folder.iterdir()) for folder in sorted((task / "train").iterdir())}
    return Task(index, labels, files, encode_queries(index, model, val.queries), np.array(val.labels))


def score(task: Task, chosen: list[str]) -> tuple[float, float, int]:
    """Val accuracy (%) of nearest class mean and of a ridge probe on the chosen items that have a class, and
    how many classes these are of."""
    from sklearn.linear_model import RidgeClassifier

    own = [one for one in dict.fromkeys(chosen) if task.labels[one] is not None]
    positions = [task.index.find(bytes.fromhex(one)) for one in own]
    vectors = unit(task.index.vectors(np.array(positions, dtype=np.int64)))
    labels = np.array([task.labels[one] for one in own])
    classes = np.unique(labels)
    means = np.stack([vectors[labels == one].mean(axis=0) for one in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    nearest = (classes[(task.val @ means.T).argmax(axis=1)] == task.val_labels).mean()
    probe = RidgeClassifier(alpha=0.3).fit(vectors, labels).score(task.val, task.val_labels)
    return 100 * float(nearest), 100 * float(probe), len(classes)


def neighbourhood(task: Task, queries: QuerySet, about: dict[str, object]) -> list[str]:
    """The candidates among which the suggestions were chosen, as item ids."""
    positions = [task.index.find(bytes.fromhex(query.query_id)) for query in queries.queries]
    vectors = unit(task.index.vectors(np.array(positions, dtype=np.int64)))
    ready = [replace(query, vector=vector) for query, vector in zip(queries.queries, vectors, strict=True)]
    options = SelectOptions(total=about["total"], seed=about["seed"])  # type: ignore[arg-type]
    picks = retrieve_items(task.index, None, ready, options).picks
    return [item.item_id.hex() for item in task.index.items(np.array([one.position for one in picks]))]


def trial(task: Task, out: Path, share: float, each: int, more: int, seed: int) -> dict[str, np.ndarray]:
    """Scores (3,) of the queries alone, with suggestions, and with random ones (mean over draws)."""
    rng = np.random.default_rng(seed)
    names = sorted(rng.permutation(sorted(task.files))[: round(share * len(task.files))].tolist())
    for folder in (out / "queries", out / "suggested"):
        shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        (out / "queries" / name).mkdir(parents=True)
        for one in rng.permutation(len(task.files[name]))[:each].tolist():
            shutil.copy(task.files[name][one], out / "queries" / name)
    queries = load_queries(out / "queries")
    known = [query.query_id for query in queries.queries]
    options = SuggestOptions(count=more * len(names), seed=seed)
    with contextlib.redirect_stderr(io.StringIO()):
        report = suggest(task.index, out / "queries", out / "suggested", options)
    files = report.manifest["files"]
    chosen = [Path(name).stem for name in files if name.startswith("images/")]
    candidates = neighbourhood(task, queries, report.manifest["arguments"]["selection"])
    assert set(chosen) <= set(candidates) and len(chosen) == options.count
    draws = [rng.choice(candidates, len(chosen), replace=False).tolist() for _ in range(DRAWS)]
    return {
        "queries only": np.array(score(task, known)),
        "suggested": np.array(score(task, [*known, *chosen])),
        "random": np.mean([score(task, [*known, *draw]) for draw in draws], axis=0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--others", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    task = prepare(given.task, given.others, given.out)
    for share, each, more in TRIALS:
        runs = [trial(task, given.out, share, each, more, seed) for seed in range(given.seeds)]
        classes = round(share * len(task.files))
        print(f"\n{classes} classes with {each} labels each, then {more * classes} more")
        for name in runs[0]:
            nearest, probe, known = np.mean([run[name] for run in runs], axis=0)
            print(
                f"  {name:<14}nearest mean {nearest:5.1f} %   ridge probe {probe:5.1f} %  classes {known:.1f}"
            )
        gains = np.array([run["suggested"] - run["random"] for run in runs])[:, :2]
        print(
            f"  suggested - random: {gains[:, 0].mean():+.1f} ± {gains[:, 0].std(ddof=1):.1f} and "
            f"{gains[:, 1].mean():+.1f} ± {gains[:, 1].std(ddof=1):.1f} points; more on "
            f"{(gains > 0).all(axis=1).sum()} of {len(runs)} seeds by both"
        )


if __name__ == "__main__":
    main()
