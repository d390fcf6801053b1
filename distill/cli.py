"""`distill`: parses, calls one library function a command, prints."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from distill.tables import print_evaluation, print_teacher
from transferset.console import print_json, print_table, run_cli

if TYPE_CHECKING:
    from distill.stages.result import StudentReport

app = typer.Typer(
    help="From a transfer set and a few labels to a small model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Out = Annotated[
    Path, typer.Option("--out", help="The run's directory; running the same command again resumes.")
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Side of the student's input; default: the model's own.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Length in steps.")]
Epochs = Annotated[float | None, typer.Option(help="Length in passes over the images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Lr = Annotated[float | None, typer.Option("--lr", help="Peak learning rate of AdamW.")]
WeightDecay = Annotated[float, typer.Option(help="Weight decay; norms and biases have none.")]
Augment = Annotated[str, typer.Option(help="none, light, standard or strong.")]
EvalEvery = Annotated[int | None, typer.Option(help="Steps between scores on val; default: ten a run.")]
CheckpointEvery = Annotated[
    int | None, typer.Option(help="Steps between checkpoints; default: ten a run, at most 500.")
]
Patience = Annotated[int, typer.Option(help="Scores without improvement that end the run; 0: none do.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Threads = Annotated[int | None, typer.Option(help="Threads of the student on a CPU; default: all cores.")]
Workers = Annotated[int | None, typer.Option(help="Threads that decode and render ahead; 0: none.")]
CacheMb = Annotated[int, typer.Option(min=0, help="Memory for decoded images, MB.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Runtime = Annotated[str, typer.Option(help="What the teacher runs on: auto, eager, openvino.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Larger images are errors.")]
MaxErrorRate = Annotated[
    float | None, typer.Option(min=0, max=1, help="A larger share of unreadable images is an error (3).")
]
MAX_PIXELS = 100_000_000


@app.command()
def adapt(
    data: Annotated[Path, typer.Option(help="Labelled images: class folders, split folders, or a table.")],
    teacher: Annotated[
        str, typer.Option(help="embedded, open_clip:MODEL/PRETRAINED, timm:NAME, … the model to adapt.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The teacher's directory; the same command again resumes.")
    ],
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the teacher's input; default: the model's own.")
    ] = None,
    flip: Annotated[bool, typer.Option(help="The head also learns from mirrored images.")] = True,
    class_weight: Annotated[
        str, typer.Option(help="none, or balanced: every class counts the same, also the rare ones.")
    ] = "none",
    folds: Annotated[int, typer.Option(help="Of the cross-validation, where val does not decide.")] = 5,
    runtime: Runtime = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the teacher sees at once.")] = 64,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_error_rate: MaxErrorRate = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the teacher on a CPU.")] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Give a frozen foundation model a head for the task: the teacher."""
    from distill.loop.execution import Execution
    from distill.stages.adapt import AdaptOptions
    from distill.stages.adapt import adapt as run

    options = AdaptOptions(
        data=data,
        teacher=teacher,
        out=out,
        image_size=image_size,
        flip=flip,
        class_weight=class_weight,
        folds=folds,
        seed=seed,
        runtime=runtime,
        batch_size=batch_size,
        max_pixels=max_pixels,
        max_error_rate=max_error_rate,
        execution=Execution(device, threads, workers),
    )
    report = run(options)
    print_json(asdict(report)) if as_json else print_teacher(report)


@app.command()
def train(
    shards: Annotated[
        list[str], typer.Option(help="A transfer set, a folder of tars, a tar, or a glob; may be repeated.")
    ],
    teacher: Annotated[Path, typer.Option(help="The directory that distill adapt wrote.")],
    student: Annotated[
        str, typer.Option(help="timm:NAME@none, timm:NAME, timm:NAME@FILE.safetensors or embedded.")
    ],
    out: Out,
    more_shards: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="SHARDS")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled images, mixed in without their labels; val selects.")
    ] = None,
    method: Annotated[str, typer.Option(help="task-oriented.")] = "task-oriented",
    image_size: ImageSize = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = 64,
    lr: Lr = None,
    weight_decay: WeightDecay = 0.05,
    views: Annotated[
        int,
        typer.Option(help="Views of each image before they repeat, seen by the teacher once; 0: no repeats."),
    ] = 8,
    augment: Augment = "standard",
    temperature: Annotated[float, typer.Option(help="Softens both sides of the comparison.")] = 1.0,
    labelled_share: Annotated[
        float, typer.Option(help="Share of --data among the images of an epoch.")
    ] = 0.1,
    eval_every: EvalEvery = None,
    checkpoint_every: CheckpointEvery = None,
    patience: Patience = 0,
    seed: Seed = 0,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
    workers: Workers = None,
    cache_mb: CacheMb = 1024,
    as_json: AsJson = False,
) -> None:
    """Train a student to match a teacher's predictions on a transfer set."""
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.stages.train import TrainOptions
    from distill.stages.train import train as run

    plan = Plan(steps, epochs, batch_size, lr, weight_decay, eval_every, checkpoint_every, patience)
    options = TrainOptions(
        shards=(*shards, *(more_shards or ())),  # a glob that the shell has expanded
        teacher=teacher,
        student=student,
        out=out,
        data=data,
        method=method,
        image_size=image_size,
        plan=plan,
        views=views,
        augment=augment,
        temperature=temperature,
        labelled_share=labelled_share,
        seed=seed,
        runtime=runtime,
        execution=Execution(device, threads, workers, cache_mb),
    )
    _print_student(run(options), as_json)


@app.command()
def finetune(
    data: Annotated[Path, typer.Option(help="Labelled images: class folders, split folders, or a table.")],
    out: Out,
    from_run: Annotated[
        Path | None, typer.Option("--from", help="A run of distill train or finetune.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Labels only: the student to start from, as in train.")
    ] = None,
    image_size: ImageSize = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = 64,
    lr: Lr = None,
    weight_decay: WeightDecay = 0.05,
    augment: Augment = "standard",
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the target spread over all classes.")
    ] = 0.1,
    folds: Annotated[int, typer.Option(help="Cross-validation where there is no val split; 0: none.")] = 5,
    eval_every: EvalEvery = None,
    checkpoint_every: CheckpointEvery = None,
    patience: Patience = 0,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    cache_mb: CacheMb = 1024,
    as_json: AsJson = False,
) -> None:
    """Train a student on labels, from a run (--from) or as the labels-only baseline (--student)."""
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.stages.finetune import FinetuneOptions
    from distill.stages.finetune import finetune as run

    plan = Plan(steps, epochs, batch_size, lr, weight_decay, eval_every, checkpoint_every, patience)
    options = FinetuneOptions(
        data=data,
        out=out,
        from_run=from_run,
        student=student,
        image_size=image_size,
        plan=plan,
        augment=augment,
        label_smoothing=label_smoothing,
        folds=folds,
        seed=seed,
        execution=Execution(device, threads, workers, cache_mb),
    )
    _print_student(run(options), as_json)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="A teacher, or a run of train or finetune.")],
    data: Annotated[Path, typer.Option(help="Labelled images: split folders, class folders, or a table.")],
    split: Annotated[str, typer.Option(help="train, val or test of --data; all: every image.")] = "test",
    predictions: Annotated[
        Path | None, typer.Option(help="Write label, answer and probabilities of each image (.parquet).")
    ] = None,
    runtime: Runtime = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the model sees at once.")] = 64,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_error_rate: MaxErrorRate = None,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model on a CPU.")] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Say how good a model is on labelled images: top-1, balanced accuracy, calibration, every class."""
    from distill.loop.execution import Execution
    from distill.stages.evaluate import EvaluateOptions
    from distill.stages.evaluate import evaluate as run

    options = EvaluateOptions(
        model=model,
        data=data,
        split=split,
        predictions=predictions,
        runtime=runtime,
        batch_size=batch_size,
        max_pixels=max_pixels,
        max_error_rate=max_error_rate,
        execution=Execution(device, threads, workers),
    )
    evaluation = run(options)
    print_json(evaluation.to_dict()) if as_json else print_evaluation(evaluation)


def _print_student(report: "StudentReport", as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    score = "not scored: there is no val split" if report.score is None else f"{100 * report.score:.1f} %"
    if report.interval is not None:
        score += f" ({100 * report.interval[0]:.1f}–{100 * report.interval[1]:.1f}), {report.scored_on}"
    rows = [["score", score], ["chosen", f"step {report.chosen_step} of {report.steps}"]]
    rows += [["images seen", f"{report.images_seen:,}"], ["unusable samples", str(report.dropped)]]
    rows += [["skipped steps", str(report.skipped_steps)], ["student", report.out]]
    print_table("student", ["", ""], rows)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(app)
