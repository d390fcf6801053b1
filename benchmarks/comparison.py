"""The paper's comparison on a pool and a task, out of one command.

    python benchmarks/comparison.py --pool POOL --task TASK --out DIR [--metric balanced_accuracy]

POOL is whatever `curate build-index` reads; TASK holds {train,val,test}/<class>/. Builds the index, draws a
few labels per class for every seed, retrieves a random and a query-balanced transfer set with them, writes
DIR/recipe.yaml and runs `distill compare` on it: labels only (tuned on val), and from either transfer set
task-agnostic, task-oriented and pseudo-label transfer, each finetuned on the labels; with --more-totals, a
learning curve over the size of the retrieved set too. Everything is written to DIR; the same command again
resumes, several at once share the work, and the last one prints the table.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pool_index import COSTS, pool_index

from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from curate.selection.strategies import StrategyName
from distill.comparison.compare import compare
from distill.comparison.compare_options import CompareOptions
from distill.comparison.labels import draw_labels, load_task
from distill.comparison.tables import print_comparison
from distill.loop.execution import Execution
from transferset.lock import DirectoryLock
from transferset.writes import read_json, write_bytes

RETRIEVED = "retrieved"


@dataclass(frozen=True)
class Setting:
    """What is compared. `total`: images of a transfer set; `more_totals`: of further query-balanced ones, for
    task-oriented transfer alone; `index`: a ready one (None: built)."""

    pool: list[Path]
    task: Path
    out: Path
    index: Path | None
    labels: list[int]
    seeds: list[int]
    total: int
    more_totals: list[int]
    steps: int
    batch_size: int
    lr: float
    views: int
    temperature: float | None
    feature_weight: float | None
    teacher: str
    teacher_size: int
    student: str
    image_size: int
    metric: str
    methods: list[str]
    runtime: str
    threads: int | None
    only: str | None
    near: bool


def retrieved(setting: Setting, index: Path) -> None:
    """The transfer sets of every budget and seed."""
    task = load_task(setting.task)
    for labels in map(str, setting.labels):
        for seed in setting.seeds:
            home = setting.out / "sets" / f"{labels}-seed{seed}"
            with DirectoryLock(home, ".sets.lock", wait=True):
                queries = draw_labels(task, labels, seed, home / "labels.parquet")
                for name, (strategy, total) in sets_of(setting).items():
                    chosen = SelectOptions(total=total, strategy=strategy, seed=seed)
                    exclude = (setting.task / "val", setting.task / "test")
                    options = RetrieveOptions(chosen, exclude_dirs=exclude, near=setting.near)
                    retrieve(index, queries.table, home / name, options)


def sets_of(setting: Setting) -> dict[str, tuple[StrategyName, int]]:
    """Strategy and size of every transfer set, by name."""
    sets: dict[str, tuple[StrategyName, int]] = {"random": ("random", setting.total)}
    for total in setting.more_totals:
        sets[f"{RETRIEVED}-{total}"] = ("query-balanced", total)
    return {**sets, RETRIEVED: ("query-balanced", setting.total)}


def recipe_sets(setting: Setting) -> dict[str, Any]:
    """The transfer sets as the recipe names them; query-balanced ones differ in size only."""
    found: dict[str, Any] = {}
    for name in sets_of(setting):
        found[name] = {"path": f"sets/{{labels}}-seed{{seed}}/{name}"}
        if name.startswith(RETRIEVED):
            found[name]["series"] = RETRIEVED
        if name.startswith(f"{RETRIEVED}-"):
            found[name]["methods"] = ["task-oriented"]
    return found


def recipe(setting: Setting) -> dict[str, Any]:
    """The recipe of `distill compare`."""
    costs = setting.out / COSTS
    task_oriented = {"temperature": setting.temperature, "feature_weight": setting.feature_weight}
    return {
        "task": str(setting.task.absolute()),
        "labels": setting.labels,
        "seeds": setting.seeds,
        "metric": setting.metric,
        "teacher": {"spec": setting.teacher, "image_size": setting.teacher_size},
        "student": {"spec": setting.student, "image_size": setting.image_size},
        "transfer_sets": recipe_sets(setting),
        "methods": setting.methods,
        "train": {
            "steps": setting.steps,
            "batch_size": setting.batch_size,
            "lr": setting.lr,
            "views": setting.views,
            **{name: value for name, value in task_oriented.items() if value is not None},
        },
        "runtime": setting.runtime,
        "costs": {"embedding the pool": read_json(costs)} if costs.exists() else {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pool", type=Path, action="append", default=[])
    parser.add_argument("--index", type=Path, help="a ready index instead of --pool")
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[10], help="labelled images per class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--total", type=int, default=2_000, help="images of a transfer set")
    parser.add_argument("--more-totals", type=int, nargs="+", default=[], help="for a learning curve")
    parser.add_argument("--steps", type=int, default=1_600)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--views", type=int, default=8, help="of every image, each labelled once")
    parser.add_argument("--temperature", type=float, help="of task-oriented transfer")
    parser.add_argument("--feature-weight", type=float, help="of the features beside it")
    parser.add_argument("--teacher", default="embedded", help="also the encoder of the index")
    parser.add_argument("--teacher-size", type=int, default=160)
    parser.add_argument("--student", default="timm:mobilenetv3_small_075@none")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--metric", default="top1", help="or balanced_accuracy")
    methods = ["task-oriented", "task-agnostic", "pseudo-labels", "labels-only"]
    parser.add_argument("--methods", nargs="+", default=methods)
    parser.add_argument("--runtime", default="auto", help="of the teacher")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", help="run only cells whose name matches, such as '*-seed0'")
    help_near = "keep near copies of val and test out by bytes and pixels alone: twenty views less of each"
    parser.add_argument("--no-near", dest="near", action="store_false", help=help_near)
    setting = Setting(**vars(parser.parse_args()))
    if not setting.pool and setting.index is None:
        parser.error("give --pool or --index")
    retrieved(setting, pool_index(setting.index, setting.pool, setting.out, setting.teacher))
    path = setting.out / "recipe.yaml"
    write_bytes(path, yaml.safe_dump(recipe(setting), sort_keys=False).encode())
    execution = Execution(threads=setting.threads)
    options = CompareOptions(path, setting.out / "comparison", setting.only, execution=execution)
    print_comparison(compare(options))


if __name__ == "__main__":
    main()
