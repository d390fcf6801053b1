"""`distill train` with an online teacher and from a store: each against its predicted joint rate, and their
ratio over the whole run.

    python benchmarks/stored_rate.py --shards SET --teacher TEACHER --work DIR
        [--student timm:mobilenetv3_small_075@none] [--image-size 96] [--steps 100] [--views 4] [--students 1]

`distill plan` measures the stages alone. Then the teacher's outputs are labelled into a store, STUDENTS
students are trained online for STEPS steps with K views per image, and as many from the store, one after
another; two or more also in one pass with an online teacher. The online rate is that of the part of the run
in which the teacher still looks at views; the whole-run times are what a user waits for.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill.loop.plan import Plan
from distill.stages.label import LabelOptions, label
from distill.stages.plan import PlanOptions, plan
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import train_several

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; what is in it is replaced")
    parser.add_argument("--student", default="timm:mobilenetv3_small_075@none")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--students", type=int, default=1)
    parser.add_argument("--probe-seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    schedule = Plan(steps=chosen.steps, batch_size=BATCH)
    planned = PlanOptions(
        (chosen.shards,),
        chosen.teacher,
        chosen.student,
        chosen.image_size,
        schedule,
        chosen.views,
        seconds=chosen.probe_seconds,
    )
    predicted = plan(planned)
    store = _fresh(chosen.work / "store")
    seconds = {
        "label": _seconds(lambda: label(LabelOptions((chosen.shards,), chosen.teacher, store, chosen.views)))
    }
    rates: dict[str, float] = {}
    waits: dict[str, float] = {}
    for way in ("online", "stored"):
        source: dict[str, Any] = {"labels_from": store} if way == "stored" else {"views": chosen.views}
        seconds[way] = 0.0
        for seed in range(chosen.students):
            out = _fresh(chosen.work / f"{way}-{seed}")
            teacher = chosen.teacher if way == "online" else None
            options = TrainOptions(
                (chosen.shards,),
                teacher,
                chosen.student,
                out,
                image_size=chosen.image_size,
                plan=schedule,
                seed=seed,
                **source,
            )
            seconds[way] += _seconds(lambda given=options: train(given))  # type: ignore[misc]
        looking = predicted.teacher_images // BATCH if way == "online" else chosen.steps
        rates[way], waits[way] = _steady(chosen.work / f"{way}-0", looking)
    if chosen.students > 1:
        seconds["pass"] = _one_pass(chosen, schedule)
    print(*_lines(predicted.rates, predicted.joint_rates, rates, waits), sep="\n")
    together = seconds["label"] + seconds["stored"]
    print(f"whole runs, {chosen.students} students of {chosen.steps} steps:")
    print(f"  online {seconds['online']:.0f} s, from the store {seconds['stored']:.0f} s,", end=" ")
    print(f"ratio {seconds['online'] / seconds['stored']:.2f}")
    print(f"  with labelling ({seconds['label']:.0f} s) {together:.0f} s,", end=" ")
    print(f"ratio {seconds['online'] / together:.2f}; planned:", end=" ")
    ahead = predicted.seconds_for(chosen.students)
    print(f"online {ahead[0]:.0f} s, label and train {ahead[1]:.0f} s")
    if "pass" in seconds:
        print(f"  in one pass {seconds['pass']:.0f} s, ratio {seconds['online'] / seconds['pass']:.2f}")


def _one_pass(chosen: argparse.Namespace, schedule: Plan) -> float:
    """Seconds of as many students that learn together; tells what the teacher cost each of them."""
    out = _fresh(chosen.work / "pass")
    options = TrainOptions(
        (chosen.shards,),
        chosen.teacher,
        chosen.student,
        out,
        image_size=chosen.image_size,
        plan=schedule,
        views=chosen.views,
    )
    start = time.perf_counter()
    reports = train_several(options, (chosen.student,) * chosen.students)
    seconds = time.perf_counter() - start
    teacher = [report.costs.get("teacher", {}).get("seconds", 0.0) for report in reports]
    print("teacher time of the students of one pass:", ", ".join(f"{one:.0f} s" for one in teacher))
    return seconds


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _steady(run: Path, until: int) -> tuple[float, float]:
    """Images per second and data wait (%) up to the step `until`, but for the first window."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    windows = [entry for entry in entries if "images_per_second" in entry and entry["step"] <= max(until, 1)]
    windows = windows[1:] or windows
    if not windows:
        raise SystemExit("the run is too short to measure: give more --steps or --views")
    rate = len(windows) / sum(1 / entry["images_per_second"] for entry in windows)
    return rate, float(np.mean([entry["data_wait_percent"] for entry in windows]))


def _lines(
    stages: dict[str, float], predicted: dict[str, float], rates: dict[str, float], waits: dict[str, float]
) -> list[str]:
    alone = [f"{name.replace('_', ' '):<16}{rate:>9.0f} images/s" for name, rate in stages.items()]
    return alone + [
        f"{way}: predicted joint rate {predicted[way]:.0f}, measured {rates[way]:.0f},"
        f" ratio {rates[way] / predicted[way]:.2f}; data wait {waits[way]:.1f} %"
        for way in rates
    ]


if __name__ == "__main__":
    main()
