"""Ways to train a student that `better_student.py` compares, and how one of them is run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from curate.refinement.refine import refine
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.selection import SelectOptions
from curate.selection.strategies import StrategyName
from distill.comparison.costs import Cost, cost_of_run, read_seconds, total, wall_clock
from distill.comparison.labels import draw_labels, load_task
from distill.data.label_store import STORE, open_store
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import REPORT
from distill.methods.transfer import TASK_AGNOSTIC, TASK_ORIENTED
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.adapt_options import FROZEN, LP_FT, Tuning
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.task import BALANCED
from transferset.lock import DirectoryLock

LABELS = "labels.parquet"


@dataclass(frozen=True)
class Variant:
    """A way to train a student; `change`: in words, from the variant `base` (None: the first of all).
    `refined`: the transfer set, by one round of `curate refine`. `scales`: of the teacher's input, one
    teacher each, their probabilities averaged; `tune`: how its backbone is adapted."""

    name: str
    change: str
    base: str | None = None
    student: str = "timm:mobilenetv3_small_075@none"
    strategy: StrategyName = "query-balanced"
    refined: bool = False
    total: int = 4_000
    steps: int = 2_400
    batch_size: int = 64
    lr: float | None = None
    views: int = 8
    method: str = TASK_ORIENTED
    feature_loss: str | None = None
    feature_weight: float = 0.0
    temperature: float | None = None
    label_weight: float = 0.0
    tune: str = FROZEN
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


def _changed(base: Variant, name: str, change: str, **values: object) -> Variant:
    return replace(base, name=name, change=change, base=base.name, **values)  # type: ignore[arg-type]


PLAIN = Variant("plain", "class probabilities alone, MobileNetV3-Small 0.75")
ARCHITECTURE = _changed(PLAIN, "architecture", "RegNetX-200MF", student="timm:regnetx_002@none")
FEATURES = _changed(ARCHITECTURE, "features", "the teacher's features beside them", feature_weight=20.0)
LONG = _changed(FEATURES, "long", "four times the images, 4.5 times the steps", total=16_000, steps=10_800)
LONGER = _changed(LONG, "longer", "twice the steps of it", steps=21_600)
LADDER = (PLAIN, ARCHITECTURE, FEATURES, LONG, LONGER)
ASIDES = (
    _changed(PLAIN, "plain-agnostic", "features alone (cosine)", method=TASK_AGNOSTIC),
    _changed(ARCHITECTURE, "task-agnostic", "features alone (cosine)", method=TASK_AGNOSTIC),
    _changed(
        ARCHITECTURE,
        "contrastive",
        "features alone (contrastive)",
        method=TASK_AGNOSTIC,
        feature_loss="contrastive",
    ),
    _changed(ARCHITECTURE, "random-plain", "random images", strategy="random"),
    _changed(ARCHITECTURE, "temperature", "temperature 3", temperature=3.0),
    _changed(ARCHITECTURE, "temperature-10", "temperature 10", temperature=10.0),
    _changed(ARCHITECTURE, "flip", "the teacher sees mirror images too", flip=True),
    _changed(ARCHITECTURE, "scales", "the teacher at two resolutions", scales=(1.0, 1.4)),
    _changed(FEATURES, "features-temperature", "temperature 3", temperature=3.0),
    _changed(FEATURES, "features-temperature-10", "temperature 10", temperature=10.0),
    _changed(FEATURES, "random", "random images", strategy="random"),
    _changed(FEATURES, "refined", "one round of curate refine", refined=True),
    _changed(FEATURES, "tuned", "the teacher finetuned (lp-ft)", tune=LP_FT),
    _changed(FEATURES, "labels", "labels through a second head", label_weight=1.0),
    _changed(FEATURES, "views-2", "2 views of every image", views=2),
    _changed(FEATURES, "views-32", "32 views of every image", views=32),
    _changed(FEATURES, "batch-32", "batches of 32, twice the steps", batch_size=32, steps=4_800, lr=2.8e-3),
    _changed(FEATURES, "lr-half", "half the learning rate", lr=2e-3),
    _changed(FEATURES, "lr-double", "twice the learning rate", lr=8e-3),
    _changed(FEATURES, "more-images", "four times the images, the same steps", total=16_000),
    _changed(FEATURES, "more-steps", "twice the steps", steps=4_800),
    _changed(LONG, "long-temperature-10", "temperature 10", temperature=10.0),
    _changed(LONG, "long-agnostic", "features alone (cosine)", method=TASK_AGNOSTIC, feature_weight=0.0),
)
VARIANTS = {variant.name: variant for variant in (*LADDER, *ASIDES)}


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
    size = round(setting.teacher_size * scale / 32) * 32 if scale != 1 else setting.teacher_size
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
    """What a teacher says of a transfer set, features too, labelled once for all variants."""
    out = home / f"{teacher.name}-{shards.name}-{variant.views}{'-flip' if variant.flip else ''}"
    clock = home / f"{out.name}.json"
    with wall_clock(clock, out / STORE):
        label(
            LabelOptions(
                shards=(shards,),
                teacher=teacher,
                out=out,
                views=variant.views,
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
