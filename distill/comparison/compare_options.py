"""What `distill compare` is given."""

from dataclasses import dataclass, field
from pathlib import Path

from distill.loop.execution import Execution
from transferset.errors import UsageError


@dataclass(frozen=True)
class CompareOptions:
    """What `distill compare` is given: a recipe, and the directory `out` that everything is written to (None:
    the recipe's path without its suffix). `only`: cells whose name matches this pattern (`*`, `?`).
    `report_only`: nothing is trained."""

    recipe: Path
    out: Path | None = None
    only: str | None = None
    report_only: bool = False
    execution: Execution = field(default_factory=Execution)

    @property
    def directory(self) -> Path:
        """Where everything is written."""
        if self.out is None and not self.recipe.suffix:
            raise UsageError("--out is missing", hint="only a recipe that ends in .yaml names its directory")
        return self.out or self.recipe.with_suffix("")
