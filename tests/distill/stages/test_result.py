import json
from pathlib import Path

import pytest
import torch

from distill.loop.checkpoints import read_tensors
from distill.stages.result import StudentReport, finish, report_from_json
from transferset.errors import DataError

REPORT = StudentReport(
    out="run", steps=3, images_seen=24, chosen_step=2, score=0.5, scored_on="val", interval=(0.25, 0.75),
    skipped_steps=0, dropped=1, costs={"student": {"images": 24, "seconds": 0.1, "flops": 1e6}},
)  # fmt: skip


def test_a_finished_run_gives_its_report_back(tmp_path: Path) -> None:
    weights = {"layer": torch.arange(3.0)}
    assert finish(tmp_path, weights, REPORT) == REPORT
    assert report_from_json(json.loads((tmp_path / "report.json").read_text())) == REPORT
    assert torch.equal(read_tensors(tmp_path / "model.safetensors")["layer"], weights["layer"])


@pytest.mark.parametrize(
    "change", [{"interval": 0.5}, {"unknown": 1}, {"steps": ...}, {"interval": ...}], ids=str
)
def test_a_foreign_report_is_refused(change: dict[str, object]) -> None:
    values = {**vars(REPORT), **change}
    with pytest.raises(DataError, match="not that of a student"):
        report_from_json({name: value for name, value in values.items() if value is not ...})
