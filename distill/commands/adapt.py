"""The command `distill adapt`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from distill.commands.cells import percent
from transferset.console import print_json, print_table
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.adapt_options import AdaptReport

TeacherOut = Annotated[
    Path,
    typer.Option("--out", file_okay=False, help="Teacher directory; running the same command again resumes."),
]
TeacherSpec = Annotated[
    str, typer.Option(help="Model to adapt: embedded, open_clip:MODEL/PRETRAINED, timm:NAME, …")
]
TeacherImageSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side length of the teacher's input in pixels; default: the model's own."),
]
Flip = Annotated[bool, typer.Option(help="Also train the head on mirrored images.")]
ClassWeight = Annotated[
    str, typer.Option(help="none, or balanced: every class counts equally, even rare ones.")
]
HeadFolds = Annotated[
    int, typer.Option(min=2, help="Cross-validation folds used to choose the head when val cannot.")
]
HeadInit = Annotated[
    str,
    typer.Option(
        help="Initial head: probe (from labels), text (from class names too; needs a text tower), or auto."
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        help="A file with one name per line, or a,b,c; LABEL=NAME sets the name of a label in sentences."
    ),
]
Templates = Annotated[
    Path | None, typer.Option(help="A file with one sentence per line, {} for the class name.")
]
Tune = Annotated[
    str,
    typer.Option(
        help="head: the backbone stays frozen; lp-ft: head first, then everything; full: everything at once;"
        " partial: head first, then the last blocks."
    ),
]
TunedBlocks = Annotated[
    int, typer.Option(min=1, help="For --tune partial: number of blocks (or stages of a convnet) to train.")
]
TuningSteps = Annotated[
    int | None, typer.Option(min=1, help="With --tune: training length in steps, instead of --epochs.")
]
TuningEpochs = Annotated[
    float | None, typer.Option(help="With --tune: training length in epochs; default: 20.")
]
TuningLr = Annotated[
    float | None, typer.Option("--lr", help="With --tune: peak learning rate of the head; default: 2e-4.")
]
TuningDecay = Annotated[
    float, typer.Option(min=0, help="With --tune: weight decay; none for norms and biases.")
]
TuningAugment = Annotated[
    str, typer.Option(help=f"With --tune. {options.AUGMENTATIONS} Default: standard.", show_default=False)
]
LayerDecay = Annotated[
    float,
    typer.Option(help="With --tune: learning rate of each layer, as a fraction of that of the next layer."),
]
TuningBatchSize = Annotated[int, typer.Option(min=1, help="With --tune: images per step.")]
TeacherRetention = Annotated[
    float,
    typer.Option(
        min=0, help="With --tune: weight of staying close to the frozen teacher's outputs; 0: none."
    ),
]
TuningPrecision = Annotated[
    str,
    typer.Option(
        help="With --tune: precision of the steps, fp32, bf16 or fp16; auto: as found by a probe before long"
        " runs."
    ),
]
CompileTeacher = Annotated[
    str, typer.Option("--compile", help="With --tune: torch.compile, on or off; auto: where it pays off.")
]
TuningCheckpointEvery = Annotated[
    int | None,
    typer.Option(
        min=0, help="With --tune: steps between checkpoints; default: ten per run, at most 500 steps."
    ),
]
TuningPatience = Annotated[
    int,
    typer.Option(
        min=0,
        help="With --tune: end the run after this many candidates in a row without improvement; 0: never.",
    ),
]
TuningEvalEvery = Annotated[
    int | None,
    typer.Option(min=1, help="With --tune: steps between evaluated candidates; default: ten per run."),
]


def adapt(
    data: options.Labelled,
    teacher: TeacherSpec,
    out: TeacherOut,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    image_size: TeacherImageSize = None,
    flip: Flip = True,
    class_weight: ClassWeight = "none",
    folds: HeadFolds = 5,
    init: HeadInit = "auto",
    class_names: ClassNames = None,
    templates: Templates = None,
    tune: Tune = "head",
    blocks: TunedBlocks = 1,
    steps: TuningSteps = None,
    epochs: TuningEpochs = None,
    lr: TuningLr = None,
    layer_decay: LayerDecay = 0.8,
    weight_decay: TuningDecay = 0.05,
    train_batch_size: TuningBatchSize = 32,
    augment: TuningAugment = "standard",
    retention: TeacherRetention = 0.0,
    eval_every: TuningEvalEvery = None,
    checkpoint_every: TuningCheckpointEvery = None,
    patience: TuningPatience = 0,
    runtime: options.Runtime = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    max_error_rate: options.MaxErrorRate = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    cache_mb: options.CacheMb = 1024,
    tuning_precision: TuningPrecision = "auto",
    compile_teacher: CompileTeacher = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Make a teacher: a foundation model with a head for the task.

    With --tune, the backbone is finetuned too, and the result kept only if it is better. Run it again to
    resume.
    """
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.models.text_head import TextOptions
    from distill.stages.adapt import adapt as run
    from distill.stages.adapt_options import AdaptOptions, Tuning
    from transferset.prompts import TEMPLATES, parse_class_names, read_templates

    plan = Plan(steps, epochs, train_batch_size, lr, weight_decay, eval_every, checkpoint_every, patience)
    text = TextOptions(
        templates=read_templates(templates) if templates is not None else TEMPLATES,
        class_names=parse_class_names(class_names) if class_names is not None else {},
    )
    given = AdaptOptions(
        data=with_image_root(data, image_root),
        drop_near_copies=drop_near_copies,
        teacher=teacher,
        out=out,
        image_size=image_size,
        flip=flip,
        class_weight=class_weight,
        folds=folds,
        seed=seed,
        runtime=runtime,
        precision=precision,
        batch_size=batch_size,
        max_pixels=max_pixels,
        max_error_rate=max_error_rate,
        execution=Execution(device, threads, workers, cache_mb, tuning_precision, compile_teacher),
        init=init,
        text=text,
        tuning=Tuning(tune, plan, blocks, layer_decay, retention, augment),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else _print_teacher(report)


def _print_teacher(report: "AdaptReport") -> None:
    """The grid, then what the chosen head is worth."""
    estimate, calibration = report.estimate, report.calibration
    chosen = (report.strength, report.text)
    grid = [
        [
            f"{trial['strength']:g}",
            f"{100 * trial.get('text', 0.0):.0f} %",
            f"{trial['loss']:.3f}",
            percent(trial["top1"]),
            f"{trial['temperature']:.3f}",
        ]
        + (["chosen"] if (trial["strength"], trial["text"]) == chosen else [""])
        for trial in report.trials
    ]
    columns = ["C", "class names", "loss", "top-1", "temperature", ""]
    print_table(f"heads, judged on {report.judged_on}", columns, grid)
    _print_candidates(report)
    images = ", ".join(f"{count:,} {split}" for split, count in report.images.items())
    rows = [
        ["images", f"{images}, {report.dropped} unreadable"],
        ["top-1", percent(estimate["top1"], estimate["top1_interval"])],
        [
            "balanced accuracy",
            percent(estimate["balanced_accuracy"], estimate["balanced_accuracy_interval"]),
        ],
        ["temperature", f"{report.temperature:.3f}"],
        ["negative log-likelihood", f"{calibration['nll_before']:.3f} → {calibration['nll_after']:.3f}"],
        ["calibration error", f"{calibration['ece_before']:.3f} → {calibration['ece_after']:.3f}"],
        ["teacher", report.out],
    ]
    if report.val is not None:
        rows.insert(3, ["top-1 on val", percent(report.val["top1"], report.val["top1_interval"])])
    print_table(f"teacher with {report.classes} classes", ["", report.judged_on], rows)


def _print_candidates(report: "AdaptReport") -> None:
    """The frozen teacher, and what finetuning has made of it."""
    if not report.candidates:
        return
    rows = [
        [
            f"{report.tune}, step {one['step']}" if one["step"] else "frozen",
            f"{one['loss']:.3f}",
            percent(one["score"]),
            "chosen" if place == report.chosen else "",
        ]
        for place, one in enumerate(report.candidates)
    ]
    print_table(f"teachers, judged on {report.judged_on}", ["", "loss", "score", ""], rows)
