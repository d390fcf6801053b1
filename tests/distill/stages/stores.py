"""How a small teacher labels shards."""

from dataclasses import replace
from pathlib import Path

from distill.stages.label import LabelOptions
from tests.distill.small import ONE_THREAD

VIEWS = 3


def label_options(shards: Path, teacher: Path, out: Path, **values: object) -> LabelOptions:
    """Three views of every image, on one thread, with what `values` say."""
    options = LabelOptions((shards,), teacher, out, views=VIEWS, batch_size=8, runtime="eager")
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]
