"""How a way to train a student is run: labels, teacher, transfer set, store, student, finetuned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from student_variants import Variant

from curate.refinement.refine import refine
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from distill.comparison.costs import Cost, cost_of_run, read_seconds, total, wall_clock
from distill.comparison.labels import draw_labels, load_task
from distill.data.label_store import STORE, open_store
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import REPORT
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.adapt_options import FROZEN, Tuning
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.task import BALANCED
from transferset.lock import DirectoryLock

LABELS = "labels.parquet"


@dataclass(frozen=True)
class Setting:
    """What all variants share."""

    index: Path
    task: Path
    out: Path
    labels: int
    teacher: str
    teacher_size: int
    image_size: int
    metric: str
    threads: int | None
    near: bool

    @property
    def execution(self) -> Execution:
        """How everything is run."""
        return Execution(threads=self.threads)


@dataclass(frozen=True)
class Store:
    """What a teacher has said of the views of a transfer set, and what that has cost."""

    path: Path
    cost: Cost


@dataclass(frozen=True)
class Tested:
    """Which of the test images (n,) a model gets right, and their `classes` (n,) where every class counts the
    same (None: every image does)."""

    right: np.ndarray
    classes: np.ndarray | None

    @property
    def accuracy(self) -> float:
        """Test top-1, or balanced accuracy."""
        if self.classes is None:
            return float(self.right.mean())
        return float(np.mean([self.right[self.classes == one].mean() for one in np.unique(self.classes)]))


@dataclass(frozen=True)
class Run:
    """One student of one seed, its teacher's test accuracy, and the cost of its training."""

    tested: Tested
    teacher: float
    cost: Cost

    @property
    def accuracy(self) -> float:
        """The student's."""
        return self.tested.accuracy


def tested(model: Path, data: Path, metric: str) -> Tested:
    """A model on the test images."""
    predictions = model / "test_predictions.parquet"
    if not predictions.exists():
        evaluate(EvaluateOptions(model=model, data=data, predictions=predictions))
    table = pq.read_table(predictions)
    labels, predicted = (np.array(table[name].to_pylist()) for name in ("label", "predicted"))
    return Tested(labels == predicted, labels if metric == BALANCED else None)


def adapted(setting: Setting, data: Path, home: Path, seed: int, tune: str, scale: float) -> Path:
    """A teacher for one draw of labels, adapted once for all variants."""
    size = input_size(setting, scale)
    other = "" if scale == 1 else f"-{size}"
    out = home / f"teacher{other}{'' if tune == FROZEN else f'-{tune}'}"
    options = AdaptOptions(
        data=data,
        teacher=setting.teacher,
        out=out,
        image_size=size,
        tuning=Tuning(tune),
        seed=seed,
        execution=setting.execution,
    )
    adapt(options)
    return out


def input_size(setting: Setting, scale: float) -> int:
    """The teacher's input at a scale, pixels."""
    return round(setting.teacher_size * scale / 32) * 32 if scale != 1 else setting.teacher_size


def collected(setting: Setting, data: Path, home: Path, seed: int, variant: Variant) -> Path:
    """A transfer set, made once for all variants."""
    exclude = (setting.task / "val", setting.task / "test")
    chosen = SelectOptions(total=variant.total, strategy=variant.strategy, seed=seed)
    options = RetrieveOptions(chosen, exclude_dirs=exclude, near=setting.near)
    name = f"set-{variant.total}" + ("-random" if variant.strategy == "random" else "")
    first = retrieve(setting.index, data, home / name, options).out
    if not variant.refined:
        return first
    table = home / f"{name}.parquet"
    drawn = replace(options, selection=SelectOptions(total=500, strategy="random", seed=seed))
    random = retrieve(setting.index, data, home / "set-500-random", drawn).out
    labels = LabelOptions(
        shards=(first,),
        teacher=home / "teacher",
        out=home / f"{name}-labels",
        views=4,
        table=table,
        reject_from=(str(random / "shards"),),
    )
    label(labels)
    return refine(setting.index, data, table, first, home / f"{name}-refined", options).retrieved.out


def stored(setting: Setting, home: Path, seed: int, variant: Variant, teacher: Path, shards: Path) -> Store:
    """What a teacher says of a transfer set, features too, labelled once for all variants. Teachers of
    several sizes are shown images that were decoded for the largest."""
    decoded = max(input_size(setting, scale) for scale in variant.scales)
    other = f"-of{decoded}" if decoded != setting.teacher_size else ""
    out = home / f"{teacher.name}-{shards.name}-{variant.views}{'-flip' if variant.flip else ''}{other}"
    clock = home / f"{out.name}.json"
    with wall_clock(clock, out / STORE):
        label(
            LabelOptions(
                shards=(shards,),
                teacher=teacher,
                out=out,
                views=variant.views,
                decode_size=decoded,
                data=home / LABELS,
                features=True,
                teacher_flip=variant.flip,
                seed=seed,
                execution=setting.execution,
            )
        )
    found = open_store(out)
    images = sum(shard.facts.images * shard.facts.views for shard in found.shards)
    flops = images * float(found.teacher["flops_per_image"])
    return Store(out, Cost("label", images, flops, read_seconds(clock)))


def is_finished(setting: Setting, variant: Variant, seed: int) -> bool:
    """Whether its student is trained and finetuned."""
    return (setting.out / f"seed{seed}" / variant.name / "finetuned" / REPORT).exists()


def run(setting: Setting, variant: Variant, seed: int) -> Run:
    """Labels, teacher, transfer set, student, finetuned; what is there already is kept."""
    home = setting.out / f"seed{seed}"
    with DirectoryLock(home, ".shared.lock", wait=True):
        data = draw_labels(load_task(setting.task), str(setting.labels), seed, home / LABELS).table
        plain = adapted(setting, data, home, seed, FROZEN, 1.0)
        teachers = [adapted(setting, data, home, seed, variant.tune, scale) for scale in variant.scales]
        teacher = tested(plain, data, setting.metric).accuracy
        shards = collected(setting, data, home, seed, variant)
        stores = [stored(setting, home, seed, variant, one, shards) for one in teachers]
    out = home / variant.name
    with wall_clock(home / f"{variant.name}.train.json", out / "student" / REPORT):
        taught = train(training(setting, variant, seed, out / "student", data, shards, stores))
    with wall_clock(home / f"{variant.name}.finetune.json", out / "finetuned" / REPORT):
        tuned = finetune(
            FinetuneOptions(
                data=data,
                out=out / "finetuned",
                from_run=out / "student",
                class_balanced=setting.metric == BALANCED,
                seed=seed,
                execution=setting.execution,
            )
        )
    clocks = [read_seconds(home / f"{variant.name}.{stage}.json") for stage in ("train", "finetune")]
    spent = [
        *(store.cost for store in stores),
        *cost_of_run("train", taught.costs, clocks[0]),
        *cost_of_run("finetune", tuned.costs, clocks[1]),
    ]
    return Run(tested(out / "finetuned", data, setting.metric), teacher, total(spent))


def training(
    setting: Setting,
    variant: Variant,
    seed: int,
    out: Path,
    data: Path,
    shards: Path,
    stores: Sequence[Store],
) -> TrainOptions:
    """How a variant trains its student."""
    return TrainOptions(
        shards=(shards,),
        teacher=None,
        labels_from=tuple(store.path for store in stores),
        student=variant.student,
        out=out,
        data=data,
        method=variant.method,
        feature_loss=variant.feature_loss,
        feature_weight=variant.feature_weight,
        temperature=variant.temperature,
        label_weight=variant.label_weight,
        image_size=setting.image_size,
        plan=Plan(steps=variant.steps, batch_size=variant.batch_size, lr=variant.lr),
        seed=seed,
        metric=setting.metric,
        execution=setting.execution,
    )
