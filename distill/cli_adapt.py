"""`distill adapt`: parses, calls one library function, prints."""

from dataclasses import asdict

from distill import options
from distill.tables import print_teacher
from transferset.console import print_json
from transferset.label_lists import with_image_root

MAX_PIXELS = 100_000_000  # of transferset.images, which is slow to import


def adapt(
    data: options.Labelled,
    teacher: options.TeacherSpec,
    out: options.TeacherOut,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    image_size: options.TeacherImageSize = None,
    flip: options.Flip = True,
    class_weight: options.ClassWeight = "none",
    folds: options.HeadFolds = 5,
    init: options.HeadInit = "auto",
    class_names: options.ClassNames = None,
    templates: options.Templates = None,
    tune: options.Tune = "head",
    blocks: options.TunedBlocks = 1,
    steps: options.Steps = None,
    epochs: options.TuningEpochs = None,
    lr: options.TuningLr = None,
    layer_decay: options.LayerDecay = 0.8,
    weight_decay: options.WeightDecay = 0.05,
    train_batch_size: options.TuningBatchSize = 32,
    augment: options.Augment = "standard",
    retention: options.TeacherRetention = 0.0,
    eval_every: options.TuningEvalEvery = None,
    checkpoint_every: options.CheckpointEvery = None,
    patience: options.Patience = 0,
    runtime: options.Runtime = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    max_error_rate: options.MaxErrorRate = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    cache_mb: options.CacheMb = 1024,
    as_json: options.AsJson = False,
) -> None:
    """Give a foundation model a head for the task, and finetune it if asked to: the teacher."""
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
        execution=Execution(device, threads, workers, cache_mb),
        init=init,
        text=text,
        tuning=Tuning(tune, plan, blocks, layer_decay, retention, augment),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else print_teacher(report)
