"""Where a student comes from, as its run's own files tell it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.loop.run_directory import REPORT, read_config, read_object
from distill.models.student import Student, open_start, read_classes, reset_classifier
from transferset.errors import TransfersetError, UsageError
from transferset.models.spec import ModelSpec, parse_spec
from transferset.models.weights import weights_sha256


@dataclass(frozen=True)
class Ancestor:
    """One run: its configuration and its report."""

    config: dict[str, Any]
    report: dict[str, Any]

    @property
    def command(self) -> str:
        """The command of distill that wrote it."""
        return str(self.config.get("command"))


@dataclass(frozen=True)
class Taught:
    """A teacher of a run: its fingerprint, what the run has written down of it, and, where there are several,
    its name."""

    name: str
    sha256: str
    facts: dict[str, Any]


def teachers(run: Ancestor) -> tuple[Taught, ...]:
    """Those that the run learnt from."""
    sha256, facts = part(run.config, "inputs").get("teacher_sha256"), part(run.config, "teacher")
    if sha256 is None:
        return ()
    if not isinstance(sha256, list):
        return (Taught("", str(sha256), facts),)
    named = list(part(facts, "each").items()) or [("", {})] * len(sha256)
    return tuple(Taught(name, str(one), about) for one, (name, about) in zip(sha256, named))


def start_spec(run: Ancestor) -> ModelSpec | None:
    """The model that the run's student is, without the folder of its weights; None: not recorded."""
    try:
        return parse_spec(str(part(run.config, "student").get("spec"))).public
    except UsageError:
        return None


def lineage(run: Path) -> tuple[Ancestor, ...]:
    """The run, preceded by the run that it started from, if that is still where it was and still holds the
    weights that the run started with; oldest first."""
    found = [_read(run)]
    while (start := _start_of(run, found[0])) is not None:
        run = start
        found.insert(0, _read(run))
    return tuple(found)


def _start_of(path: Path, run: Ancestor) -> Path | None:
    given = part(run.config, "student").get("from")
    if not given:
        return None
    start = path.resolve() / given
    try:
        return start if _is_start(open_start(start), path, run) and _read(start) else None
    except TransfersetError:
        return None


def _is_start(student: Student, path: Path, run: Ancestor) -> bool:
    """Whether the run in `path` started from this student. `start_sha256` of finetuning is that of the
    student with the classifier that training begins with, drawn from the seed where the start had none;
    `from_sha256`, which older runs lack, is that of the student as it was found."""
    recorded = part(run.config, "student").get("from_sha256")
    if recorded is not None:
        return weights_sha256(student.module) == recorded
    if run.command == "finetune" and not student.has_classifier:
        seed = int(part(run.config, "arguments").get("seed", 0))
        reset_classifier(student.module, len(read_classes(path)), seed)
    return weights_sha256(student.module) == part(run.config, "inputs").get("start_sha256")


def _read(run: Path) -> Ancestor:
    return Ancestor(read_config(run), read_object(run / REPORT))


def part(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of a configuration or report; empty where there is none."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}
