"""An export on disk: its files, and whether they are as they were written."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill.loop.run_directory import CONFIG, RESTORE, read_config, read_object
from distill.models.student import MODEL
from transferset.errors import DataError, UsageError
from transferset.writes import sha256_file, sync, write_json

FORMAT_VERSION = 1
ONNX = "model.onnx"
INT8 = "model.int8.onnx"
CARD = "README.md"
MANIFEST = "manifest.json"
UNFINISHED = "run distill export again until it is done"


def locate(model: Path) -> tuple[Path, str]:
    """The directory of `--model` and the file in it that is meant: a directory means its safetensors file.

    Raises UsageError for a file that is not a model of an export.
    """
    if model.is_dir():
        return model, MODEL
    if model.name not in (MODEL, ONNX, INT8):
        if not model.exists():
            return model, MODEL  # told as a directory that is missing
        raise UsageError(
            f"--model {model} is not a model of an export",
            hint=f"give its directory, or {ONNX} or {INT8} in it",
        )
    return model.parent, model.name


def is_export(directory: Path) -> bool:
    """Whether `distill export` wrote (or began) the directory; DataError where it is not a run of distill at
    all."""
    return read_config(directory).get("command") == "export"


def publish(staging: Path, out: Path, names: Iterable[str], facts: dict[str, Any]) -> None:
    """Move complete files from `staging` to `out`, then write the manifest, which marks the export as done.

    The manifest holds `facts` and each file's size and SHA-256, also config.json's.
    """
    files = {}
    for name in names:
        sync(staging / name)
        (staging / name).replace(out / name)
        files[name] = file_facts(out / name)
    files[CONFIG] = file_facts(out / CONFIG)
    sync(out)
    write_json(out / MANIFEST, {"format_version": FORMAT_VERSION, "kind": "export", "files": files, **facts})


def file_facts(path: Path) -> dict[str, Any]:
    """Size and hash, as JSON."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def check_files(directory: Path, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The manifest of a finished export of which the files `names` (None: all) are as they were written.

    Raises DataError where it is not finished, or a file is missing or another.
    """
    if not (directory / MANIFEST).is_file():
        raise DataError(f"the export in {directory} is not finished", hint=UNFINISHED)
    manifest = read_object(directory / MANIFEST)
    files = manifest.get("files")
    if not isinstance(files, dict) or manifest.get("format_version") != FORMAT_VERSION:
        raise DataError(f"{directory / MANIFEST} is not that of an export of this version", hint=RESTORE)
    for name in files if names is None else names:
        path = directory / name
        if name not in files or not path.is_file():
            raise DataError(f"the export in {directory} has no {name}", hint="export the run again with it")
        if sha256_file(path) != files[name].get("sha256"):
            raise DataError(
                f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}", hint="copy or export it again"
            )
    return manifest
