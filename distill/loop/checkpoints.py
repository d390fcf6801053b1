"""Checkpoints: safetensors with a JSON file that proves them, written so that a kill at any instant harms
none."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferset.console import say
from transferset.errors import DataError
from transferset.writes import read_json, sha256_file, sweep_temporaries, write_bytes, write_json

if TYPE_CHECKING:
    from torch import Tensor

KEEP = 2
REMOVE = "remove the run's directory and run again"


class Checkpoints:
    """`step-00001234.safetensors` and, written after it, `step-00001234.json` (state and the tensors'
    SHA-256) in one directory; `best-00001234.…`, likewise, is the model of the step with the best score.

    A checkpoint counts only if its JSON is there and the hash is right. The newest two are kept, and the best
    models that they name: a run that goes back to a checkpoint finds the one that was the best then.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(
        self, step: int, tensors: Mapping[str, "Tensor"], state: Mapping[str, Any], best: int | None = None
    ) -> None:
        """Write the checkpoint of `step`, then remove all but the newest ones; `best`: the step of the best
        model so far, if there is one."""
        self._write(f"step-{step:08d}", tensors, {"step": step, "best": best, "state": dict(state)})
        kept = self._newest_first()[:KEEP]
        for old in self._newest_first()[KEEP:]:
            old.unlink()
        for old in self.directory.glob("step-*.safetensors"):
            if old.with_suffix(".json") not in kept:
                old.unlink()
        with contextlib.suppress(DataError, AttributeError):  # one that is damaged may name any
            named = {read_json(path).get("best") for path in kept}
            for old in self.directory.glob("best-*"):
                if int(old.stem.removeprefix("best-")) not in named:
                    old.unlink()

    def _write(self, name: str, tensors: Mapping[str, "Tensor"], facts: Mapping[str, Any]) -> None:
        path = self.directory / f"{name}.safetensors"
        write_tensors(path, tensors)
        write_json(path.with_suffix(".json"), {**facts, "sha256": sha256_file(path)})

    def newest(self, at_most: int | None = None) -> tuple[dict[str, "Tensor"], dict[str, Any]] | None:
        """Tensors and state of the newest valid checkpoint (of step `at_most` or earlier); damaged ones are
        told and passed over. None: there is none.

        Also removes what a killed writer left behind: call it only while holding the run's lock.
        """
        from safetensors.torch import load_file

        if self.directory.is_dir():
            sweep_temporaries(self.directory)
        for path in self._newest_first():
            tensors = path.with_suffix(".safetensors")
            try:
                found = read_json(path)
                if at_most is not None and found["step"] > at_most:
                    continue
                if tensors.is_file() and sha256_file(tensors) == found["sha256"]:
                    return load_file(tensors), found["state"]
            except (DataError, KeyError, TypeError):
                pass
            say(f"warning: {tensors} is damaged or incomplete, and passed over")
        return None

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: a run that goes back would keep them in place of its own."""
        for path in self._newest_first():
            if int(path.stem.removeprefix("step-")) > step:
                path.unlink()

    def _newest_first(self) -> list[Path]:
        return sorted(self.directory.glob("step-*.json"), reverse=True)

    def save_best(self, step: int, tensors: Mapping[str, "Tensor"]) -> None:
        """Write the model of `step`, which has the best score so far; a checkpoint is to name it."""
        self._write(f"best-{step:08d}", tensors, {"step": step})

    def best(self, step: int) -> dict[str, "Tensor"]:
        """The model of `step`, which had the best score; DataError where it is missing or damaged."""
        path = self.directory / f"best-{step:08d}.safetensors"
        tensors = read_tensors(path)
        if sha256_file(path) != read_json(path.with_suffix(".json")).get("sha256"):
            raise DataError(f"{path} is damaged", hint=REMOVE)
        return tensors


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """Tensors of a safetensors file; DataError where it is missing or damaged."""
    import safetensors
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=REMOVE) from error
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Write tensors as safetensors, atomically; equal tensors give equal bytes."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain))
