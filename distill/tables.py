"""Results of `distill` as tables on stdout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transferset.console import print_table

if TYPE_CHECKING:
    from distill.stages.adapt_options import AdaptReport
    from distill.stages.evaluate import Evaluation
    from distill.stages.export_options import ExportReport
    from distill.stages.label import LabelReport
    from distill.stages.plan import PlanReport
    from distill.stages.predict import PredictReport
    from distill.stages.students import StudentsReport


def _percent(share: float | None, interval: Sequence[float] | None = None) -> str:
    if share is None:
        return "–"
    text = f"{100 * share:.1f} %"
    return f"{text} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else text


def print_teacher(report: "AdaptReport") -> None:
    """The grid, then what the chosen head is worth."""
    estimate, calibration = report.estimate, report.calibration
    chosen = (report.strength, report.text)
    grid = [
        [
            f"{trial['strength']:g}",
            f"{100 * trial.get('text', 0.0):.0f} %",
            f"{trial['loss']:.3f}",
            _percent(trial["top1"]),
            f"{trial['temperature']:.3f}",
        ]
        + (["chosen"] if (trial["strength"], trial.get("text", 0.0)) == chosen else [""])
        for trial in report.trials
    ]
    columns = ["C", "class names", "loss", "top-1", "temperature", ""]
    print_table(f"heads, judged on {report.judged_on}", columns, grid)
    _print_candidates(report)
    images = ", ".join(f"{count:,} {split}" for split, count in report.images.items())
    rows = [
        ["images", f"{images}, {report.dropped} unreadable"],
        ["top-1", _percent(estimate["top1"], estimate["top1_interval"])],
        [
            "balanced accuracy",
            _percent(estimate["balanced_accuracy"], estimate["balanced_accuracy_interval"]),
        ],
        ["temperature", f"{report.temperature:.3f}"],
        ["negative log likelihood", f"{calibration['nll_before']:.3f} → {calibration['nll_after']:.3f}"],
        ["calibration error", f"{calibration['ece_before']:.3f} → {calibration['ece_after']:.3f}"],
        ["teacher", report.out],
    ]
    if report.val is not None:
        rows.insert(3, ["top-1 on val", _percent(report.val["top1"], report.val["top1_interval"])])
    print_table(f"teacher with {report.classes} classes", ["", report.judged_on], rows)


def _print_candidates(report: "AdaptReport") -> None:
    """The frozen teacher, and what finetuning has made of it."""
    if not report.candidates:
        return
    rows = [
        [
            f"{report.tune}, step {one['step']}" if one["step"] else "frozen",
            f"{one['loss']:.3f}",
            _percent(one["score"]),
            "chosen" if place == report.chosen else "",
        ]
        for place, one in enumerate(report.candidates)
    ]
    print_table(f"teachers, judged on {report.judged_on}", ["", "loss", "right", ""], rows)


def print_evaluation(evaluation: "Evaluation") -> None:
    """The metrics over all images, then those of every class."""
    metrics = evaluation.metrics
    where = evaluation.split or f"estimated by {evaluation.estimate}"
    rows = [
        [
            "images",
            f"{metrics['n'] if metrics['n'] is not None else '–'}, {len(evaluation.unreadable)} unreadable",
        ],
        ["top-1", _percent(metrics["top1"], metrics["top1_interval"])],
        ["balanced accuracy", _percent(metrics["balanced_accuracy"], metrics["balanced_accuracy_interval"])],
        ["calibration error", "–" if metrics["ece"] is None else f"{metrics['ece']:.3f}"],
        ["negative log likelihood", "–" if metrics["nll"] is None else f"{metrics['nll']:.3f}"],
    ]
    print_table(f"{evaluation.kind} {evaluation.model} on {evaluation.data}", ["", where], rows)
    classes = [
        [
            name,
            str(one["support"]),
            _percent(one["recall"], one["recall_interval"]),
            _percent(one["precision"]),
        ]
        for name, one in metrics["per_class"].items()
    ]
    if classes:
        print_table("classes", ["class", "images", "recall", "precision"], classes)


def print_export(report: "ExportReport") -> None:
    """Every model file: its size, its speed, and how it compares with the run."""
    rows = []
    for name, facts in report.files.items():
        speed, parity = facts["speed"], facts["parity"]
        row = [name, f"{facts['bytes'] / 1e6:.2f}", f"{speed['latency_ms']:.2f}"]
        row += [f"{speed['images_per_second']:,.0f}"]
        if parity is None:
            row += ["–", "–", "–"]
        else:
            row += [f"{parity['max_difference']:.2g}", f"{parity['top1_changed']} of {parity['images']}"]
            row += [_percent(parity["score"])]
        rows.append(row)
    columns = ["file", "MB", "ms, one image", "images/s", "logits differ by", "answers changed", "accuracy"]
    on = "" if report.compared_on is None else f", compared on {report.compared_on['split']} images"
    print_table(f"export {report.out}, {report.machine['threads']} threads{on}", columns, rows)


def print_store(report: "LabelReport") -> None:
    """What a store of teacher outputs holds."""
    rows = [
        ["images", f"{report.images:,} in {report.shards:,} shards, {report.unreadable} unreadable"],
        ["labelled by this command", f"{report.labelled_now:,}"],
        ["views of each", str(report.views)],
        ["kept", f"{report.kept}, of {report.classes} classes"],
        ["on disk", f"{report.bytes / 1e6:,.1f} MB"],
        ["store", report.out],
    ]
    if report.features:
        rows.insert(4, ["features", f"{report.features:,} numbers of every view"])
    if report.table is not None:
        rows.append(["table", report.table])
    print_table("teacher outputs", ["", ""], rows)


def print_plan(report: "PlanReport") -> None:
    """Rates, then the time with and without a store, and what follows from that."""
    stages = [[name.replace("_", " "), f"{rate:,.0f}"] for name, rate in report.rates.items()]
    stages += [[f"a run, {name}", f"{rate:,.0f}"] for name, rate in report.joint_rates.items()]
    print_table("alone on this machine, and together", ["stage", "images/s"], stages)
    rows = []
    for runs in (1, 2, 3):
        online, stored = report.seconds_for(runs)
        rows.append([str(runs), _minutes(online), _minutes(stored), "store" if stored < online else "online"])
    title = (
        f"{report.images:,} images, {report.steps:,} steps, {report.epochs:,.1f} epochs; "
        f"a store of {report.store_views} views: {report.store_bytes / 1e6:,.1f} MB,"
        f" {_minutes(report.label_seconds)}"
    )
    print_table(title, ["students or seeds", "online", "label, then train", "faster"], rows)
    print_table("storing", [""], [[_verdict(report.pays_from)]])


def _verdict(pays_from: int | None) -> str:
    if pays_from is None:
        return "does not pay: the teacher costs nothing here"
    if pays_from == 1:
        return "pays with the first student"
    if pays_from == 2:
        return "does not pay for one student; pays from the second on"
    return f"does not pay for fewer than {pays_from} students"


def _minutes(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def print_predictions(report: "PredictReport") -> None:
    """How many images are of which class."""
    rows = [[name, f"{count:,}"] for name, count in report.classes.items() if count]
    if report.rejected is not None:
        rows.append(["rejected: none of the classes", f"{report.rejected:,}"])
    rows += [["unreadable", f"{len(report.unreadable):,}"]]
    rate = (report.predicted + len(report.unreadable)) / max(report.seconds, 1e-9)
    print_table(f"{report.predicted:,} images, {rate:,.0f} a second: {report.table}", ["", "images"], rows)


def print_students(report: "StudentsReport") -> None:
    """The models that are small and fast enough."""
    rows = [
        [
            f"timm:{one.name}",
            str(one.image_size),
            f"{one.parameters / 1e6:.2f}",
            f"{one.mb:.1f}",
            f"{one.flops / 1e6:,.0f}",
            f"{one.latency_ms:.1f}",
            "yes" if one.weights else "no",
        ]
        for one in report.students
    ]
    columns = ["student", "pixels", "M parameters", "MB", "MFLOPs", "ms, one image", "hub weights"]
    left_out = f"left out: {report.too_large} too large, {report.too_slow} too slow"
    if report.unusable:
        left_out += f", {len(report.unusable)} unusable ({next(iter(report.unusable))}, …)"
    threads = report.machine["threads"]
    print_table(f"students, eager torch, {threads} threads; {left_out}", columns, rows)
