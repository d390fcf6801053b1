"""`distill train` with an online teacher against the joint rate that its stages predict.

    python benchmarks/training_rate.py --shards SET --teacher TEACHER --work DIR
        [--student timm:mobilenetv3_small_075@none] [--image-size 96] [--steps 200]

Measures alone, each on all cores: reading, decoding and rendering of views for both models; the teacher; the
student's step. Then trains for STEPS steps with new views in every epoch (so that the teacher sees each) and
compares the rate of its steady part.
"""

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.data.batches import BatchReader, ViewPlan
from distill.data.samples import ImageReader
from distill.data.transfer_shards import open_transfer_shards
from distill.data.views import augmentation
from distill.loop.checkpoints import Checkpoints
from distill.loop.execution import torch_threads
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.plan import Plan
from distill.loop.trainer import Recipe, Trainer
from distill.methods.task_oriented import TaskOriented
from distill.models.student import build_student
from distill.models.teacher import open_teacher
from distill.stages.train import TrainOptions, train
from transferset.parallel import ordered_map
from transferset.rates import lines, measure

BATCH = 64
MEASURED = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; the run in it is replaced")
    parser.add_argument("--student", default="timm:mobilenetv3_small_075@none")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=200)
    chosen = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    teacher = open_teacher(chosen.teacher, batch_size=BATCH)
    student = build_student(chosen.student, teacher.classes, chosen.image_size, 0)
    samples = open_transfer_shards((chosen.shards,)).samples
    decode_size = max(teacher.preprocessing.size, chosen.image_size)
    reader = BatchReader(
        ImageReader(samples, decode_size),
        ViewPlan(augmentation("standard"), 0, BATCH),
        student.preprocessing,
        [teacher.preprocessing],
    )
    batch = reader.read(0)

    def views() -> int:
        return BATCH * sum(
            1 for _ in ordered_map(reader.read, range(MEASURED), workers=cores, window=2 * cores)
        )

    def look() -> int:
        for _ in range(MEASURED):
            teacher.logits(batch.teacher_images[0])
        return BATCH * MEASURED

    trainer = Trainer(
        student,
        Recipe(steps=10_000, batch_size=BATCH, lr=2e-3),
        Hooks(stream=lambda step: iter(()), method=TaskOriented(1.0), log=lambda entry: None),  # type: ignore[arg-type, return-value]
        Checkpoints(chosen.work / "unused"),
        Ledger(),
    )
    ready = replace(batch, targets=teacher.logits(batch.teacher_images[0]))

    def steps() -> int:
        for _ in range(MEASURED):
            trainer.train_step(ready)
        return BATCH * MEASURED

    with torch_threads(cores):
        rates = [
            measure("read and render views", views),
            measure("teacher", look),
            measure("student step", steps),
        ]
    out = chosen.work / "training_rate"
    shutil.rmtree(out, ignore_errors=True)
    plan = Plan(steps=chosen.steps, batch_size=BATCH)
    train(
        TrainOptions(
            (chosen.shards,),
            chosen.teacher,
            chosen.student,
            out,
            image_size=chosen.image_size,
            plan=plan,
            views=0,
        )
    )
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steady = [entry["images_per_second"] for entry in entries if "images_per_second" in entry][1:]
    print(*lines(rates, float(np.mean(steady))), sep="\n")


if __name__ == "__main__":
    main()
