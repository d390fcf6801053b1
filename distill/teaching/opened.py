"""Opening what teaches a run: one teacher or store, or several that are combined."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.batches import ViewPlan
from distill.data.views import augmentation
from distill.methods.transfer import Transfer
from distill.teaching.combined import combined, distinct_names
from distill.teaching.online import OnlineTeaching
from distill.teaching.stored import Asked, stored_teaching
from distill.teaching.teaching import DEFAULT_AUGMENT, DEFAULT_VIEWS, Teaching
from transferset.console import say

if TYPE_CHECKING:
    from distill.stages.train_options import TrainOptions


def open_teaching(options: "TrainOptions", method: Transfer, resolved: dict[str, Any]) -> Teaching:
    """The stores, or the teachers, on what was `resolved` for the machine; raises as `train` does."""
    views = DEFAULT_VIEWS if options.views is None else options.views
    augment = augmentation(options.augment or DEFAULT_AUGMENT)
    plan = ViewPlan(augment, options.seed, options.plan.batch_size, views)
    members: Sequence[Teaching]
    if options.stores:
        if options.precision != "auto":
            say(
                "note: --precision is for the teacher, whose outputs are already stored: it has no effect;"
                " --student-precision is for the student"
            )
        paths = options.stores
        teacher = options.teachers[0] if options.teachers else None
        asked = Asked(teacher, options.views, options.augment)
        members = [stored_teaching(path, plan, asked, method) for path in paths]
    else:
        paths = options.teachers
        members = [_open(options, place, method, plan, resolved) for place in range(len(paths))]
    if len(members) == 1:
        return members[0]
    weights = options.teacher_weights or (1.0,) * len(members)
    return combined(members, distinct_names(paths), options.combine, weights)


def _open(
    options: "TrainOptions", place: int, method: Transfer, plan: ViewPlan, resolved: dict[str, Any]
) -> OnlineTeaching:
    from distill.models.teacher import open_teacher
    from transferset.models.runtime import PRECISIONS

    def chosen(name: str, given: str) -> str:
        """What an earlier piece of the run has chosen, one for each teacher if there are several."""
        found = resolved.get(name, given)
        kept = str(found[place] if isinstance(found, list) else found)
        if given not in ("auto", kept) and PRECISIONS.get(given) != kept:
            say(f"note: continues with --{name} {kept}, as it was started, not {given}")
        return kept

    teacher = open_teacher(
        Path(options.teachers[place]),
        runtime=chosen("runtime", options.runtime),
        precision=chosen("precision", options.precision),
        batch_size=options.plan.batch_size,
        device=resolved["device"],
        threads=resolved["threads"],
        grid=method.output == "patches",
    )
    return OnlineTeaching(teacher, method, plan, options.teacher_flip)
