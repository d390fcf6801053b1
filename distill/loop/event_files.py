"""TensorBoard's event files beside metrics.jsonl: the same numbers, for its graphs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferset.writes import remove

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_NOT_SCALARS = ("step", "time", "part", "parts", "images_at_once")


class EventFiles:
    """Event files of a run in one directory, those of a part (a fold) in a folder of its own below it.

    They can always be written again from metrics.jsonl, and are when a run is resumed: no step stands in them
    twice, and nothing is missed where they were deleted.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writers: dict[str, SummaryWriter] = {}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write the numbers of one line of metrics.jsonl."""
        self._write(entry)
        writer = self._writers.get(str(entry.get("part") or ""))
        if writer is not None:
            writer.flush()

    def rewrite(self, entries: Iterable[Mapping[str, Any]], part: str | None) -> None:
        """Replace the event files of a part by those of `entries`, which are its lines of metrics.jsonl."""
        writer = self._writers.pop(part or "", None)
        if writer is not None:
            writer.close()
        for old in (self.directory / (part or "")).glob("events.out.tfevents.*"):
            remove(old)
        for entry in entries:
            self._write(entry)
        if (part or "") in self._writers:
            self._writers[part or ""].flush()

    def close(self) -> None:
        """The run is over."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, entry: Mapping[str, Any]) -> None:
        """An event, such as a skipped step, counts as one at its step."""
        numbers = {
            name: float(value)
            for name, value in entry.items()
            if name not in _NOT_SCALARS and isinstance(value, int | float)
        }
        if "event" in entry:
            numbers[f"events/{entry['event']}"] = 1.0
        for name, value in numbers.items():
            self._writer(entry).add_scalar(name, value, int(entry["step"]), walltime=entry.get("time"))

    def _writer(self, entry: Mapping[str, Any]) -> "SummaryWriter":
        part = str(entry.get("part") or "")
        if part not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[part] = SummaryWriter(str(self.directory / part))
        return self._writers[part]
