"""The estimate that a teacher or a student holds of itself, from held-out images that also chose it."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from distill.loop.run_directory import RESTORE, read_object
from distill.metrics import ClassificationMetrics, metrics_from_dict
from distill.task import BALANCED, TOP1
from transferset.errors import DataError


def read_estimate(path: Path, teacher: bool) -> tuple[str | None, dict[str, Any]]:
    """What a report's estimate was measured on (None: there is none), and its metrics; what a student's does
    not know is None. DataError where the report is damaged or another program's."""
    report = read_object(path)
    try:
        if teacher:
            return str(report["judged_on"]), metrics_from_dict(report["estimate"]).to_dict()
        if report["scored_on"] is None:
            return None, {}
        metric = str(report.get("metric", TOP1))
        if metric not in (TOP1, BALANCED):
            raise ValueError(f"metric {metric}")
        known: dict[str, Any] = {metric: float(report["score"])}
        if report["interval"] is not None:
            low, high = map(float, report["interval"])
            known[f"{metric}_interval"] = [low, high]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: it holds no estimate ({error!r})", hint=RESTORE) from error
    names = (field.name for field in fields(ClassificationMetrics))
    return str(report["scored_on"]), {**dict.fromkeys(names), "per_class": {}, **known}
