"""Several evaluations as tables on stdout."""

from typing import TYPE_CHECKING

from transferset.console import print_table

if TYPE_CHECKING:
    from distill.stages.evaluate_several import Comparison
    from distill.statistics import Difference, OverRuns


def print_comparison(found: "Comparison") -> None:
    """Every model, then the means over runs, then what the differences are worth."""
    names = list(found.over_models)
    rows = [
        [which, one.model, *(f"{100 * one.metrics[name]:.1f} %" for name in names)]
        for which, group in (("A", found.models), ("B", found.against))
        for one in group
    ]
    columns = [name.replace("_", " ") for name in names]
    print_table(f"{found.images:,} images", ["", "model", *columns], rows)
    means = [["A", *(_score(found.over_models[name]) for name in names)]]
    if found.against:
        means.append(["B", *(_score(found.over_against[name]) for name in names)])
    print_table("mean ± standard deviation over runs (95 % interval)", ["", *columns], means)
    differences = (
        [["A - B", *(_difference(found.difference[name]) for name in names)]] if found.against else []
    )
    for one, pairs in zip(found.models[1:], found.to_first):
        differences.append([f"{one.model} - first", *(_difference(pairs[name]) for name in names)])
    if differences:
        print_table("paired differences on the same images, points", ["", *columns], differences)


def _score(found: "OverRuns") -> str:
    spread = "" if found.std is None else f" ± {100 * found.std:.1f}"
    return f"{100 * found.mean:.1f}{spread} ({100 * found.low:.1f}–{100 * found.high:.1f}), {found.runs} runs"


def _difference(found: "Difference") -> str:
    verdict = "within noise" if found.within_noise else ("better" if found.mean > 0 else "worse")
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}): {verdict}"
