"""What can be set about a selection."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from curate.selection.filters import Filters
from curate.selection.options import StrategyOptions, settings
from curate.selection.quotas import check_amount
from curate.selection.strategies import MEANT_FOR, STRATEGIES, StrategyName
from transferset.errors import UsageError

if TYPE_CHECKING:
    from curate.index.search.engine import AskedEngine

Shortfall = Literal["report", "topup", "fail"]


@dataclass(frozen=True)
class SelectOptions:
    """How many images to select and how; checked when made (UsageError)."""

    total: int | None = None
    per_query: int | None = None
    strategy: StrategyName = "query-balanced"
    include_queries: bool = False
    min_similarity: float | None = None
    shortfall: Shortfall = "report"
    seed: int = 0
    engine: "AskedEngine" = "exact"
    filters: Filters = field(default_factory=Filters)
    tuning: StrategyOptions = field(default_factory=StrategyOptions)

    def __post_init__(self) -> None:
        check_amount(self.total, self.per_query)
        for name, value, allowed in (
            ("--strategy", self.strategy, tuple(STRATEGIES)),
            ("--shortfall", self.shortfall, get_args(Shortfall)),
            ("--engine", self.engine, ("auto", "exact", "faiss")),
        ):
            if value not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise UsageError(f"--min-similarity is a cosine, from -1 to 1, got {self.min_similarity}")
        if self.min_similarity is not None and self.strategy == "random":
            raise UsageError(
                "--min-similarity has no meaning with --strategy random, which looks at no similarity"
            )
        if self.min_similarity is not None and self.tuning.class_blend:
            raise UsageError(
                "--min-similarity can't be combined with --class-blend, which doesn't order images by their "
                "similarity to the query"
            )
        if self.strategy == "text" and self.include_queries:
            raise UsageError("--include-queries has no meaning with --strategy text, whose queries are texts")
        for name, strategies in MEANT_FOR.items():
            if name in settings(self.tuning) and self.strategy not in strategies:
                raise UsageError(
                    f"--{name.replace('_', '-')} has no meaning with --strategy {self.strategy}",
                    hint=f"it is for {', '.join(strategies)}",
                )

    def describe(self) -> dict[str, Any]:
        """As JSON. Of filters and tuning only what is not the default, so that a transfer set of an older
        version stays the one that these options describe."""
        return {
            **asdict(self),
            "filters": settings(self.filters),
            "tuning": settings(self.tuning),
        }
