"""The strategies by name."""

from typing import Literal

from curate.selection.best_match import best_match
from curate.selection.class_balanced import class_balanced
from curate.selection.cluster import cluster
from curate.selection.diverse import diverse
from curate.selection.query_balanced import query_balanced
from curate.selection.request import Strategy
from curate.selection.text_image import text_image
from curate.selection.uniform import uniform

StrategyName = Literal[
    "query-balanced", "class-balanced", "best-match", "diverse", "cluster", "text", "text-image", "random"
]
STRATEGIES: dict[StrategyName, Strategy] = {
    "query-balanced": query_balanced,
    "class-balanced": class_balanced,
    "best-match": best_match,
    "diverse": diverse,
    "cluster": cluster,
    "text": class_balanced,
    "text-image": text_image,
    "random": uniform,
}
BY_CLASS: tuple[StrategyName, ...] = ("class-balanced", "text")
"""Strategies whose quotas are spread over classes first."""


_BY_IMAGES = tuple(name for name in STRATEGIES if name not in ("text", "random"))
MEANT_FOR: dict[str, tuple[StrategyName, ...]] = {
    "crops": _BY_IMAGES,
    "class_blend": _BY_IMAGES,
    "diversity": ("diverse",),
    "text_depth": ("text-image",),
    "class_names": ("text", "text-image"),
    "templates": ("text", "text-image"),
}
"""Options (of `StrategyOptions`) that single strategies have, and which."""
