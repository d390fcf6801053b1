"""`make demo`: the whole way from a pool to a small model, with no network, on two cores in a few minutes.

The images are crops of photographs that come with scikit-image and scikit-learn (`demo_images.py` says how
pool, labelled and test crops are kept apart). Every step is one of the product's own commands, printed before
it is run. Run again, it resumes where it was stopped, or finds everything done and only prints the table.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_images import write_demo_images
from rich.console import Console
from rich.table import Table

SEED = 0
TRANSFER_IMAGES = 600
STUDENT = "timm:test_resnet@none"
STUDENT_SIZE = 64
SIZE = 128
STEPS = 400
MEASURED, SECONDS = "measured.json", "seconds.json"


@dataclass(frozen=True)
class Step:
    """One command as a user would type it, what it is for, and the name its seconds are kept under."""

    name: str
    purpose: str
    command: str


@dataclass(frozen=True)
class Row:
    """One line of the final table: a model, its directory, and the steps that it took to make it."""

    title: str
    model: str
    made_by: tuple[str, ...]


ROWS = (
    Row("labels only", "runs/labels-only", ("labels-only",)),
    Row("transfer, random images", "runs/transfer-random", ("index", "random", "teacher", "transfer-random")),
    Row("transfer, retrieved images", "runs/transfer", ("index", "retrieved", "teacher", "transfer")),
    Row("teacher, nine times the size", "runs/teacher", ("teacher",)),
)


def steps(out: Path) -> list[Step]:
    """The commands of the demo, in order; all paths are below `out`."""
    to = shlex.quote(str(out))
    retrieve = (
        f"curate retrieve --index {to}/index --query-dir {to}/task --exclude-dir {to}/task/test "
        f"--total {TRANSFER_IMAGES} --seed {SEED}"
    )
    student = f"--student {STUDENT} --image-size {STUDENT_SIZE} --steps {STEPS} --seed {SEED}"
    train = f"distill train --teacher {to}/runs/teacher {student}"
    return [
        Step(
            "index",
            "embed the pool",
            f"curate build-index --pool {to}/pool --index {to}/index --encoder embedded --image-size {SIZE}",
        ),
        Step(
            "retrieved",
            "retrieve images for the labelled ones, the same number for each",
            f"{retrieve} --out {to}/sets/retrieved",
        ),
        Step(
            "random",
            "as many random images, for comparison",
            f"{retrieve} --strategy random --out {to}/sets/random",
        ),
        Step(
            "teacher",
            "give the large model a head for the task",
            f"distill adapt --data {to}/task --teacher embedded --image-size {SIZE} --out {to}/runs/teacher",
        ),
        Step(
            "labels-only",
            "for comparison: the small model learns from the labels alone",
            f"distill finetune --data {to}/task {student} --folds 0 --out {to}/runs/labels-only",
        ),
        Step(
            "transfer-random",
            "the small model learns from the teacher on the random images",
            f"{train} --shards {to}/sets/random --out {to}/runs/transfer-random",
        ),
        Step(
            "transfer",
            "the small model learns from the teacher on the retrieved images",
            f"{train} --shards {to}/sets/retrieved --out {to}/runs/transfer",
        ),
    ]


def evaluation(out: Path, row: Row) -> Step:
    """The command that measures a model on the test crops."""
    to = shlex.quote(str(out))
    command = f"distill evaluate --model {to}/{row.model} --data {to}/task --json"
    return Step(row.model, f"test: {row.title}", command)


def run(step: Step, capture: bool = False) -> str:
    """Print a command and run it; returns its stdout if captured. SystemExit where it fails."""
    print(f"\n# {step.purpose}\n$ {step.command}", flush=True)
    program, *words = shlex.split(step.command)
    installed = Path(sys.executable).with_name(program)
    module = [sys.executable, "-c", f"from {program}.cli import main; main()"]
    done = subprocess.run(
        [*([str(installed)] if installed.is_file() else module), *words],
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
    )
    if done.returncode:
        print(
            f"\nThe demo stops: this command ended with {done.returncode}. `make demo` goes on "
            "from here; to begin anew, remove the output folder.",
            file=sys.stderr,
        )
        raise SystemExit(done.returncode)
    return done.stdout or ""


def timed(step: Step, seconds: dict[str, float]) -> None:
    """Run a step and note its seconds, unless an earlier run of the demo did the work already."""
    start = time.monotonic()
    run(step)
    seconds.setdefault(step.name, round(time.monotonic() - start, 1))


def load(path: Path) -> dict[str, Any]:
    """A JSON object from an earlier run; empty if there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object; a stopped demo leaves the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content, indent=2) + "\n")
    fresh.replace(path)


def print_results(
    out: Path, measured: dict[str, Any], seconds: dict[str, float], images: dict[str, int]
) -> None:
    """The table, what it means, and where everything is."""
    table = Table(title="Results of the small model", title_justify="left")
    table.add_column("")
    table.add_column("test accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("seconds", justify="right")
    for row in ROWS:
        top1 = float(measured[row.model]["top1"])
        low, high = measured[row.model]["top1_interval"]
        spent = sum(seconds.get(name, 0.0) for name in row.made_by)
        table.add_row(row.title, f"{100 * top1:.1f} %", f"{100 * low:.0f}-{100 * high:.0f}", f"{spent:.0f}")
    Console(width=None if sys.stdout.isatty() else 110, highlight=False).print("", table)
    pool = images["pool"]
    print(
        f"""
{images["train"]} labelled and {images["test"]} test images of 10 classes. The pool holds {pool} images,
800 of which show a class of the task; both transfer sets hold {TRANSFER_IMAGES}.
The three small models take the same {STEPS} steps. Seconds are for all commands behind a row,
from the run that did the work.

How to read it: one seed, one toy task. All images are grey crops of twenty photographs, and pool
and test crops of a class are from different places of the same photograph, so retrieval finds more of
the same than it would in a crawl. benchmarks/transfer.py does this properly: real scenes, several
seeds, intervals, and a tuned baseline.

what was retrieved, as pictures   {out}/sets/retrieved/report.html
the small model                   {out}/runs/transfer/model.safetensors
the index                         {out}/index
next                              curate serve --index {out}/index (then http://127.0.0.1:8000/docs)"""
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("demo_output"), help="folder for everything (default: %(default)s)"
    )
    out: Path = parser.parse_args(arguments).out
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    seconds = load(out / SECONDS)
    print("# crops of packaged photographs: a pool, a labelled set, a test set", flush=True)
    images = write_demo_images(out, seed=SEED)
    print(
        f"{out}/pool: {images['pool']}, {out}/task: {images['train']} labelled, {images['test']} test images"
    )
    for step in steps(out):
        timed(step, seconds)
        save(out / SECONDS, seconds)
    measured = {row.model: json.loads(run(evaluation(out, row), capture=True)) for row in ROWS}
    save(out / MEASURED, measured)
    print_results(out, measured, seconds, images)
    print(f"\ndone in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
