"""Ways to train a student that `better_student.py` compares."""

from dataclasses import dataclass, replace

from curate.selection.strategies import StrategyName
from distill.methods.transfer import TASK_AGNOSTIC, TASK_ORIENTED
from distill.stages.adapt_options import FROZEN, LP_FT


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
SMALL = _changed(PLAIN, "small", "MobileNetV3-Small 0.5", student="timm:mobilenetv3_small_050@none")
IMAGES = _changed(ARCHITECTURE, "images", "four times the images, the same steps", total=16_000)
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
    IMAGES,
    _changed(IMAGES, "images-agnostic", "features alone (cosine)", method=TASK_AGNOSTIC),
    _changed(ARCHITECTURE, "random-plain", "random images", strategy="random"),
    _changed(ARCHITECTURE, "temperature", "temperature 3", temperature=3.0),
    _changed(ARCHITECTURE, "temperature-10", "temperature 10", temperature=10.0),
    SMALL,
    _changed(SMALL, "small-agnostic", "features alone (cosine)", method=TASK_AGNOSTIC),
    _changed(SMALL, "flip", "the teacher sees mirror images too", flip=True),
    _changed(SMALL, "scales", "the teacher at two resolutions", scales=(1.0, 1.4)),
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
