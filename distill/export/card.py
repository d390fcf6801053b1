"""The model card of an export: what its run's files say and what the export measured, nothing else."""

from collections.abc import Sequence
from typing import Any

from distill.export.card_costs import costs
from distill.export.card_licences import licences
from distill.export.format import INT8, ONNX
from distill.export.lineage import Ancestor, part, start_spec, teachers
from distill.export.markdown import code, plain
from distill.export.parity import changed_answers
from distill.models.student import MODEL
from distill.task import SCORE_NAMES, TOP1

_FRONT = """---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- transferset
---"""
_UNKNOWN = "not recorded by the run"
_LOST = "a run that is missing or has changed since"


def model_card(report: dict[str, Any], classes: Sequence[str], runs: Sequence[Ancestor], input_: str) -> str:
    """Markdown from an export's report (as JSON), its classes, its runs (oldest first) and what its ONNX
    graphs take (empty: there are none)."""
    sections = [
        _FRONT,
        f"# {code(report['spec'])}, {len(classes)} classes",
        f"An image classifier with {report['parameters']:,} parameters that takes"
        f" {report['image_size']} × {report['image_size']} pixels"
        f" ({report['flops_per_image'] / 1e6:.0f} MFLOPs per image), exported by transferset"
        f" {report['versions']['transferset']}.",
        "## Classes",
        ", ".join(map(code, classes)),
        _use(report["files"], len(classes), input_),
        _training(runs),
        _metrics(report, runs),
        costs(runs),
        _files(report),
        licences(runs),
    ]
    return "\n\n".join(sections) + "\n"


def _use(files: dict[str, Any], classes: int, input_: str) -> str:
    lines = ["## Use", "", "    distill predict --model DIR --images PATH", ""]
    graphs = ", or a graph in it" if input_ else ""
    lines += [f"`DIR` is this folder, for the weights in `{MODEL}`{graphs}. `preprocessing.json` says how an"]
    lines += ["image is resized, cropped and normalised, after it was rotated by its EXIF orientation and"]
    lines += ["transparent areas were laid over white; `labels.json` names the logits.", ""]
    for name in (ONNX, INT8):
        if name in files:
            lines.append(f"- `{name}`: `images` {input_} → `logits` float32, {classes} per image.")
    return "\n".join(lines).rstrip()


def _training(runs: Sequence[Ancestor]) -> str:
    rows = ["## Training", "| | " + " | ".join(f"`distill {run.command}`" for run in runs) + " |"]
    rows.append("|---" * (len(runs) + 1) + "|")
    starts = [_start(run, number > 0) for number, run in enumerate(runs)]
    rows.append("| student started from | " + " | ".join(starts) + " |")
    for title, tell in (
        ("teacher", _teacher),
        ("method", _method),
        ("images", _images),
        ("steps × batch size", _length),
        ("images seen", lambda run: f"{run.report.get('images_seen', 0):,}"),
        ("learning rate", lambda run: f"{part(run.config, 'arguments').get('lr', _UNKNOWN)}"),
        ("augmentation", lambda run: f"{part(run.config, 'arguments').get('augment', _UNKNOWN)}"),
        ("seed", lambda run: f"{part(run.config, 'arguments').get('seed', _UNKNOWN)}"),
    ):
        rows.append(f"| {title} | " + " | ".join(tell(run) for run in runs) + " |")
    return "\n".join(rows[:1]) + "\n\n" + "\n".join(rows[1:])


def _start(run: Ancestor, is_known: bool) -> str:
    if part(run.config, "student").get("from"):
        return "the run before" if is_known else _LOST
    return code(start_spec(run) or _UNKNOWN)


def _method(run: Ancestor) -> str:
    arguments = part(run.config, "arguments")
    weight = arguments.get("feature_weight")
    beside = f", with features (weight {weight:g})" if weight else ""
    return f"{arguments.get('method', 'labels')}{beside}"


def _teacher(run: Ancestor) -> str:
    found = teachers(run)
    if not found:
        return "none"
    name = part(run.config, "teacher").get("description", "description " + _UNKNOWN)
    return f"{plain(name)} (fingerprint {', '.join(f'{one.sha256[:12]}…' for one in found)})"


def _images(run: Ancestor) -> str:
    inputs = part(run.config, "inputs")
    if "samples_sha256" in inputs:
        arguments = part(run.config, "arguments")
        share = arguments.get("labelled_share")
        how = "with" if arguments.get("label_weight") else "without"
        mixed = f", about {share:.0%} of them labelled images {how} their labels" if share else ""
        return f"{inputs.get('samples', 0):,}{mixed} (list {str(inputs['samples_sha256'])[:12]}…)"
    return f"labelled ones (list {str(inputs.get('train_sha256'))[:12]}…)"


def _length(run: Ancestor) -> str:
    steps, kept = run.report.get("steps", "?"), run.report.get("chosen_step")
    told = f"{steps} × {part(run.config, 'arguments').get('batch_size', '?')}"
    if kept == 0:
        return f"{told}, of which none is kept: the start was better on held-out images"
    return told if kept in (None, steps) else f"{told}, of which the first {kept} are kept"


def _metrics(report: dict[str, Any], runs: Sequence[Ancestor]) -> str:
    lines = ["## Metrics", ""]
    for run in runs:
        score, where = run.report.get("score"), run.report.get("scored_on")
        if score is None:
            lines.append(f"- after `distill {run.command}`: not scored")
        else:
            bounds = [f"{100 * bound:.1f}" for bound in run.report.get("interval") or ()]
            interval = f" (95 % interval {'–'.join(bounds)})" if bounds else ""
            name = _score_name(run.report)
            lines.append(
                f"- after `distill {run.command}`: {name} {100 * score:.1f} %{interval} on {plain(where)}"
            )
    compared = report["compared_on"]
    if compared is not None and compared["score"] is not None:
        lines.append(
            f"- measured at export: {_score_name(report)} {100 * compared['score']:.1f} % on"
            f" {compared['images']:,} images ({plain(compared['split'])})"
        )
    return "\n".join(lines)


def _score_name(report: dict[str, Any]) -> str:
    """What the scores of a report are; those of a run that does not say so are top-1."""
    metric = str(report.get("metric", TOP1))
    return SCORE_NAMES.get(metric, plain(metric))


def _files(report: dict[str, Any]) -> str:
    columns = "| file | MB | ms, one image | images/s | logits differ by | answers changed |"
    rows = [f"{columns} {_score_name(report)} |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, facts in report["files"].items():
        speed, parity = facts["speed"], facts["parity"]
        score = None if parity is None else parity["score"]
        rows.append(
            f"| `{name}` | {facts['bytes'] / 1e6:.2f} | {speed['latency_ms']:.2f}"
            f" | {speed['images_per_second']:,.0f}"
            + (" | 0 | 0" if parity is None else f" | {parity['max_difference']:.2g}")
            + ("" if parity is None else f" | {changed_answers(parity)}")
            + (f" | {'' if score is None else f'{100 * score:.1f} %'} |")
        )
    where, versions = report["machine"], report["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    batch = report["files"][MODEL]["speed"]["batch_size"]
    note = (
        f"Speed in batches of {batch}, {where['threads']} threads, {plain(where['processor'])}; {libraries}."
    )
    if "note" in where:
        note += f" When it was measured, {where['note']}."
    return (
        "## Files\n\n"
        + "\n".join(rows)
        + f"\n\n{note} Differences are to the run's own answers.{_resized(report)}"
    )


def _resized(report: dict[str, Any]) -> str:
    """What graphs were shown that resize images."""
    sizes = {name: facts["speed"]["image_size"] for name, facts in report["files"].items()}
    given, told = max(sizes.values()), ""
    if given > min(sizes.values()):
        graphs = ", ".join(f"`{name}`" for name, size in sizes.items() if size == given)
        told = f" {graphs} resized images of {given} × {given} pixels, one at a time."
    pillow = (report["files"].get(ONNX, {}).get("parity") or {}).get("to_pillow")
    if pillow is not None:
        told += (
            " Graphs were shown images decoded in full. On the same pixels, resized by Pillow, the run's"
            f" logits differ by up to {pillow['max_difference']:.2g}, and answers changed:"
            f" {changed_answers(pillow)}; for the run itself torch resizes, which rounds differently, and"
            f" JPEGs"
            " at least twice as large as needed are decoded at a reduced scale."
        )
    return told
