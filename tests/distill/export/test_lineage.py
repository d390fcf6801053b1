"""What an export finds of the runs before its own, by their files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill.export.lineage import lineage
from distill.loop.checkpoints import read_tensors, write_tensors
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.models.student import MODEL
from distill.stages.export import export
from distill.stages.export_options import ExportOptions
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.train import TrainOptions, train
from tests.distill.small import ONE_THREAD, TINY

SHORT = Plan(steps=2, batch_size=8)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    noise_tar: Callable[..., Path],
    teacher: Path,
    labelled: Path,
) -> Path:
    """Features matched without labels in `features`, finetuned from there in `final`."""
    root = tmp_path_factory.mktemp("runs")
    options = TrainOptions((noise_tar(12),), teacher, TINY, root / "features", method="task-agnostic")
    options = replace(options, image_size=32, views=1, runtime="eager", plan=SHORT, execution=ONE_THREAD)
    train(options)
    finetune(_finetuning(labelled, root))
    return root


def _finetuning(labelled: Path, root: Path) -> FinetuneOptions:
    """The classifier that it starts with is drawn from another seed than the run's own was."""
    options = FinetuneOptions(labelled, root / "final", from_run=root / "features", seed=1)
    return replace(options, plan=SHORT, execution=ONE_THREAD)


@pytest.fixture
def own(runs: Path, tmp_path: Path) -> Path:
    """The same runs elsewhere, to be changed."""
    return shutil.copytree(runs, tmp_path / "runs")


def test_a_start_without_classifier_stands_on_the_card(runs: Path, teacher: Path, tmp_path: Path) -> None:
    export(ExportOptions(runs / "final", tmp_path / "out", execution=ONE_THREAD))
    card = (tmp_path / "out/README.md").read_text()
    fingerprint = json.loads((teacher / "report.json").read_text())["fingerprint"]
    assert "| | `distill train` | `distill finetune` |" in card
    assert f"| student started from | `{TINY}` | the run before |" in card
    assert f"(fingerprint {fingerprint[:12]}…) | none |" in card


def test_runs_that_were_moved_are_found_from_everywhere(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [run.command for run in lineage(Path("runs/final"))] == ["train", "finetune"]
    shutil.rmtree("runs/features")
    assert [run.command for run in lineage(Path("runs/final"))] == ["finetune"]


def test_older_runs_are_known_by_what_training_began_with(own: Path) -> None:
    config = json.loads((own / "final/config.json").read_text())
    assert config["student"].pop("from_sha256") != config["inputs"]["start_sha256"]
    (own / "final/config.json").write_text(json.dumps(config))
    assert [run.command for run in lineage(own / "final")] == ["train", "finetune"]


@pytest.mark.parametrize("older", [False, True])
def test_a_start_that_was_trained_again_is_not_taken_for_it(own: Path, older: bool, tmp_path: Path) -> None:
    weights = read_tensors(own / "features" / MODEL)
    first = next(iter(weights))
    write_tensors(own / "features" / MODEL, {**weights, first: weights[first] + torch.ones(())})
    if older:
        config = json.loads((own / "final/config.json").read_text())
        del config["student"]["from_sha256"]
        (own / "final/config.json").write_text(json.dumps(config))
    assert [run.command for run in lineage(own / "final")] == ["finetune"]
    export(ExportOptions(own / "final", tmp_path / "out", execution=ONE_THREAD))
    card = (tmp_path / "out/README.md").read_text()
    assert "| student started from | a run that is missing or has changed since |" in card


def test_a_run_that_began_before_the_hash_was_recorded_is_taken_up(own: Path, labelled: Path) -> None:
    config = json.loads((own / "final/config.json").read_text())
    del config["student"]["from_sha256"]
    (own / "final/config.json").write_text(json.dumps(config))
    before = (own / "final" / MODEL).read_bytes()
    (own / "final/report.json").unlink()
    finetune(_finetuning(labelled, own))
    assert RunDirectory(own / "final").report() is not None
    assert (own / "final" / MODEL).read_bytes() == before
