"""What a model card says of licences: what the runs have recorded of what the model depends on."""

from collections.abc import Sequence
from typing import Any

from distill.export.lineage import Ancestor, part, start_spec, teachers
from distill.export.markdown import code, plain

_PUBLISHER = "under the licence of their publisher"


def licences(runs: Sequence[Ancestor]) -> str:
    """The section."""
    lines = ["## Licences", "", "What this model depends on:", ""]
    start = start_spec(runs[0])
    if part(runs[0].config, "student").get("from"):
        lines.append(
            "- the run that it started from, which is missing or has changed, and what that depends on;"
        )
    elif start is None or not start.is_random:
        told = "not recorded by the run" if start is None else code(start)
        lines.append(f"- the weights that the student started from ({told}), {_PUBLISHER};")
    lines += _teachers(runs)
    lines += [_transfer_set(run) for run in runs if teachers(run)]
    lines.append("- the labelled images: runs do not record their licences.")
    return "\n".join(lines)


def _teachers(runs: Sequence[Ancestor]) -> list[str]:
    """A line for each model that was adapted and had learnt before."""
    found = dict.fromkeys(
        code(one.facts["spec"]) if one.facts.get("spec") else plain(one.facts.get("description", "not named"))
        for run in runs
        for one in teachers(run)
        if not str(one.facts.get("spec", "")).endswith(("@none", "/none"))
    )
    return [f"- the teacher's weights ({name}), {_PUBLISHER};" for name in found]


def _transfer_set(run: Ancestor) -> str:
    what = f"- the transfer set of `distill {run.command}`"
    found = part(run.config, "transfer_set")
    if not found:
        return f"{what}: licences and sources not recorded by the run; `samples.parquet` of the set may tell;"
    told = [f"{name} {_counts(part(found, name))}" for name in ("licence", "source")]
    return f"{what}, {found.get('images', 0):,} images: {'; '.join(told)};"


def _counts(found: dict[str, Any]) -> str:
    counts = sorted(part(found, "counts").items(), key=lambda one: (-one[1], one[0]))
    cells = [f"{code(name)} {count:,}" for name, count in counts]
    if found.get("others"):
        cells.append(f"others ({found['others']:,}) {found.get('images_of_others', 0):,}")
    return ", ".join([*cells, f"unknown {found.get('unknown', 0):,}"])
