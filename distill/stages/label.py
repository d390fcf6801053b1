"""`distill label`: what a teacher says of K views of every image, stored for any number of students."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.compact_logits import logit_format
from distill.data.decoder import decoder_pixels, decoder_versions, require_same_pixels
from distill.data.image_stream import list_images
from distill.data.label_shards import OUTPUTS
from distill.data.label_store import LabelStore, open_store
from distill.data.labelling import Labelling
from distill.data.mixture import mix
from distill.data.transfer_shards import open_transfer_shards
from distill.data.views import augmentation
from distill.loop.execution import torch_threads
from distill.loop.run_directory import RunDirectory
from distill.models.teacher import check_precision, check_runtime
from distill.splits.checked import check_splits
from distill.stages.label_options import LabelOptions, LabelReport
from distill.stages.label_table import write_table
from distill.stages.label_writer import Opened, StoreWriter
from distill.stages.random_scores import RandomScores, random_scores
from transferset.console import say
from transferset.errors import UsageError
from transferset.labelled import load_labelled
from transferset.lock import DirectoryLock

if TYPE_CHECKING:
    from distill.models.teacher import Teacher


def label(options: LabelOptions) -> LabelReport:
    """Write the teacher's outputs to `options.out`, shard by shard; the same command goes on where it was
    stopped and keeps every shard that has its checksum. The same inputs give the same bytes.

    Raises UsageError for a store that was written with other arguments, another teacher or other images, or
    on a runtime or in a precision that is not to be had here; DataError where nothing can be read or the
    teacher is damaged; NumericError, InterruptedRun.
    """
    augmentation(options.augment)
    check_runtime(options.runtime)
    check_precision(options.precision)
    list_images(options.reject_from)  # what is not there is told before, and not after
    out, run = options.out, RunDirectory(options.out)
    with DirectoryLock(out):
        begun = run.resolved()
        resolved = _resolve(options, begun)
        with torch_threads(resolved["threads"]):
            opened = _open(options, resolved, begun is not None)
            labelling = _labelling(options, opened, resolved)
            config = _config(options, opened, labelling, resolved)
            require_same_pixels(out, run.open(config), config["decoder"]["pixels"])
            labelled_now = StoreWriter(out, opened, labelling).run()
            store = open_store(out)
            if options.table is not None:
                random = _random_scores(options, labelling, opened.decode_size)
                write_table(options.table, store, opened.mixture, options.shards, random)
    return _report(options, store, labelled_now)


def _resolve(options: LabelOptions, begun: dict[str, Any] | None) -> dict[str, Any]:
    """Where and on what the teacher runs, which decides the last bits of its answers: as a store that was
    `begun` says, else as asked for. UsageError where something else is asked for than the store says."""
    from transferset.models.runtime import PRECISIONS

    runtime, precision = options.runtime, options.precision
    asked = {"batch_size": options.batch_size, "runtime": runtime, "precision": precision}
    resolved = {**asked, **options.execution.resolve(begun)}
    if begun is not None and begun.get("batch_size", options.batch_size) != options.batch_size:
        kept = f"--batch-size {begun['batch_size']}, which the store was started with"
        say(f"note: continues with {kept}, not {options.batch_size}")
    told = (
        ("--runtime", runtime, runtime, resolved["runtime"]),
        ("--precision", precision, PRECISIONS.get(precision, precision), resolved["precision"]),
    )
    changes = [
        f"{name} {given}, the store has {old}"
        for name, given, recorded, old in told
        if begun is not None and given != "auto" and recorded != old
    ]
    if changes:
        raise UsageError(
            f"{options.out} was started with other settings: " + "; ".join(changes),
            hint="leave these options out to continue with it, or give another --out",
        )
    return resolved


def _open(options: LabelOptions, resolved: dict[str, Any], begun: bool) -> Opened:
    shards = open_transfer_shards(options.shards)
    if shards.dropped:
        say(f"left out {len(shards.dropped)} samples; the first: {': '.join(shards.dropped[0])}")
    labelled = None
    if options.data is not None:  # as train does: the store must hold the same images
        labelled = check_splits(
            load_labelled(options.data),
            drop_near=options.drop_near_copies,
            workers=options.execution.workers,
        ).labelled
    mixture = mix(shards.samples, labelled, options.labelled_share).identified(options.execution.readers)
    teacher = _open_teacher(options, resolved, begun)
    layout = logit_format(len(teacher.classes), options.top_k)
    decode_size = options.decode_size or teacher.preprocessing.size
    return Opened(mixture, mixture.units(options.views), teacher, layout, decode_size)


def _open_teacher(options: LabelOptions, resolved: dict[str, Any], begun: bool) -> "Teacher":
    from distill.models.teacher import open_teacher

    try:
        return open_teacher(
            options.teacher,
            runtime=resolved["runtime"],
            precision=resolved["precision"],
            batch_size=resolved["batch_size"],
            device=resolved["device"],
            threads=resolved["threads"],
        )
    except UsageError as error:
        if not begun:
            raise
        raise UsageError(
            f"{options.out} was started on {resolved['runtime']} ({resolved['precision']}) on "
            f"{resolved['device']}, and here: {error.message}",
            hint="continue on such a machine, or label into another --out",
        ) from error


def _labelling(options: LabelOptions, opened: Opened, resolved: dict[str, Any]) -> Labelling:
    return Labelling(
        opened.teacher,
        int(resolved["batch_size"]),
        augmentation(options.augment),
        options.seed,
        opened.layout,
        options.execution.readers,
        options.features,
        options.teacher_flip,
    )


def _random_scores(options: LabelOptions, labelling: Labelling, decode_size: int) -> RandomScores | None:
    if not options.reject_from:
        return None
    paths, count = options.reject_from, options.reject_images
    return random_scores(paths, count, labelling, decode_size, options.views)


def _config(
    options: LabelOptions, opened: Opened, labelling: Labelling, resolved: dict[str, Any]
) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a store must agree with; no time, host or path of
    labelling."""
    teacher, samples = opened.teacher, opened.mixture.samples
    info = teacher.model.info
    return {
        "command": "label",
        "arguments": {
            "views": options.views,
            "augment": options.augment,
            "augmentation": augmentation(options.augment).to_dict(),
            "seed": options.seed,
            "decode_size": opened.decode_size,
            "top_k": opened.layout.top,
            "labelled_views": opened.units[-1].views if opened.mixture.labelled else None,
            **({"features": teacher.model.dimension} if options.features else {}),
            **({"teacher_flip": True} if options.teacher_flip else {}),
        },
        "inputs": {
            "samples": len(samples),
            "samples_sha256": samples.fingerprint,
            "shards": len(opened.units),
            "teacher_sha256": teacher.fingerprint,
            "teacher_temperature": float(teacher.head.temperature),
        },
        "resolved": {**resolved, "runtime": info.runtime, "precision": info.precision},
        "teacher": {
            **teacher.facts(),
            "sha256": teacher.fingerprint,
            "flops_per_image": labelling.answers.flops_per_image,
        },
        "decoder": {
            "pixels": decoder_pixels(augmentation(options.augment), teacher.preprocessing),
            "versions": decoder_versions(),
        },
    }


def _report(options: LabelOptions, store: LabelStore, labelled_now: int) -> LabelReport:
    facts = [shard.facts for shard in store.shards]
    top = store.layout.top
    return LabelReport(
        out=str(options.out),
        images=sum(one.images for one in facts),
        shards=len(facts),
        views=store.views,
        classes=len(store.classes),
        kept="all classes" if top is None else f"the {top} largest and the rest",
        features=store.features,
        flip=store.flip,
        unreadable=sum(len(one.unreadable) for one in facts),
        labelled_now=labelled_now,
        bytes=sum(path.stat().st_size for path in _files(options.out / OUTPUTS)),
        fingerprint=store.fingerprint,
        table=str(options.table) if options.table is not None else None,
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
