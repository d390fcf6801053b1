"""What was chosen to be labelled, and how a stopped run remembers it."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.transfer_set.plan import PLAN
from transferset.errors import DataError
from transferset.writes import read_json, sweep_temporaries, write_json

KIND = "set of suggestions"
IMAGES = "images"
PLOTS = "plots"
_ARGUMENTS, _CHOSEN = "arguments.json", "suggestions.json"


@dataclass(frozen=True)
class Suggestion:
    """An item to label. `query` is the number of its nearest query, at cosine `similarity`; `stands_for`
    candidates have it as their nearest image; it raised the mean coverage by `gain`."""

    position: int
    query: int
    similarity: float
    stands_for: int
    gain: float


@dataclass(frozen=True)
class Suggested:
    """Suggestions, the most useful first, out of `candidates` images near the queries; their mean coverage
    before and after each (n + 1,), and with as many `random` ones."""

    suggestions: tuple[Suggestion, ...]
    candidates: int
    curve: tuple[float, ...]
    random: float


class StoredSuggestions:
    """The `.plan` of unfinished suggestions. Make it only while holding the folder's lock."""

    def __init__(self, out: Path) -> None:
        self.folder = out / PLAN
        for folder in (out, out / IMAGES, out / PLOTS, self.folder):
            if folder.is_dir():
                sweep_temporaries(folder)

    def begin(self, arguments: dict[str, Any], found: Suggested) -> None:
        """Note what is going to be written, before anything else is."""
        write_json(self.folder / _CHOSEN, asdict(found))
        write_json(self.folder / _ARGUMENTS, arguments)

    def load(self) -> Suggested | None:
        """What a stopped run had chosen; None if there is none."""
        if not (self.folder / _ARGUMENTS).exists():
            return None
        path = self.folder / _CHOSEN
        stored = read_json(path)
        try:
            chosen = tuple(Suggestion(**one) for one in stored["suggestions"])
            return Suggested(chosen, stored["candidates"], tuple(stored["curve"]), stored["random"])
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path} is damaged: {error}", hint=f"remove {self.folder} and run this again"
            ) from error

    def end(self) -> None:
        """Forget the plan; the manifest says everything now."""
        shutil.rmtree(self.folder, ignore_errors=True)
