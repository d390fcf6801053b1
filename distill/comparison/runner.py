"""Runs cells one after the other: finished ones are left alone, failed ones are recorded and passed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.comparison.cells import FAILED, RESULT, Cell, claim, identity
from distill.comparison.costs import Cost
from distill.comparison.shared import Shared, set_sha256
from distill.comparison.work import PREDICTIONS, TRANSFERRED, NotAvailable, Work, do
from transferset.console import say
from transferset.errors import (
    BusyError,
    DataError,
    DiskError,
    InterruptedRun,
    OpenFilesError,
    TransfersetError,
)
from transferset.known_errors import known_error
from transferset.lock import DirectoryLock
from transferset.writes import read_json, sha256_file, write_json

DONE, FAILED_STATUS, UNAVAILABLE, WAITING = "done", "failed", "not available", "not run yet"
_PASSING = (TransfersetError, RuntimeError, OSError, MemoryError)


@dataclass(frozen=True)
class Outcome:
    """What has become of a cell; `work` if it is done, `reason` if not. `folder` holds its predictions."""

    cell: Cell
    folder: Path
    status: str
    work: Work | None = None
    reason: str | None = None

    @property
    def predictions(self) -> Path:
        """The answers of its final model to the test images."""
        final = self.folder / PREDICTIONS
        return final if final.exists() else self.folder / TRANSFERRED


def outcome_of(out: Path, cell: Cell) -> Outcome:
    """What is there of a cell. A result that is damaged, or whose predictions are, counts as none: running
    again makes it again."""
    folder = out / "cells" / cell.name
    reason: str | None = None
    try:
        found = read_json(folder / RESULT)
        work = _work(found)
        intact = all(sha256_file(folder / name) == sha for name, sha in found["predictions"].items())
        if intact:
            return Outcome(cell, folder, DONE, work)
        reason = f"{folder}: the predictions are not those that {RESULT} names"
    except (DataError, FileNotFoundError, KeyError, TypeError, ValueError) as error:
        reason = None if not (folder / RESULT).exists() else f"{folder / RESULT} is damaged: {error}"
    if reason is not None:
        say(f"note: {reason}; it is run again")
        return Outcome(cell, folder, WAITING, reason=reason)
    try:
        failed = read_json(folder / FAILED)
        return Outcome(cell, folder, str(failed["status"]), reason=str(failed["reason"]))
    except (DataError, KeyError, TypeError):
        return Outcome(cell, folder, WAITING)


def _work(found: dict[str, Any]) -> Work:
    return Work(
        metrics=dict(found["metrics"]),
        costs=[Cost(**entry) for entry in found["costs"]],
        val=found["val"],
        transferred=found["transferred"],
        set_images=found["set_images"],
        label_images=int(found["label_images"]),
        chosen=dict(found["chosen"]),
    )


def _write(folder: Path, work: Work) -> None:
    predictions = [name for name in (PREDICTIONS, TRANSFERRED) if (folder / name).exists()]
    write_json(
        folder / RESULT,
        {
            "metrics": work.metrics,
            "costs": [cost.to_dict() for cost in work.costs],
            "val": work.val,
            "transferred": work.transferred,
            "set_images": work.set_images,
            "label_images": work.label_images,
            "chosen": work.chosen,
            "predictions": {name: sha256_file(folder / name) for name in predictions},
        },
    )
    (folder / FAILED).unlink(missing_ok=True)


def _passed(error: BaseException) -> TransfersetError:
    """What a cell that fails is told to have failed for; raises `error` where it ends the comparison."""
    known = known_error(error)
    if known is None or isinstance(known, DiskError | OpenFilesError | BusyError | InterruptedRun):
        raise error
    return known


class Runner:
    """Runs what is left of some cells."""

    def __init__(self, shared: Shared, cells: Sequence[Cell]) -> None:
        self.shared = shared
        self.cells = cells
        self.outcomes = {cell.name: outcome_of(shared.out, cell) for cell in cells}
        self._seconds: dict[str, list[float]] = {}

    def refuse_others(self) -> None:
        """UsageError for a cell that was made by another recipe, before anything is computed."""
        for cell in self.cells:
            folder = self.shared.out / "cells" / cell.name
            if folder.exists():
                try:
                    given = self.identity(cell)
                except _PASSING as error:
                    _passed(error)  # running the cell will tell
                    continue
                claim(folder, given)

    def identity(self, cell: Cell) -> dict[str, Any]:
        """What the cell depends on; raises what opening its transfer set does."""
        sha256 = set_sha256(self.shared, cell)
        drawn = self.shared.draw(cell.labels, cell.seed)
        return identity(cell, self.shared.recipe, drawn.sha256, sha256)

    def run(self) -> list[Outcome]:
        """Every cell, those that another process works on last."""
        left = [cell for cell in self.cells if self.outcomes[cell.name].status != DONE]
        busy: list[Cell] = []
        for number, cell in enumerate(left):
            say(f"cell {number + 1} of {len(left)}: {cell.name}{self.time_left(left[number:])}")
            try:
                self.outcomes[cell.name] = self.one(cell, wait=False)
            except BusyError:
                busy.append(cell)
        for cell in busy:
            say(f"{cell.name}: waiting for the process that works on it")
            self.outcomes[cell.name] = self.one(cell, wait=True)
        return [self.outcomes[cell.name] for cell in self.cells]

    def one(self, cell: Cell, *, wait: bool) -> Outcome:
        """One cell, under its lock."""
        folder = self.shared.out / "cells" / cell.name
        with DirectoryLock(folder, wait=wait):
            there = outcome_of(self.shared.out, cell)
            if there.status == DONE:
                return there
            start = time.monotonic()
            try:
                claim(folder, self.identity(cell))
                _write(folder, do(self.shared, cell, folder))
            except NotAvailable as error:
                return self._record(cell, folder, UNAVAILABLE, str(error))
            except _PASSING as error:
                known = _passed(error)
                reason = known.message + (f" ({known.hint})" if known.hint else "")
                return self._record(cell, folder, FAILED_STATUS, reason)
            self._seconds.setdefault(cell.method, []).append(time.monotonic() - start)
            return outcome_of(self.shared.out, cell)

    def _record(self, cell: Cell, folder: Path, status: str, reason: str) -> Outcome:
        say(f"{cell.name}: {status}: {reason}")
        write_json(folder / FAILED, {"status": status, "reason": reason})
        return Outcome(cell, folder, status, reason=reason)

    def time_left(self, cells: Sequence[Cell]) -> str:
        """What is left, by the cells of the same method that this process has finished."""
        known = [seconds for one in self._seconds.values() for seconds in one]
        if not known:
            return ""
        mean = sum(known) / len(known)
        left = sum(
            sum(self._seconds[cell.method]) / len(self._seconds[cell.method])
            if cell.method in self._seconds
            else mean
            for cell in cells
        )
        return f", about {left / 3600:.1f} hours left" if left > 5400 else f", about {left / 60:.0f} min left"
