"""The command `distill finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from distill import options
from distill.commands.student_table import print_student
from transferset.label_lists import with_image_root

FromRun = Annotated[Path | None, typer.Option("--from", help="A run of distill train or finetune.")]
BaselineSpec = Annotated[
    str | None, typer.Option(help="Student to start from for the labels-only baseline, as in train.")
]
TunedEpochs = Annotated[
    float | None,
    typer.Option(help="Training length in epochs; default: 30 with --from, else 200."),
]
TunedLr = Annotated[
    float | None,
    typer.Option("--lr", help="Peak learning rate of AdamW; default: 3e-4 with --from, else 2e-3."),
]
LabelSmoothing = Annotated[
    float, typer.Option(help="Label smoothing: share of the target spread over all classes.")
]
Folds = Annotated[
    int,
    typer.Option(min=0, help="Cross-validation folds (at least 2) used when there is no val split; 0: none."),
]
Retention = Annotated[
    float,
    typer.Option(min=0, help="Weight of staying close to the outputs of the student in --from; 0: none."),
]
ClassBalanced = Annotated[
    bool, typer.Option("--class-balanced", help="Weight all classes equally, in the loss and in the score.")
]


def finetune(
    data: options.Labelled,
    out: options.Out,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    from_run: FromRun = None,
    student: BaselineSpec = None,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    epochs: TunedEpochs = None,
    batch_size: options.BatchSize = 64,
    accumulate: options.Accumulate = 1,
    lr: TunedLr = None,
    weight_decay: options.WeightDecay = 0.05,
    augment: options.Augment = "standard",
    label_smoothing: LabelSmoothing = 0.1,
    folds: Folds = 5,
    head_epochs: options.HeadEpochs = 0.0,
    backbone_lr_scale: options.BackboneLrScale = 1.0,
    retention: Retention = 0.0,
    class_balanced: ClassBalanced = False,
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
    """Train a student on labels.

    Starts from a run (--from) or, as the labels-only baseline, from --student. Run it again to resume.
    """
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
    print_student(run(given), as_json)
