"""What can be set about strategies, apart from how many images they select."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from transferset.errors import UsageError
from transferset.prompts import TEMPLATES, check_templates


@dataclass(frozen=True)
class StrategyOptions:
    """Options of single strategies; checked when made (UsageError).

    Attributes:
        crops: a query image is searched by five crops of it too.
        class_blend: how far, from 0 to 1, each query is drawn towards the mean of its class for the search.
        diversity: of `diverse`, from 0 (most similar first) to 1 (least alike first).
        text_depth: of `text-image`: how many candidates by text a class has, for each image that it may take.
        class_names: what a class is called in the templates, by label, where it isn't called as its label.
        templates: sentences with one `{}` for the class name.
    """

    crops: bool = False
    class_blend: float = 0.0
    diversity: float = 0.2
    text_depth: int = 4
    class_names: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        for name, value in (("--class-blend", self.class_blend), ("--diversity", self.diversity)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is a share, from 0 to 1, got {value}")
        if self.text_depth < 1:
            raise UsageError(f"--text-depth must be at least 1, got {self.text_depth}")
        check_templates(self.templates)


def settings(options: Any) -> dict[str, Any]:
    """What differs from the defaults in options that all have one, as JSON: an option that comes later
    changes no description of what was made before it."""
    defaults = type(options)()
    given = asdict(options)
    return {
        one.name: given[one.name]
        for one in fields(options)
        if getattr(options, one.name) != getattr(defaults, one.name)
    }
