"""`distill adapt`: a foundation model gets a head for the task from a few labelled images, and is finetuned
with it if asked to."""

import contextlib

from distill.data.adaptation_sets import load_adaptation_sets
from distill.loop.execution import torch_threads
from distill.loop.mode import PLAIN
from distill.loop.mode_probe import resolve_mode
from distill.loop.run_directory import REPORT, RESTORE, RunDirectory
from distill.models.teacher import parse_teacher_spec
from distill.models.text_head import TextOptions, require_text_tower
from distill.splits.checked import check_splits
from distill.stages.adapt_config import config
from distill.stages.adapt_options import FROZEN, TEXT, AdaptOptions, AdaptReport, check
from distill.stages.adaptation import Adapting
from distill.stages.tuning import remove_pieces
from distill.stages.tuning_inputs import build_adapted, tuning_recipe
from transferset.console import say
from transferset.errors import DataError
from transferset.labelled import load_labelled
from transferset.lock import DirectoryLock


def adapt(options: AdaptOptions) -> AdaptReport:
    """Adapt a teacher; it is written to, and resumed in, `options.out`.

    Features of the frozen model are computed once; a linear head is chosen from a grid of penalties and its
    temperature fitted, on val or by cross-validation (see `choose_head`). The backbone is finetuned if
    `options.tuning` says so, and that is kept if it is better on the same held-out images (see `tune`). The
    test split is not looked at.

    Raises UsageError for options that don't fit each other or what is there, DataError for labels or images
    that cannot be used or weights that cannot be had, NumericError for features that are not finite.
    """
    from transferset.models.backbone import load_backbone
    from transferset.models.runtime import resolve_device

    check(options)
    resolve_device(options.execution.device)
    labelled = load_labelled(options.data)
    load_adaptation_sets(options.data, labelled)  # what cannot be learnt is told before weights are fetched
    backbone = load_backbone(
        parse_teacher_spec(options.teacher), image_size=options.image_size, seed=options.seed
    )
    if options.init == TEXT or options.text != TextOptions():
        require_text_tower(backbone)
    checked = check_splits(
        labelled,
        drop_near=options.drop_near_copies,
        max_pixels=options.max_pixels,
        workers=options.execution.workers,
    )
    sets = load_adaptation_sets(options.data, checked.labelled)
    student = None
    if options.tuning.mode != FROZEN:
        student = build_adapted(options.tuning, backbone, sets.classes)
    run = RunDirectory(options.out)
    with DirectoryLock(options.out), contextlib.ExitStack() as stack:
        resolved, mode = None, PLAIN
        if student is not None:
            before = run.resolved()
            resolved = options.execution.resolve(before)
            stack.enter_context(torch_threads(resolved["threads"]))
            student.module.to(resolved["device"])
            recipe = tuning_recipe(options, len(sets.train.images))
            mode = resolve_mode(before, student, recipe, options.execution, "teacher")
            resolved = {**resolved, "student_mode": mode.to_dict()}
        run.open(config(options, checked, sets, backbone, resolved))
        checked.record(options.out)
        done = run.report()
        if done is not None:
            say(f"{options.out} is complete: nothing to do")
            remove_pieces(options.out)
            try:
                return AdaptReport(**done)
            except TypeError as error:
                message = f"{options.out / REPORT} is not that of a teacher: {error}"
                raise DataError(message, hint=RESTORE) from error
        return Adapting(options, sets, backbone, run, student, mode).run()
