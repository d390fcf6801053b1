"""What a model card tells of costs, teachers and licences, out of real runs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distill.export.card_costs import costs
from distill.export.card_licences import licences
from distill.export.lineage import Ancestor, lineage
from distill.loop.plan import Plan
from distill.stages.export import export
from distill.stages.export_options import ExportOptions
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import train_several
from tests.distill.small import ONE_THREAD, TINY
from transferset.copies import item_id
from transferset.tars import scan
from transferset.writes import write_parquet

LICENCES = ("CC0", "CC0", "CC BY 4.0", None, "CC0", None)


@pytest.fixture(scope="module")
def transfer_set(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[[int, int], np.ndarray],
) -> Path:
    """Twelve images with provenance, as `curate retrieve` writes it."""
    root = tmp_path_factory.mktemp("sets") / "set"
    images = [encode(noise(number % 3, 500 + number)) for number in range(12)]
    path = write_tar(root / "shards/000000.tar", {f"{item_id(data).hex()}.jpg": data for data in images})
    rows = [
        {
            "item_id": member.name[:32],
            "shard": path.name,
            "offset": member.offset,
            "size": member.size,
            "licence": LICENCES[number % 6],
            "source": "00001.tar" if number < 5 else f"loose/{number}.jpg",
        }
        for number, member in enumerate(scan(path).members)
    ]
    write_parquet(root / "samples.parquet", pa.Table.from_pylist(rows))
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, transfer_set: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("store") / "store"
    options = LabelOptions((transfer_set,), teacher, out, views=2, runtime="eager", execution=ONE_THREAD)
    label(options)
    return out


def _options(transfer_set: Path, out: Path, **values: Any) -> TrainOptions:
    options = TrainOptions((transfer_set,), None, TINY, out, image_size=32, runtime="eager")
    return replace(options, plan=Plan(steps=2, batch_size=8), execution=ONE_THREAD, **values)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, transfer_set: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("taught") / "run"
    train(_options(transfer_set, out, teacher=teacher))
    return out


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, transfer_set: Path, store: Path) -> Path:
    out = tmp_path_factory.mktemp("stored") / "run"
    train(_options(transfer_set, out, labels_from=store))
    return out


def _card(run: Path, tmp_path: Path) -> str:
    export(ExportOptions(run, tmp_path / "out", execution=ONE_THREAD))
    return (tmp_path / "out/README.md").read_text()


def _rows(card: str, command: str) -> dict[str, list[str]]:
    """Images, seconds and FLOPs by stage."""
    found = (
        line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith(f"| `{command}` |")
    )
    return {cells[1]: cells[2:] for cells in found}


def test_a_teacher_costs_what_its_adaptation_took(taught: Path, teacher: Path, tmp_path: Path) -> None:
    card = _card(taught, tmp_path)
    spent = json.loads((teacher / "report.json").read_text())["costs"]
    told = _rows(card, "distill adapt")
    assert told.keys() == spent.keys() and spent
    for stage, cells in told.items():
        assert int(cells[0].replace(",", "")) == spent[stage]["images"]
        assert float(cells[2]) == pytest.approx(spent[stage]["flops"], rel=0.1)
    assert float(_rows(card, "distill train")["teacher"][2]) > 0
    assert "paid for once" in card and str(teacher) not in card


def test_a_store_costs_what_labelling_took(stored: Path, teacher: Path, store: Path, tmp_path: Path) -> None:
    card = _card(stored, tmp_path)
    facts = json.loads((store / "store.json").read_text())
    assert facts["teacher_images"] == 24
    images, seconds, flops = _rows(card, "distill label")["teacher"]
    assert (images, seconds) == ("24", "not recorded")
    assert float(flops) == pytest.approx(facts["teacher_flops"], rel=0.1)
    spent = json.loads((teacher / "report.json").read_text())["costs"]
    assert _rows(card, "distill adapt").keys() == spent.keys()


def test_licences_and_sources_of_the_transfer_set_are_counted(
    taught: Path, transfer_set: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(taught, tmp_path / "run")  # the card needs no access to the set
    card = _card(run, tmp_path)
    assert "12 images: licence `CC0` 6, `CC BY 4.0` 2, unknown 4;" in card
    assert "source `loose/` 7, `00001.tar` 5, unknown 0;" in card
    assert "labelled images: runs do not record" in card


def test_of_tars_without_a_table_everything_is_unknown(
    transfer_set: Path, teacher: Path, tmp_path: Path
) -> None:
    tar = shutil.copy(transfer_set / "shards/000000.tar", tmp_path / "some.tar")
    train(_options(Path(tar), tmp_path / "run", teacher=teacher))
    assert "12 images: licence unknown 12; source unknown 12" in _card(tmp_path / "run", tmp_path)


def test_older_runs_record_less(stored: Path, tmp_path: Path) -> None:
    run = shutil.copytree(stored, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["transfer_set"]
    for name in ("spec", "adapt_costs", "label_costs"):
        del config["teacher"][name]
    (run / "config.json").write_text(json.dumps(config))
    card = _card(run, tmp_path)
    unknown = ["not recorded"] * 3
    assert _rows(card, "distill adapt") == {"all": unknown}
    assert _rows(card, "distill label") == {"teacher": unknown}
    assert "licences and sources not recorded by the run" in card
    assert f"the teacher's weights ({TINY} at 48 px" in card


def test_a_teacher_of_two_runs_is_paid_for_once(taught: Path) -> None:
    (run,) = lineage(taught)
    assert costs([run, run]).count("| `distill adapt` | features") == costs([run]).count(
        "| `distill adapt` | features"
    )
    assert costs([run, run]).count("| `distill train` | teacher |") == 2


def test_one_pass_for_two_students_says_where_the_teacher_stands(
    transfer_set: Path, teacher: Path, tmp_path: Path
) -> None:
    options = _options(transfer_set, tmp_path / "runs", teacher=teacher)
    train_several(options, (TINY, "timm:test_vit@none"))
    first, second = sorted(path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    for run, told in ((first, False), (second, True)):
        section = costs(lineage(run))
        assert ("one of 2 that one `distill train` taught" in section) == told
        assert ("| `distill train` | teacher |" in section) != told


def test_weights_are_named_and_their_folder_is_not() -> None:
    each = {"a": {"spec": "embedded"}, "b": {"spec": "open_clip:ViT-B-32/laion2b_s34b_b79k"}}
    config = {
        "command": "train",
        "inputs": {"teacher_sha256": ["1" * 64, "2" * 64]},
        "teacher": {"each": each},
        "student": {"spec": "timm:resnet18@/home/someone/weights.safetensors"},
        "transfer_set": {
            "images": 9,
            "licence": {"counts": {"a|b`<c>": 4}, "others": 2, "images_of_others": 3, "unknown": 2},
        },
    }
    section = licences([Ancestor(config, {})])
    assert (
        "started from (`timm:resnet18@weights.safetensors`), under the licence of their publisher" in section
    )
    assert "teacher's weights (`embedded`)" in section and "`open_clip:ViT-B-32/laion2b_s34b_b79k`" in section
    assert "licence `a/b‹c›` 4, others (2) 3, unknown 2" in section
    assert "| `distill adapt a` | all | not recorded |" in costs([Ancestor(config, {})])
