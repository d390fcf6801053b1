"""What retrieval buys: a small student taught on random, best-match and query-balanced transfer sets.

    python benchmarks/transfer.py --pool POOL --task TASK --out DIR

POOL is whatever `curate build-index` reads; TASK holds {train,val,test}/<class>/. For every seed a few labels
a class are drawn, the teacher is adapted to them, and students are trained on transfer sets of the same size
with the same steps, views and recipe; the labels-only student is tuned on val, under every seed, over
schedules (up to as many images seen as the transfers) and augmentation strengths. Everything is written to
DIR; running the same command again resumes, and prints the table of what is there. Seeds may be worked on by
several processes at once, each with its own `--seeds`, once the index is there; a last run with all of them
prints the table.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from curate.index.build import build_index
from curate.index.options import BuildOptions
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from curate.selection.strategies import StrategyName
from distill.loop.plan import Plan
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.train import TrainOptions, train
from distill.statistics import paired_difference
from transferset.console import print_table, say

STRATEGIES: tuple[StrategyName, ...] = ("random", "best-match", "query-balanced")
AUGMENTS = ("light", "standard", "strong")
SHARES = (1 / 16, 1 / 4)
LRS = (2e-3, 1e-3, 4e-3)


@dataclass(frozen=True)
class Setting:
    """What is compared, and how long students train. `steps` belongs to the largest total; smaller transfer
    sets get steps in proportion to the square root of their size."""

    pool: list[Path]
    task: Path
    out: Path
    labels: int
    seeds: list[int]
    totals: list[int]
    steps: int
    batch_size: int
    teacher: str
    teacher_size: int
    student: str
    image_size: int
    views: int

    def steps_for(self, total: int) -> int:
        """Steps of every transfer on `total` images."""
        return round(self.steps * (total / max(self.totals)) ** 0.5)


@dataclass(frozen=True)
class Row:
    """One trained thing under one seed: test predictions, what it cost, and what it is called."""

    name: str
    seed: int
    right: np.ndarray
    costs: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Test top-1."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Baseline:
    """How a labels-only student is trained."""

    steps: int
    augment: str
    lr: float


def few_labels(setting: Setting, seed: int) -> Path:
    """A folder with `labels` images per class in train, drawn by `seed`, and val and test whole, as links."""
    folder = setting.out / f"seed{seed}" / "labels"
    for directory in sorted((setting.task / "train").iterdir()):
        images = sorted(path for path in directory.iterdir() if path.is_file())
        chosen = random.Random(seed).sample(images, min(setting.labels, len(images)))
        (folder / "train" / directory.name).mkdir(parents=True, exist_ok=True)
        for image in chosen:
            link = folder / "train" / directory.name / image.name
            if not link.exists():
                link.symlink_to(image.resolve())
    for split in ("val", "test"):
        if not (folder / split).exists():
            (folder / split).symlink_to((setting.task / split).resolve())
    return folder


def tested(name: str, seed: int, model: Path, data: Path, costs: dict[str, Any]) -> Row:
    """Evaluate on the test split; the answers to every image are kept beside the model."""
    predictions = model / "test_predictions.parquet"
    if not predictions.exists():
        evaluate(EvaluateOptions(model=model, data=data, predictions=predictions))
    table = pq.read_table(predictions)
    right = np.array(table["label"].to_pylist()) == np.array(table["predicted"].to_pylist())
    return Row(name, seed, right, costs)


def transferred(setting: Setting, seed: int, total: int, strategy: StrategyName, data: Path) -> list[Row]:
    """One transfer set, the student taught on it, and the same student finetuned."""
    home = setting.out / f"seed{seed}"
    cell = home / f"{strategy}-{total}"
    retrieved = retrieve(
        setting.out / "index",
        data,
        cell / "transfer_set",
        RetrieveOptions(
            SelectOptions(total=total, strategy=strategy, seed=seed),
            exclude_dirs=(setting.task / "val", setting.task / "test"),
        ),
    )
    plan = Plan(steps=setting.steps_for(total), batch_size=setting.batch_size)
    taught = train(
        TrainOptions(
            shards=(retrieved.out,),
            teacher=home / "teacher",
            student=setting.student,
            out=cell / "student",
            data=data,
            image_size=setting.image_size,
            plan=plan,
            views=setting.views,
            seed=seed,
        )
    )
    rows = [tested(f"{strategy} {total}, transfer", seed, cell / "student", data, taught.costs)]
    tuned = finetune(FinetuneOptions(data=data, out=cell / "finetuned", from_run=cell / "student", seed=seed))
    rows.append(tested(f"{strategy} {total}, finetuned", seed, cell / "finetuned", data, tuned.costs))
    return rows


def labels_only(setting: Setting, seed: int, recipe: Baseline, data: Path) -> tuple[float, Path]:
    """A student trained on the labels alone; its score on val and where it is."""
    name = f"labels-only-{recipe.steps}-{recipe.augment}-{recipe.lr:g}"
    out = setting.out / f"seed{seed}" / name
    report = finetune(
        FinetuneOptions(
            data=data,
            out=out,
            student=setting.student,
            image_size=setting.image_size,
            plan=Plan(steps=recipe.steps, batch_size=setting.batch_size, lr=recipe.lr),
            augment=recipe.augment,
            seed=seed,
        )
    )
    return report.score or 0.0, out


def tuned_labels_only(setting: Setting, seed: int, data: Path) -> Row:
    """The labels-only student that is best on val: over schedules and augmentations, then over learning rates
    with the better augmentation, then on the longest schedule with both. Within every run val also chooses
    the step."""
    tried: dict[Baseline, float] = {}

    def best(recipes: list[Baseline]) -> Baseline:
        for recipe in recipes:
            tried[recipe] = labels_only(setting, seed, recipe, data)[0]
        return max(recipes, key=lambda recipe: tried[recipe])

    short, middle = (round(setting.steps * share) for share in SHARES)
    best([Baseline(short, augment, LRS[0]) for augment in AUGMENTS])
    augment = best([Baseline(middle, augment, LRS[0]) for augment in AUGMENTS]).augment
    lr = best([Baseline(middle, augment, lr) for lr in LRS]).lr
    best([Baseline(setting.steps, augment, lr)])
    chosen = max(tried, key=lambda recipe: tried[recipe])
    say(f"labels only, seed {seed}: best on val are {chosen}")
    out = labels_only(setting, seed, chosen, data)[1]
    costs = json.loads((out / "report.json").read_text())["costs"]
    return tested("labels only", seed, out, data, costs)


def run(setting: Setting) -> list[Row]:
    """Everything, seed by seed; the largest transfer sets first."""
    if not (setting.out / "index" / "manifest.json").exists():
        build_index(setting.pool, setting.out / "index", BuildOptions(encoder=setting.teacher))
    rows: list[Row] = []
    folders = {seed: few_labels(setting, seed) for seed in setting.seeds}
    for seed, data in folders.items():
        home = setting.out / f"seed{seed}"
        adapted = adapt(
            AdaptOptions(
                data=data,
                teacher=setting.teacher,
                out=home / "teacher",
                image_size=setting.teacher_size,
                seed=seed,
            )
        )
        rows.append(tested("teacher", seed, home / "teacher", data, adapted.costs))
    for total in sorted(setting.totals, reverse=True):
        for seed, data in folders.items():
            for strategy in reversed(STRATEGIES):
                rows += transferred(setting, seed, total, strategy, data)
    rows += [tuned_labels_only(setting, seed, data) for seed, data in folders.items()]
    return rows


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by name, seeds in order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return {name: sorted(group, key=lambda row: row.seed) for name, group in groups.items()}


def summary(name: str, group: list[Row]) -> list[str]:
    """A line of the table: accuracy over seeds, and the mean cost of a run."""
    accuracies = np.array([100 * row.accuracy for row in group])
    deviation = accuracies.std(ddof=1) if len(group) > 1 else 0.0
    stages = {stage for row in group for stage in row.costs}

    def mean(stage: str, what: str) -> float:
        return float(np.mean([row.costs.get(stage, {}).get(what, 0.0) for row in group]))

    costs = "; ".join(
        f"{stage} {mean(stage, 'images'):,.0f} images, {mean(stage, 'seconds'):,.0f} s"
        + (f", {mean(stage, 'flops'):.2g} FLOPs" if mean(stage, "flops") else "")
        for stage in sorted(stages)
    )
    return [name, f"{accuracies.mean():.1f} ± {deviation:.1f}", str(len(group)), costs]


def differences(groups: dict[str, list[Row]], totals: list[int]) -> list[list[str]]:
    """Query-balanced against everything else, at every size; the finetuned students are the headline."""
    lines = []
    for total in sorted(totals, reverse=True):
        ours = f"query-balanced {total}, finetuned"
        for other in (
            f"random {total}, finetuned",
            f"best-match {total}, finetuned",
            "labels only",
            "teacher",
        ):
            if ours not in groups or other not in groups:
                continue
            seeds = {row.seed for row in groups[ours]} & {row.seed for row in groups[other]}
            first, second = (
                np.stack([row.right for row in groups[name] if row.seed in seeds]) for name in (ours, other)
            )
            gap = paired_difference(first, second, same_seeds=True)
            interval = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
            lines.append([ours, other, interval, gap.told])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pool", type=Path, action="append", required=True)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=10, help="labelled images per class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--totals", type=int, nargs="+", default=[1_000, 4_000])
    parser.add_argument("--steps", type=int, default=2_400, help="of the largest transfer")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--teacher", default="embedded", help="also the encoder of the index")
    parser.add_argument("--teacher-size", type=int, default=160)
    parser.add_argument("--student", default="timm:mobilenetv3_small_075@none")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--views", type=int, default=8, help="of every image, each labelled once")
    setting = Setting(**vars(parser.parse_args()))
    groups = grouped(run(setting))
    lines = [summary(name, group) for name, group in groups.items()]
    print_table("Test top-1, mean ± standard deviation over seeds", ["", "top-1 %", "seeds", "cost"], lines)
    print_table(
        "Differences in points, paired by test image and seed, with 95 % interval",
        ["", "against", "difference", ""],
        differences(groups, setting.totals),
    )


if __name__ == "__main__":
    main()
