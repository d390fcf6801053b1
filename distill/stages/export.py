"""`distill export`: a finished student as files that others can use, compared with the run before they are
kept."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.rendered import Rendering
from distill.data.samples import samples_of_files
from distill.export.card import model_card
from distill.export.format import CARD, INT8, MANIFEST, ONNX, check_files, publish
from distill.export.int8 import quantise
from distill.export.lineage import lineage
from distill.export.onnx_graph import FLOAT_LAYOUT, UINT8_LAYOUT, open_graph, write_onnx
from distill.export.parity import REFERENCE, Answers, ask_all, check_drop, check_same, compare
from distill.export.speed import machine, measure_speed, tell_if_busy
from distill.loop.checkpoints import read_tensors, write_tensors
from distill.loop.execution import cores, torch_threads
from distill.loop.ledger import flops_per_image
from distill.loop.run_directory import CONFIG, REPORT, RunDirectory, read_object
from distill.models.student import LABELS, MODEL, PREPROCESSING, Student
from distill.stages.export_options import ALL, ExportOptions, ExportReport, check
from distill.stages.result import report_from_json, write_student_facts
from distill.task import CLASSIFICATION, SCORE_NAMES, Task
from transferset import __version__
from transferset.console import say
from transferset.errors import DataError, NumericError, UsageError
from transferset.labelled import LabelledImage, LabelledSet, load_labelled
from transferset.lock import DirectoryLock
from transferset.models.spec import parse_spec
from transferset.models.weights import weights_sha256
from transferset.writes import TEMPORARY_PREFIX, write_bytes, write_json

_FILES = (MODEL, LABELS, PREPROCESSING, ONNX, INT8, CARD, REPORT)


@dataclass(frozen=True)
class _Images:
    """Of `data`: those that are compared on (`split`), and those that calibrate."""

    split: str
    compared: tuple[LabelledImage, ...]
    calibrating: tuple[LabelledImage, ...]
    fingerprint: str


def export(options: ExportOptions, task: Task = CLASSIFICATION) -> ExportReport:
    """Export the student of a finished run to `options.out`. Nothing is left there if it fails; on a finished
    export of the same run by the same arguments nothing is done.

    Raises UsageError for options that don't fit each other or what is there, and without the extra `export`
    where it is needed; DataError for a run that is not finished or unusable images; NumericError where an
    exported model does not answer as the run.
    """
    check(options)
    student = task.open_student(options.model)
    images = None if options.data is None else _images(options, options.data, student)
    config = _config(options, task, student, images)
    existed = options.out.exists()
    try:
        with DirectoryLock(options.out), torch_threads(options.execution.threads or cores()):
            RunDirectory(options.out).open(config)
            if (options.out / MANIFEST).exists():
                check_files(options.out)
                say(f"{options.out} is complete: nothing to do")
                return ExportReport(out=str(options.out), **read_object(options.out / REPORT))
            try:
                return _Exporting(options, task, student, images).run()
            except BaseException:
                _withdraw(options.out)
                raise
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # not empty: it was exported
                options.out.rmdir()


def _images(options: ExportOptions, data: Path, student: Student) -> _Images:
    labelled = load_labelled(data)
    unknown = sorted(set(labelled.classes) - set(student.classes))
    if unknown:
        raise DataError(
            f"{data} has classes that the model does not know: {', '.join(unknown[:8])}",
            hint=f"the model knows {', '.join(student.classes[:8])}",
        )
    if options.int8 and not labelled.classes:
        raise UsageError(
            f"--int8: {data} has no labels to measure the accuracy with",
            hint="sort the images into one folder for each class",
        )
    split = options.split or next((name for name in ("test", "val") if labelled.split(name).images), ALL)
    compared = labelled.images if split == ALL else labelled.split(split).images
    if not compared:
        raise DataError(f"{data} has no {split} split", hint="leave out --split to take what is there")
    calibrating = labelled.split("train").images or labelled.images
    order = np.random.default_rng(options.seed).permutation(len(calibrating))
    chosen = tuple(calibrating[row] for row in order[: options.calibration_images])
    return _Images(split, compared, chosen, _fingerprint(labelled))


def _fingerprint(labelled: LabelledSet) -> str:
    files = samples_of_files([image.path for image in labelled.images]).fingerprint
    labels = [[image.label, image.split] for image in labelled.images]
    return hashlib.sha256(json.dumps([files, labels]).encode()).hexdigest()


def _config(options: ExportOptions, task: Task, student: Student, images: _Images | None) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what an export that is there must agree with."""
    names = ("onnx", "int8", "with_preprocessing", "tolerance", "max_drop", "calibration_images", "seed")
    return {
        "command": "export",
        "arguments": {
            **{name: getattr(options, name) for name in (*names, "max_pixels")},
            "split": images.split if images else None,
        },
        "inputs": {
            "weights_sha256": weights_sha256(student.module),
            "classes": list(student.classes),
            "preprocessing": student.preprocessing.to_dict(),
            "images_sha256": images.fingerprint if images else None,
        },
        "student": {"spec": str(parse_spec(student.spec).public)},
        "task": task.name,
    }


def _withdraw(out: Path) -> None:
    """Remove what a failed export has written."""
    for staging in out.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(staging, ignore_errors=True)
    for name in (MANIFEST, *_FILES, CONFIG):
        (out / name).unlink(missing_ok=True)


class _Exporting:
    """One export: files in a staging folder, checks, then the move."""

    def __init__(self, options: ExportOptions, task: Task, student: Student, images: _Images | None) -> None:
        self.options = options
        self.task = task
        self.student = student
        self.images = images
        self.threads = options.execution.threads or cores()
        self.staging = options.out / f"{TEMPORARY_PREFIX}export"
        workers, max_pixels = options.execution.readers, options.max_pixels
        self.rendering = Rendering(student.preprocessing, options.batch_size, workers, max_pixels)
        self.calibrated = 0
        self.runs = lineage(options.model)
        self.stored = report_from_json(self.runs[-1].report)
        self.score = task.scores[self.stored.metric]

    def run(self) -> ExportReport:
        """Do it; the manifest comes last."""
        options, student, stored = self.options, self.student, self.stored
        self.staging.mkdir()
        tell_if_busy()
        models = self.write_models()
        parities = self.parities(models)
        compared = None
        if self.images is not None:
            own = parities[REFERENCE]
            compared = {"split": self.images.split, "images": own["images"], "score": own["score"]}
        report = ExportReport(
            out=str(options.out),
            task=self.task.name,
            spec=str(parse_spec(student.spec).public),
            parameters=sum(parameter.numel() for parameter in student.module.parameters()),
            image_size=student.preprocessing.size,
            flops_per_image=flops_per_image(student.module, student.preprocessing.size, backward=False),
            score=stored.score,
            interval=stored.interval,
            scored_on=stored.scored_on,
            compared_on=compared,
            calibration_images=self.calibrated,
            files={name: self.facts(name, logits, parities) for name, logits in models.items()},
            machine=machine(self.threads),
            versions=_versions(ONNX in models or INT8 in models),
            metric=stored.metric,
        )
        stored_report = {name: value for name, value in asdict(report).items() if name != "out"}
        layout = UINT8_LAYOUT if options.with_preprocessing else FLOAT_LAYOUT
        card = model_card(stored_report, student.classes, self.runs, layout if len(models) > 1 else "")
        write_bytes(self.staging / CARD, card.encode())
        write_json(self.staging / REPORT, stored_report)
        names = [name for name in _FILES if (self.staging / name).exists()]
        publish(self.staging, options.out, names, {"transferset_version": __version__})
        self.staging.rmdir()
        return report

    def write_models(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        """All models, in the staging folder, as functions from rendered images to logits."""
        options, student, staging = self.options, self.student, self.staging
        write_student_facts(staging, student)
        write_tensors(staging / MODEL, student.module.state_dict())
        _check_tensors(staging / MODEL, student)
        models: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            MODEL: lambda batch: student.logits(batch, options.batch_size)
        }
        if options.onnx or options.int8:
            say(f"writing {ONNX}")
            write_onnx(student, staging / ONNX, options.with_preprocessing)
            models[ONNX] = open_graph(staging / ONNX, student.preprocessing, self.threads)
        if options.int8:
            images = self.calibration_images()
            say(f"writing {INT8}, calibrated on {len(images)} images")
            self.calibrated = quantise(
                staging / ONNX, staging / INT8, images, student.preprocessing, options.with_preprocessing
            )
            models[INT8] = open_graph(staging / INT8, student.preprocessing, self.threads)
        return models

    def calibration_images(self) -> np.ndarray:
        """Rendered images, (n, size, size, 3) uint8."""
        assert self.images is not None
        paths = [image.path for image in self.images.calibrating]
        return ask_all({REFERENCE: lambda batch: batch}, paths, self.rendering, "read").logits[REFERENCE]

    def parities(self, models: dict[str, Callable[[np.ndarray], np.ndarray]]) -> dict[str, Any]:
        """Every graph compared with the run; NumericError where one differs too much."""
        found: dict[str, Any] = {}
        if self.images is None:
            return found
        paths = [image.path for image in self.images.compared]
        given = {REFERENCE if name == MODEL else name: logits for name, logits in models.items()}
        answers = ask_all(given, paths, self.rendering, "compare")
        labels = self.labels(answers)
        for name in given:
            allowed = 0.0 if name == INT8 else self.options.tolerance
            parity = compare(answers, name, labels, self.score, allowed)
            if name == INT8:
                check_drop(parity, name, self.options.max_drop, SCORE_NAMES[self.stored.metric])
            else:
                check_same(parity, name, self.options.tolerance)
            found[name] = {**asdict(parity), "drop": parity.drop}
        return found

    def labels(self, answers: Answers) -> np.ndarray | None:
        """Class numbers of the images that were answered; None where they have no labels."""
        assert self.images is not None
        numbers = {name: number for number, name in enumerate(self.student.classes)}
        labels = [self.images.compared[place].label for place in answers.places]
        if None in labels:
            return None
        return np.array([numbers[str(label)] for label in labels], dtype=np.int64)

    def facts(
        self, name: str, logits: Callable[[np.ndarray], np.ndarray], parities: dict[str, Any]
    ) -> dict[str, Any]:
        """What the report says of one model."""
        speed = measure_speed(logits, self.student.preprocessing.size, self.options.batch_size)
        return {
            "bytes": (self.staging / name).stat().st_size,
            "speed": asdict(speed),
            "parity": parities.get(REFERENCE if name == MODEL else name),
        }


def _check_tensors(path: Path, student: Student) -> None:
    """The file holds the run's tensors, bit for bit: its answers need no other check."""
    import torch

    written = read_tensors(path)
    state = student.module.state_dict()
    if written.keys() != state.keys() or not all(torch.equal(written[name], state[name]) for name in state):
        raise NumericError(f"{path.name} does not hold the tensors of the run", hint="nothing was exported")


def _versions(graphs: bool) -> dict[str, str]:
    names = ["torch", "timm", *(["onnx", "onnxruntime"] if graphs else [])]
    found = {"transferset": __version__}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
