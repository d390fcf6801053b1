"""What makes a student better than the plain recipe, one change after the other, and what each costs.

    python benchmarks/better_student.py --pool POOL --task TASK --out DIR

POOL is whatever `curate build-index` reads; TASK holds {train,val,test}/<class>/. For every seed a few labels
a class are drawn, the teacher is adapted to them, and students are trained on query-balanced transfer sets
and finetuned, each with one change more than the one before. Prints test accuracy, its share of the
teacher's, FLOPs and seconds, and draws accuracy against cost (DIR/curve.png). The same command again resumes;
several at once, each with its own `--only` and `--seeds`, share the work; a last one with all of them prints
the table.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from curate.index.build import build_index
from curate.index.options import BuildOptions
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.selection import SelectOptions
from distill.comparison.costs import cost_of_run, read_seconds, total, wall_clock
from distill.comparison.labels import draw_labels, load_task
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import REPORT
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.train import TrainOptions, train
from transferset.console import print_table
from transferset.lock import DirectoryLock
from transferset.plots import png
from transferset.writes import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Variant:
    """A way to train a student; `change`: from the one before, in words."""

    name: str
    change: str
    student: str = "timm:mobilenetv3_small_075@none"
    total: int = 4_000
    steps: int = 2_400
    feature_weight: float = 0.0


PLAIN = Variant("plain", "class probabilities alone, MobileNetV3-Small 0.75")
ARCHITECTURE = replace(PLAIN, name="architecture", change="RegNetX-200MF", student="timm:regnetx_002@none")
FEATURES = replace(ARCHITECTURE, name="features", change="features beside them", feature_weight=20.0)
LONGER = replace(
    FEATURES, name="longer", change="four times the images, nine times the steps", total=16_000, steps=21_600
)
VARIANTS = (PLAIN, ARCHITECTURE, FEATURES, LONGER)


@dataclass(frozen=True)
class Setting:
    """What all variants share; `index`: a ready one (None: built)."""

    pool: list[Path]
    index: Path | None
    task: Path
    out: Path
    labels: int
    seeds: list[int]
    only: list[str]
    teacher: str
    teacher_size: int
    image_size: int
    batch_size: int
    views: int
    threads: int | None
    near: bool


@dataclass(frozen=True)
class Run:
    """One student of one seed: its accuracy on test, that of its teacher, and the cost of its training."""

    accuracy: float
    teacher: float
    flops: float
    seconds: float


def indexed(setting: Setting) -> Path:
    """The pool's index."""
    if setting.index is not None:
        return setting.index
    index = setting.out / "index"
    with DirectoryLock(setting.out, ".index.lock", wait=True):
        if not (index / "manifest.json").exists():
            build_index(setting.pool, index, BuildOptions(encoder=setting.teacher))
    return index


def tested(model: Path, data: Path) -> float:
    """Test top-1."""
    predictions = model / "test_predictions.parquet"
    if not predictions.exists():
        evaluate(EvaluateOptions(model=model, data=data, predictions=predictions))
    table = pq.read_table(predictions)
    return float(np.mean(np.array(table["label"].to_pylist()) == np.array(table["predicted"].to_pylist())))


def trained(setting: Setting, index: Path, variant: Variant, seed: int) -> Run:
    """Labels, teacher, transfer set, student, finetuned."""
    home = setting.out / f"seed{seed}"
    execution = Execution(threads=setting.threads)
    with DirectoryLock(home, ".shared.lock", wait=True):
        data = draw_labels(load_task(setting.task), str(setting.labels), seed, home / "labels.parquet").table
        options = AdaptOptions(
            data=data,
            teacher=setting.teacher,
            out=home / "teacher",
            image_size=setting.teacher_size,
            seed=seed,
            execution=execution,
        )
        adapt(options)
        teacher = tested(home / "teacher", data)
        chosen = SelectOptions(total=variant.total, seed=seed)
        exclude = (setting.task / "val", setting.task / "test")
        wanted = RetrieveOptions(chosen, exclude_dirs=exclude, near=setting.near)
        shards = retrieve(index, data, home / f"set-{variant.total}", wanted).out
    out = home / variant.name
    with wall_clock(home / f"{variant.name}.train.json", out / "student" / REPORT):
        taught = train(
            TrainOptions(
                shards=(shards,),
                teacher=home / "teacher",
                student=variant.student,
                out=out / "student",
                data=data,
                feature_weight=variant.feature_weight,
                image_size=setting.image_size,
                plan=Plan(steps=variant.steps, batch_size=setting.batch_size),
                views=setting.views,
                seed=seed,
                execution=execution,
            )
        )
    with wall_clock(home / f"{variant.name}.finetune.json", out / "finetuned" / REPORT):
        tuned = finetune(
            FinetuneOptions(
                data=data, out=out / "finetuned", from_run=out / "student", seed=seed, execution=execution
            )
        )
    clocks = [read_seconds(home / f"{variant.name}.{stage}.json") for stage in ("train", "finetune")]
    spent = [
        *cost_of_run("train", taught.costs, clocks[0]),
        *cost_of_run("finetune", tuned.costs, clocks[1]),
    ]
    cost = total(spent)
    return Run(tested(out / "finetuned", data), teacher, cost.flops, cost.seconds)


def line(variant: Variant, runs: Sequence[Run]) -> list[str]:
    """A line of the table, means over seeds."""
    accuracy = np.array([100 * run.accuracy for run in runs])
    share = np.mean([run.accuracy / run.teacher for run in runs])
    deviation = f" ± {accuracy.std(ddof=1):.1f}" if len(runs) > 1 else ""
    flops, seconds = (np.mean([getattr(run, what) for run in runs]) for what in ("flops", "seconds"))
    return [
        f"{'' if variant == PLAIN else '+ '}{variant.change}",
        f"{variant.total:,} × {variant.steps:,}",
        f"{accuracy.mean():.1f}{deviation}",
        f"{100 * share:.0f} %",
        f"{flops:.1e}",
        f"{seconds / 60:.0f} min",
    ]


def curve(found: dict[Variant, list[Run]]) -> bytes:
    """Test accuracy against what training costs; the teacher, and 85 % of it, are lines."""

    def draw(axes: "Axes") -> None:
        points = [
            (np.mean([run.flops for run in runs]), 100 * np.mean([run.accuracy for run in runs]))
            for runs in found.values()
        ]
        axes.plot(*zip(*points, strict=True), "o-", color="#2f6db5")
        for variant, point in zip(found, points, strict=True):
            axes.annotate(variant.name, point, xytext=(6, -9), textcoords="offset points", fontsize=8)
        teacher = float(100 * np.mean([run.teacher for runs in found.values() for run in runs]))
        for height, name in ((teacher, "the teacher"), (0.85 * teacher, "85 % of it")):
            axes.axhline(height, color="#888888", linewidth=1, linestyle=":", label=name)
            axes.annotate(name, (points[0][0], height), xytext=(0, 3), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel="FLOPs of training, teacher included", ylabel="test top-1, %")
        axes.set(title="One change after the other")
        axes.xaxis.set_minor_formatter("")

    return png(draw, 5.6, 3.6)


def main() -> None:
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pool", type=Path, action="append", default=[])
    parser.add_argument("--index", type=Path, help="a ready index instead of --pool")
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=10, help="labelled images a class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--teacher", default="embedded", help="also the encoder of the index")
    parser.add_argument("--teacher-size", type=int, default=160)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--views", type=int, default=8, help="of every image, each labelled once")
    parser.add_argument("--threads", type=int)
    help_near = "keep near copies of val and test out by bytes and pixels alone: twenty views less of each"
    parser.add_argument("--no-near", dest="near", action="store_false", help=help_near)
    setting = Setting(**vars(parser.parse_args()))
    if not setting.pool and setting.index is None:
        parser.error("give --pool or --index")
    index = indexed(setting)
    found = {
        variant: [trained(setting, index, variant, seed) for seed in setting.seeds]
        for variant in VARIANTS
        if variant.name in setting.only
    }
    write_bytes(setting.out / "curve.png", curve(found))
    columns = ["", "images × steps", "test top-1 %", "of the teacher's", "FLOPs", "time"]
    print_table("Students, each with one change more", columns, [line(*one) for one in found.items()])
    print(f"accuracy against cost: {setting.out / 'curve.png'}")


if __name__ == "__main__":
    main()
