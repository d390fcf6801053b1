"""`distill label` and `plan`: parse, call one library function each, print."""

from dataclasses import asdict

from distill import options
from distill.tables import print_plan, print_store
from transferset.console import print_json
from transferset.errors import UsageError
from transferset.label_lists import with_image_root


def label(
    shards: options.Shards,
    teacher: options.LabellingTeacher,
    out: options.Store,
    more_shards: options.MoreShards = None,
    views: options.StoredViews = 8,
    augment: options.Augment = "standard",
    data: options.StoredData = None,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    labelled_share: options.LabelledShare = 0.1,
    decode_size: options.DecodeSize = None,
    top_k: options.TopK = None,
    features: options.StoredFeatures = False,
    table: options.LabelTable = None,
    seed: options.Seed = 0,
    batch_size: options.ModelBatchSize = 64,
    runtime: options.Runtime = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Store what a teacher says of a transfer set, for train --labels-from."""
    from distill.loop.execution import Execution
    from distill.stages.label import LabelOptions
    from distill.stages.label import label as run

    if len(teacher) > 1:
        raise UsageError(
            f"{len(teacher)} --teacher: a store holds what one teacher says",
            hint="label with each into a store of its own; train --labels-from A --labels-from B takes them",
        )
    given = LabelOptions(
        shards=(*shards, *(more_shards or ())),  # a glob that the shell has expanded
        teacher=teacher[0],
        out=out,
        views=views,
        augment=augment,
        data=with_image_root(data, image_root),
        drop_near_copies=drop_near_copies,
        labelled_share=labelled_share,
        decode_size=decode_size,
        top_k=top_k,
        features=features,
        table=table,
        seed=seed,
        batch_size=batch_size,
        runtime=runtime,
        execution=Execution(device, threads, workers),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else print_store(report)


def plan(
    shards: options.Shards,
    teacher: options.Teacher,
    student: options.StudentSpec,
    more_shards: options.MoreShards = None,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = 64,
    views: options.PlannedViews = 8,
    augment: options.Augment = "standard",
    top_k: options.TopK = None,
    features: options.StoredFeatures = False,
    seconds: options.ProbeSeconds = 2.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    runtime: options.Runtime = "auto",
    threads: options.Threads = None,
    cache_mb: options.CacheMb = 1024,
    as_json: options.AsJson = False,
) -> None:
    """Predict time and disk of training online and from a store; says whether storing pays."""
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.stages.plan import PlanOptions
    from distill.stages.plan import plan as run

    given = PlanOptions(
        shards=(*shards, *(more_shards or ())),
        teacher=teacher,
        student=student,
        image_size=image_size,
        plan=Plan(steps, epochs, batch_size),
        views=views,
        augment=augment,
        top_k=top_k,
        features=features,
        seed=seed,
        runtime=runtime,
        seconds=seconds,
        execution=Execution(device, threads, None, cache_mb),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else print_plan(report)


COMMANDS = (label, plan)
