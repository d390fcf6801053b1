"""`distill export`: a finished student as files that others can use, compared with the run before they are
kept."""

import contextlib
import shutil
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distill.export.card import model_card
from distill.export.format import CARD, INT8, MANIFEST, ONNX, check_files, publish
from distill.export.int8 import quantise
from distill.export.lineage import lineage
from distill.export.onnx_graph import FLOAT_LAYOUT, OPSET, UINT8_LAYOUT, open_graph, write_onnx
from distill.export.onnx_resize import OPSET as RESIZE_OPSET
from distill.export.onnx_resize import WHOLE_LAYOUT, check_resizable, put_before
from distill.export.parity import REFERENCE
from distill.export.speed import machine, measure_speed, tell_if_busy
from distill.loop.checkpoints import read_tensors, write_tensors
from distill.loop.execution import torch_threads
from distill.loop.run_directory import CONFIG, REPORT, RunDirectory, read_object
from distill.models.flops import flops_per_image
from distill.models.student import LABELS, MODEL, PREPROCESSING, Student
from distill.stages.export_comparison import Comparison, Model
from distill.stages.export_images import ExportImages, open_images
from distill.stages.export_options import NONE, NORMALISE, RESIZE, ExportOptions, ExportReport, check
from distill.stages.result import report_from_json, write_student_facts
from distill.task import CLASSIFICATION, Task
from transferset import __version__
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import NumericError
from transferset.lock import DirectoryLock
from transferset.models.spec import parse_spec
from transferset.models.weights import weights_sha256
from transferset.writes import TEMPORARY_PREFIX, sha256_file, write_bytes, write_json

LAYOUTS = {NONE: FLOAT_LAYOUT, NORMALISE: UINT8_LAYOUT, RESIZE: WHOLE_LAYOUT}
_FILES = (MODEL, LABELS, PREPROCESSING, ONNX, INT8, CARD, REPORT)


def export(options: ExportOptions, task: Task = CLASSIFICATION) -> ExportReport:
    """Export the student of a finished run to `options.out`. Nothing is left there if it fails; on a finished
    export of the same run by the same arguments nothing is done.

    Raises UsageError for options that don't fit each other or what is there, and without the extra `export`
    where it is needed; DataError for a run that is not finished or unusable images; NumericError where an
    exported model does not answer as the run.
    """
    check(options)
    student = task.open_student(options.model)
    if options.preprocessing == RESIZE:
        check_resizable(student.preprocessing)
    images = None if options.data is None else open_images(options, options.data, student)
    config = _config(options, task, student, images)
    existed = options.out.exists()
    try:
        with DirectoryLock(options.out), torch_threads(options.execution.threads or available_cores()):
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


def _config(
    options: ExportOptions, task: Task, student: Student, images: ExportImages | None
) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what an export that is there must agree with."""
    names = ("onnx", "int8", "max_drop", "calibration_images", "seed", "preprocessing")
    return {
        "command": "export",
        "arguments": {
            **{name: getattr(options, name) for name in (*names, "max_pixels")},
            "tolerance": options.allowed,
            "split": images.split if images else None,
        },
        "inputs": {
            "report_sha256": sha256_file(options.model / REPORT),
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

    def __init__(
        self, options: ExportOptions, task: Task, student: Student, images: ExportImages | None
    ) -> None:
        self.options = options
        self.task = task
        self.student = student
        self.threads = options.execution.threads or available_cores()
        self.staging = options.out / f"{TEMPORARY_PREFIX}export"
        self.calibrated = 0
        self.runs = lineage(options.model)
        self.stored = report_from_json(self.runs[-1].report)
        self.comparison = None
        if images is not None:
            self.comparison = Comparison(options, task, student, images, self.stored.metric)

    def run(self) -> ExportReport:
        """Do it; the manifest comes last."""
        options, student, stored = self.options, self.student, self.stored
        self.staging.mkdir()
        busy = tell_if_busy()
        models = self.write_models()
        parities, compared = {}, None
        if self.comparison is not None:
            parities = self.comparison.parities(models)
            own, split = parities[REFERENCE], self.comparison.images.split
            compared = {"split": split, "images": own["images"], "score": own["score"]}
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
            machine={**machine(self.threads), **({"note": busy} if busy else {})},
            versions=_versions(ONNX in models or INT8 in models),
            metric=stored.metric,
        )
        stored_report = {name: value for name, value in asdict(report).items() if name != "out"}
        layout = LAYOUTS[options.preprocessing]
        card = model_card(stored_report, student.classes, self.runs, layout if len(models) > 1 else "")
        write_bytes(self.staging / CARD, card.encode())
        write_json(self.staging / REPORT, stored_report)
        names = [name for name in _FILES if (self.staging / name).exists()]
        publish(self.staging, options.out, names, {"transferset_version": __version__})
        self.staging.rmdir()
        return report

    def write_models(self) -> dict[str, Model]:
        """All models, in the staging folder, as functions from images to logits: rendered ones, but decoded
        ones for graphs that resize."""
        options, student, staging = self.options, self.student, self.staging
        write_student_facts(staging, student)
        write_tensors(staging / MODEL, student.module.state_dict())
        _check_tensors(staging / MODEL, student)
        models: dict[str, Model] = {MODEL: lambda batch: student.logits(batch, options.batch_size)}
        if options.onnx or options.int8:
            say(f"writing {ONNX}")
            opset = RESIZE_OPSET if options.preprocessing == RESIZE else OPSET
            write_onnx(student, staging / ONNX, options.preprocessing != NONE, opset)
        if options.int8:
            assert self.comparison is not None
            images = self.comparison.calibration_images()
            say(f"writing {INT8}, calibrated on {len(images)} images")
            self.calibrated = quantise(
                staging / ONNX, staging / INT8, images, student.preprocessing, options.preprocessing != NONE
            )
        for name in (ONNX, INT8):
            if (staging / name).exists():
                if options.preprocessing == RESIZE:
                    put_before(staging / name, student.preprocessing)
                models[name] = open_graph(staging / name, student.preprocessing, self.threads).logits
        return models

    def facts(self, name: str, logits: Model, parities: dict[str, Any]) -> dict[str, Any]:
        """What the report says of one model."""
        preprocessing = self.student.preprocessing
        if name != MODEL and self.options.preprocessing == RESIZE:
            speed = measure_speed(logits, 2 * preprocessing.resize_short_side, 1)
        else:
            speed = measure_speed(logits, preprocessing.size, self.options.batch_size)
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
