"""Where a student comes from, as its run's own files tell it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.loop.run_directory import REPORT, read_config, read_object
from distill.models.student import open_student
from transferset.errors import TransfersetError
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


def lineage(run: Path) -> tuple[Ancestor, ...]:
    """The run, preceded by the run that it started from, if that is still where it was and still holds the
    weights that the run started with; oldest first."""
    found = [_read(run)]
    while (earlier := _start_of(found[0])) is not None:
        found.insert(0, earlier)
    return tuple(found)


def _start_of(run: Ancestor) -> Ancestor | None:
    start = part(run.config, "student").get("from")
    expected = part(run.config, "inputs").get("start_sha256")
    if not start:
        return None
    try:
        same = weights_sha256(open_student(Path(start)).module) == expected
        return _read(Path(start)) if same else None
    except TransfersetError:
        return None


def _read(run: Path) -> Ancestor:
    return Ancestor(read_config(run), read_object(run / REPORT))


def part(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of a configuration or report; empty where there is none."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}
