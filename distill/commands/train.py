"""The command `distill train`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from distill import options
from distill.commands.student_table import print_student
from transferset.console import print_json
from transferset.label_lists import with_image_root

TrainTeacher = Annotated[
    list[Path] | None,
    typer.Option(help="Teacher directory written by distill adapt; or use --labels-from. May be repeated."),
]
LabelsFrom = Annotated[
    list[Path] | None,
    typer.Option(help="A store written by distill label, instead of --teacher. May be repeated."),
]
StudentSpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--student",
        help="timm:NAME@none, timm:NAME, timm:NAME@FILE.safetensors or embedded. If repeated, all are trained"
        " in one pass, each in its own folder below --out.",
    ),
]
LabelWeight = Annotated[
    float,
    typer.Option(min=0, help="Loss weight of the labels in --data, learnt by a second head; 0: not learnt."),
]
Combine = Annotated[
    str,
    typer.Option(help="For several teachers: average (of their probabilities), or heads (one per teacher)."),
]
TeacherWeights = Annotated[
    list[float] | None,
    typer.Option("--teacher-weight", help="Weight of a teacher, given once for each; default: equal."),
]
ContinuedRun = Annotated[
    Path | None,
    typer.Option("--from", help="A run to continue from, instead of --student, with other or more teachers."),
]
Method = Annotated[
    str, typer.Option(help="task-oriented, pseudo-labels, or task-agnostic (match the teacher's features).")
]
FeatureLoss = Annotated[
    str | None,
    typer.Option(help="For task-agnostic: cosine, smooth-l1, contrastive or patches; default: cosine."),
]
FeatureWeight = Annotated[
    float,
    typer.Option(
        min=0,
        help="Loss weight of matching the teacher's features, besides its class probabilities; 0: none.",
    ),
]
TrainEpochs = Annotated[float | None, typer.Option(help="Training length in epochs; default: 60.")]
TrainLr = Annotated[
    float | None,
    typer.Option("--lr", help="Peak learning rate of AdamW; default: 4e-3 from random weights, else 1e-3."),
]
Views = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Views per image before they repeat; the teacher sees each once; 0: no repeats."
        " Default: 8, or the store's.",
    ),
]
TrainAugment = Annotated[
    str | None, typer.Option(help=f"{options.AUGMENTATIONS} Default: standard, or the store's.")
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Softmax temperature of student and teacher; default: 1, or 0.07 for contrastive."),
]

Metric = Annotated[
    str, typer.Option(help="Score on val: top1, or balanced_accuracy, where every class counts equally.")
]


def train(
    shards: options.Shards,
    out: options.Out,
    student: StudentSpecs = None,
    from_run: ContinuedRun = None,
    teacher: TrainTeacher = None,
    combine: Combine = "average",
    teacher_weight: TeacherWeights = None,
    teacher_flip: options.TeacherFlip = False,
    labels_from: LabelsFrom = None,
    more_shards: options.MoreShards = None,
    data: options.MixedIn = None,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    method: Method = "task-oriented",
    feature_loss: FeatureLoss = None,
    feature_weight: FeatureWeight = 0.0,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    epochs: TrainEpochs = None,
    batch_size: options.BatchSize = 64,
    accumulate: options.Accumulate = 1,
    lr: TrainLr = None,
    weight_decay: options.WeightDecay = 0.05,
    views: Views = None,
    augment: TrainAugment = None,
    temperature: Temperature = None,
    labelled_share: options.LabelledShare = 0.1,
    label_weight: LabelWeight = 0.0,
    head_epochs: options.HeadEpochs = 0.0,
    backbone_lr_scale: options.BackboneLrScale = 1.0,
    eval_every: options.EvalEvery = None,
    checkpoint_every: options.CheckpointEvery = None,
    patience: options.Patience = 0,
    metric: Metric = "top1",
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
    """Teach a student on a transfer set.

    It matches the predictions of one or several teachers, or their features. Run it again to resume.
    """
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
        metric=metric,
        execution=Execution(device, threads, workers, cache_mb, student_precision, compile_student),
    )
    if student is None or len(student) == 1:
        print_student(run(given), as_json)
        return
    from distill.stages.train_several import train_several

    reports = train_several(given, tuple(student))
    if as_json:
        print_json({"students": [asdict(report) for report in reports]})
        return
    for report in reports:
        print_student(report, as_json=False)
