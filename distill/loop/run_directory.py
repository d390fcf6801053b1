"""The directory of a run: its configuration, its log, and whether it is new, resumed or done."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.loop.event_files import EventFiles
from transferset.changes import changes
from transferset.errors import DataError, UsageError
from transferset.writes import atomic_file, read_json, sweep_temporaries, write_json

FORMAT_VERSION = 1
CONFIG = "config.json"
METRICS = "metrics.jsonl"
REPORT = "report.json"
CHECKPOINTS = "checkpoints"
REPLAY = "replay"
TENSORBOARD = "tensorboard"
RESTORE = "restore the directory, or remove it and run the command again"


class RunDirectory:
    """`config.json` (first), `metrics.jsonl` and, for TensorBoard, `tensorboard/`, `checkpoints/`, the
    student's files, `report.json` (last).

    Use it only while holding the directory's lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events = EventFiles(path / TENSORBOARD)

    def open(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Start the run, or take up the one that is there; returns the configuration that holds.

        `config["arguments"]` and `config["inputs"]` must equal those of the run that is there (UsageError
        showing the difference); everything else, such as what was resolved for this machine, is taken from
        it.
        """
        given: dict[str, Any] = json.loads(json.dumps({"format_version": FORMAT_VERSION, **config}))
        sweep_temporaries(self.path)
        if not (self.path / CONFIG).exists():
            foreign = sorted(path.name for path in self.path.iterdir() if not path.name.startswith("."))
            if foreign:
                raise UsageError(
                    f"{self.path} is not empty and not a run of distill: it holds {', '.join(foreign[:3])}",
                    hint="give --out a new directory",
                )
            write_json(self.path / CONFIG, given)
        found = read_config(self.path)
        self._refuse_other(found, given)
        return found

    def resolved(self) -> dict[str, Any] | None:
        """What an earlier piece of this run resolved for the machine; None: the run is new."""
        if not (self.path / CONFIG).exists():
            return None
        resolved = read_config(self.path).get("resolved")
        return resolved if isinstance(resolved, dict) and "threads" in resolved else None

    def _refuse_other(self, found: dict[str, Any], given: dict[str, Any]) -> None:
        whole = ("format_version", "command")
        differing = changes(*({name: config.get(name) for name in whole} for config in (found, given)))
        for part in ("arguments", "inputs"):
            if not isinstance(found.get(part), dict):
                raise DataError(f"{self.path / CONFIG} is damaged: it holds no {part}", hint=RESTORE)
            differing += changes(found[part], given[part])
        if differing:
            raise UsageError(
                f"{self.path} was written by other arguments: " + "; ".join(differing),
                hint="give --out another directory, or the same arguments to resume",
            )

    def report(self) -> dict[str, Any] | None:
        """The report of a finished run; None: it is not finished."""
        return read_object(self.path / REPORT) if (self.path / REPORT).exists() else None

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, with the time (seconds since 1970)."""
        timed = {**entry, "time": round(time.time(), 3)}
        with (self.path / METRICS).open("a", encoding="ascii") as file:
            file.write(json.dumps(timed, allow_nan=False) + "\n")
        self._events.add(timed)

    def rewind(self, step: int, part: str | None = None) -> None:
        """Forget the lines of metrics.jsonl (of one `part` of the run, such as a fold) beyond `step`, which a
        resumed run writes again."""
        path = self.path / METRICS
        if not path.exists():
            self._events.rewrite((), part)
            return
        entries = [json.loads(line) for line in path.read_text("ascii").splitlines() if _whole(line)]
        kept = [entry for entry in entries if entry.get("part") != part or entry["step"] <= step]
        with atomic_file(path, "w") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)
        self._events.rewrite([entry for entry in kept if entry.get("part") == part], part)

    def close(self) -> None:
        """Close TensorBoard's files."""
        self._events.close()

    def metrics(self) -> list[dict[str, Any]]:
        """Everything that was logged."""
        path = self.path / METRICS
        lines = path.read_text("ascii").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if _whole(line)]


def read_config(run: Path, command: str | None = None) -> dict[str, Any]:
    """The configuration of a run; DataError where the directory is none (or not one of `command`)."""
    if not (run / CONFIG).is_file():
        raise DataError(
            f"{run} is not a run of distill: {CONFIG} is missing",
            hint=one_of_several(run)
            or "give a directory that distill adapt, train or finetune has written with --out",
        )
    config = read_object(run / CONFIG)
    if command is not None and config.get("command") != command:
        raise DataError(f"{run} is not a run of distill {command}")
    return config


def one_of_several(directory: Path) -> str | None:
    """What to do where a directory is no run, but holds those of several students; None: it doesn't."""
    runs = sorted(path.parent for path in directory.glob(f"*/{CONFIG}"))
    return f"it holds {len(runs)} runs: give one of them, such as {runs[0]}" if runs else None


def path_from(run: Path, other: Path) -> str:
    """Where `other` is, seen from a run: the same from every working directory, and when both are moved."""
    return os.path.relpath(other.resolve(), run.resolve())


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; DataError where the file is missing, damaged or holds anything else."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged: it holds no JSON object", hint=RESTORE)
    return found


def _whole(line: str) -> bool:
    """A killed writer may leave half a line."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
