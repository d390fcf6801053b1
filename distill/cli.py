"""`distill`: parses, calls one library function a command, prints."""

from dataclasses import asdict
from typing import TYPE_CHECKING, NoReturn

import typer

from distill import cli_adapt, cli_check, cli_compare, cli_export, cli_label, cli_replay, options
from distill.tables import print_evaluation
from transferset.console import print_json, print_table, run_cli
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.result import StudentReport

MAX_PIXELS = 100_000_000  # of transferset.images, which is slow to import

app = typer.Typer(
    help="From a transfer set and a few labels to a small model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.command()(cli_adapt.adapt)


@app.command()
def train(
    shards: options.Shards,
    out: options.Out,
    student: options.StudentSpecs = None,
    from_run: options.ContinuedRun = None,
    teacher: options.TrainTeacher = None,
    combine: options.Combine = "average",
    teacher_weight: options.TeacherWeights = None,
    teacher_flip: options.TeacherFlip = False,
    labels_from: options.LabelsFrom = None,
    more_shards: options.MoreShards = None,
    data: options.MixedIn = None,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    method: options.Method = "task-oriented",
    feature_loss: options.FeatureLoss = None,
    feature_weight: options.FeatureWeight = 0.0,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = 64,
    accumulate: options.Accumulate = 1,
    lr: options.Lr = None,
    weight_decay: options.WeightDecay = 0.05,
    views: options.Views = None,
    augment: options.TrainAugment = None,
    temperature: options.Temperature = None,
    labelled_share: options.LabelledShare = 0.1,
    label_weight: options.LabelWeight = 0.0,
    head_epochs: options.HeadEpochs = 0.0,
    backbone_lr_scale: options.BackboneLrScale = 1.0,
    eval_every: options.EvalEvery = None,
    checkpoint_every: options.CheckpointEvery = None,
    patience: options.Patience = 0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    runtime: options.Runtime = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    cache_mb: options.CacheMb = 1024,
    student_precision: options.StudentPrecision = "auto",
    compile_student: options.CompileStudent = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Train a student to match a teacher's predictions, or its features, on a transfer set."""
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.stages.train import TrainOptions
    from distill.stages.train import train as run

    plan = Plan(
        steps, epochs, batch_size, lr, weight_decay, eval_every, checkpoint_every, patience, accumulate
    )
    given = TrainOptions(
        shards=(*shards, *(more_shards or ())),  # a glob that the shell has expanded
        teacher=tuple(teacher or ()),
        student=student[0] if student else None,
        out=out,
        data=with_image_root(data, image_root),
        drop_near_copies=drop_near_copies,
        method=method,
        feature_loss=feature_loss,
        feature_weight=feature_weight,
        image_size=image_size,
        plan=plan,
        views=views,
        augment=augment,
        temperature=temperature,
        labelled_share=labelled_share,
        seed=seed,
        runtime=runtime,
        labels_from=tuple(labels_from or ()),
        precision=precision,
        label_weight=label_weight,
        combine=combine,
        teacher_weights=tuple(teacher_weight or ()),
        teacher_flip=teacher_flip,
        from_run=from_run,
        head_epochs=head_epochs,
        backbone_lr_scale=backbone_lr_scale,
        execution=Execution(device, threads, workers, cache_mb, student_precision, compile_student),
    )
    if student is None or len(student) == 1:
        _print_student(run(given), as_json)
        return
    from distill.stages.train_several import train_several

    reports = train_several(given, tuple(student))
    if as_json:
        print_json({"students": [asdict(report) for report in reports]})
        return
    for report in reports:
        _print_student(report, as_json=False)


@app.command()
def finetune(
    data: options.Labelled,
    out: options.Out,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    from_run: options.FromRun = None,
    student: options.BaselineSpec = None,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = 64,
    accumulate: options.Accumulate = 1,
    lr: options.Lr = None,
    weight_decay: options.WeightDecay = 0.05,
    augment: options.Augment = "standard",
    label_smoothing: options.LabelSmoothing = 0.1,
    folds: options.Folds = 5,
    head_epochs: options.HeadEpochs = 0.0,
    backbone_lr_scale: options.BackboneLrScale = 1.0,
    retention: options.Retention = 0.0,
    class_balanced: options.ClassBalanced = False,
    eval_every: options.EvalEvery = None,
    checkpoint_every: options.CheckpointEvery = None,
    patience: options.Patience = 0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    cache_mb: options.CacheMb = 1024,
    student_precision: options.StudentPrecision = "auto",
    compile_student: options.CompileStudent = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Train a student on labels, from a run (--from) or as the labels-only baseline (--student)."""
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.stages.finetune import FinetuneOptions
    from distill.stages.finetune import finetune as run

    plan = Plan(
        steps, epochs, batch_size, lr, weight_decay, eval_every, checkpoint_every, patience, accumulate
    )
    given = FinetuneOptions(
        data=with_image_root(data, image_root),
        drop_near_copies=drop_near_copies,
        out=out,
        from_run=from_run,
        student=student,
        image_size=image_size,
        plan=plan,
        augment=augment,
        label_smoothing=label_smoothing,
        folds=folds,
        head_epochs=head_epochs,
        backbone_lr_scale=backbone_lr_scale,
        retention=retention,
        class_balanced=class_balanced,
        seed=seed,
        execution=Execution(device, threads, workers, cache_mb, student_precision, compile_student),
    )
    _print_student(run(given), as_json)


@app.command()
def evaluate(
    model: options.Models,
    data: options.Labelled,
    image_root: options.ImageRoot = None,
    against: options.Against = None,
    split: options.Split = "test",
    predictions: options.Predictions = None,
    runtime: options.Runtime = "auto",
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    max_error_rate: options.MaxErrorRate = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Say how good a model is on labelled images: top-1, balanced accuracy, calibration, every class."""
    from distill.loop.execution import Execution
    from distill.stages.evaluate import EvaluateOptions
    from distill.stages.evaluate import evaluate as run

    given = EvaluateOptions(
        model=model[0],
        data=with_image_root(data, image_root),
        split=split,
        predictions=predictions,
        runtime=runtime,
        batch_size=batch_size,
        max_pixels=max_pixels,
        max_error_rate=max_error_rate,
        execution=Execution(device, threads, workers),
    )
    if len(model) > 1 or against:
        from distill.stages.evaluate_several import evaluate_several
        from distill.tables_evaluation import print_comparison

        found = evaluate_several(given, model, against or ())
        print_json(found.to_dict()) if as_json else print_comparison(found)
        return
    evaluation = run(given)
    print_json(evaluation.to_dict()) if as_json else print_evaluation(evaluation)


MORE = (cli_check, cli_label, cli_export, cli_replay, cli_compare)
for command in (command for module in MORE for command in module.COMMANDS):
    app.command()(command)


def _print_student(report: "StudentReport", as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    score = "not scored: there is no val split" if report.score is None else f"{100 * report.score:.1f} %"
    if report.classifier == "none":
        score = "no classifier yet: distill finetune --from gives it one"
    if report.metric != "top1":
        score += f" {report.metric.replace('_', ' ')}"
    if report.interval is not None:
        score += f" ({100 * report.interval[0]:.1f}–{100 * report.interval[1]:.1f}), {report.scored_on}"
    rows = [["head", report.head]] if report.head is not None else []
    rows += [["score", score], ["chosen", f"step {report.chosen_step} of {report.steps}"]]
    rows += [["images seen", f"{report.images_seen:,}"], ["unusable samples", str(report.dropped)]]
    rows += [["skipped steps", str(report.skipped_steps)], ["student", report.out]]
    print_table("student", ["", ""], rows)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(app)


if __name__ == "__main__":
    main()
