"""What makes a student better than the plain recipe, and what each change costs.

    python benchmarks/better_student.py --pool POOL --task TASK --out DIR
    python benchmarks/better_student.py … --seeds 0 1 2 --only features refined

POOL is whatever `curate build-index` reads; TASK holds {train,val,test}/<class>/. For every seed a few labels
a class are drawn, the teacher is adapted to them, and students are trained on transfer sets and finetuned:
first a ladder, each step with one change more than the one before, then (named by --only) single changes of
one of its steps. Prints test accuracy, its share of the teacher's, the difference to what was changed (paired
by image and seed, with its 95 % interval), FLOPs and minutes, and draws accuracy against cost
(DIR/curve.png). The same command again resumes; several at once, each with its own `--only` and `--seeds`,
share the work; a last one with all of them prints the table, or one with --finished what there is of it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pool_index import pool_index
from student_run import Run, Setting, is_finished, run
from student_variants import ASIDES, LADDER, VARIANTS

from distill.statistics import paired_difference
from distill.task import CLASSIFICATION, TOP1
from transferset.console import print_table
from transferset.plots import png
from transferset.writes import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Found = Mapping[str, Mapping[int, Run]]  # by variant and seed


def line(name: str, found: Found) -> list[str]:
    """A line of the table, means over seeds; the difference over the seeds that the base has too."""
    variant, runs = VARIANTS[name], found[name]
    accuracy = np.array([100 * one.accuracy for one in runs.values()])
    share = np.mean([one.accuracy / one.teacher for one in runs.values()])
    deviation = f" ± {accuracy.std(ddof=1):.1f}" if len(runs) > 1 else ""
    flops, seconds = (
        np.mean([getattr(one.cost, what) for one in runs.values()]) for what in ("flops", "seconds")
    )
    return [
        name,
        f"{variant.base} + {variant.change}" if variant.base else variant.change,
        f"{variant.total:,} × {variant.steps:,}",
        f"{accuracy.mean():.1f}{deviation}",
        difference(runs, found.get(variant.base or "", {})),
        f"{100 * share:.0f} %",
        f"{flops:.1e}",
        f"{seconds / 60:.0f}",
        f"{len(runs)}",
    ]


def difference(runs: Mapping[int, Run], base: Mapping[int, Run]) -> str:
    """Points above the base, with the interval; nothing without a seed in common."""
    seeds = sorted(runs.keys() & base.keys())
    if not seeds:
        return ""
    first, second = (np.stack([one[seed].tested.right for seed in seeds]) for one in (runs, base))
    gap = paired_difference(first, second, runs[seeds[0]].tested.classes, same_seeds=True)
    told = "" if gap.knows_runs else ", one seed"
    return f"{100 * gap.mean:+.1f} [{100 * gap.low:.1f}, {100 * gap.high:.1f}]{told}"


def curve(found: Found) -> bytes:
    """Test accuracy against what training costs; the teacher, and 85 % of it, are lines."""
    points = {
        name: (
            float(np.mean([one.cost.flops for one in runs.values()])),
            100 * float(np.mean([one.accuracy for one in runs.values()])),
        )
        for name, runs in found.items()
    }
    teacher = 100 * float(np.mean([one.teacher for runs in found.values() for one in runs.values()]))

    def draw(axes: "Axes") -> None:
        ladder = [points[variant.name] for variant in LADDER if variant.name in points]
        asides = [points[variant.name] for variant in ASIDES if variant.name in points]
        if ladder:
            axes.plot(*zip(*ladder, strict=True), "o-", color="#2f6db5", label="one change after the other")
        if asides:
            axes.plot(*zip(*asides, strict=True), "s", color="#c46a2b", markersize=4, label="single changes")
        for variant in LADDER:
            if variant.name in points:
                axes.annotate(
                    variant.name,
                    points[variant.name],
                    xytext=(-6, 4),
                    textcoords="offset points",
                    ha="right",
                    fontsize=7,
                )
        named = sorted(
            (variant.name for variant in ASIDES if variant.name in points), key=lambda name: points[name][1]
        )
        column = 1.4 * max((points[name][0] for name in named), default=0.0)
        for name, height in zip(named, apart([points[name][1] for name in named], 0.8), strict=True):
            axes.annotate(
                name,
                points[name],
                xytext=(column, height),
                va="center",
                fontsize=7,
                arrowprops={"arrowstyle": "-", "color": "#bbbbbb"},
            )
        left = min(cost for cost, _ in points.values())
        for height, what in ((teacher, "the teacher"), (0.85 * teacher, "85 % of it")):
            axes.axhline(height, color="#888888", linewidth=1, linestyle=":")
            axes.annotate(what, (left, height), xytext=(0, 3), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel="FLOPs of training, teacher included", ylabel="test accuracy, %")
        axes.legend(loc="center right", fontsize=8)
        axes.margins(x=0.1, y=0.08)
        axes.xaxis.set_minor_formatter("")

    return png(draw, 7.2, 4.4)


def apart(heights: list[float], gap: float) -> list[float]:
    """Ascending heights moved away from each other by as little as leaves `gap` between them, roughly."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    middle = (sum(heights) - sum(placed)) / max(1, len(placed))
    return [height + middle for height in placed]


def table(found: Found) -> None:
    """Print what was found, in the order of the variants."""
    columns = [
        "",
        "",
        "images × steps",
        "test accuracy %",
        "above it",
        "of the teacher's",
        "FLOPs",
        "min",
        "n",
    ]
    print_table("Students", columns, [line(name, found) for name in VARIANTS if name in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pool", type=Path, action="append", default=[])
    parser.add_argument("--index", type=Path, help="a ready index instead of --pool")
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=10, help="labelled images per class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    ladder = [variant.name for variant in LADDER]
    described = "\n".join(f"{one.name}: {one.base or ''} + {one.change}" for one in VARIANTS.values())
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=ladder, help=described, metavar="NAME")
    parser.add_argument("--teacher", default="embedded", help="also the encoder of the index")
    parser.add_argument("--teacher-size", type=int, default=160)
    parser.add_argument("--image-size", type=int, default=96)
    help_finished = "train nothing, show what there is of --only and --seeds"
    parser.add_argument("--finished", action="store_true", help=help_finished)
    parser.add_argument("--metric", choices=list(CLASSIFICATION.scores), default=TOP1)
    parser.add_argument("--threads", type=int)
    help_near = "keep near copies of val and test out by bytes and pixels alone: twenty views less of each"
    parser.add_argument("--no-near", dest="near", action="store_false", help=help_near)
    given = parser.parse_args()
    if not given.pool and given.index is None:
        parser.error("give --pool or --index")
    setting = Setting(
        index=pool_index(given.index, given.pool, given.out, given.teacher),
        task=given.task,
        out=given.out,
        labels=given.labels,
        teacher=given.teacher,
        teacher_size=given.teacher_size,
        image_size=given.image_size,
        metric=given.metric,
        threads=given.threads,
        near=given.near,
    )
    found: dict[str, dict[int, Run]] = {}
    for name in given.only:
        for seed in given.seeds:
            if given.finished and not is_finished(setting, VARIANTS[name], seed):
                continue
            found.setdefault(name, {})[seed] = run(setting, VARIANTS[name], seed)
    if not found:
        parser.exit(message="nothing is finished yet\n")
    write_bytes(given.out / "curve.png", curve(found))
    table(found)
    print(f"accuracy against cost: {given.out / 'curve.png'}")


if __name__ == "__main__":
    main()
