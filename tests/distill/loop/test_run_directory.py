from pathlib import Path
from typing import Any

import pytest

from distill.loop.run_directory import RunDirectory, read_config
from transferset.errors import DataError, UsageError
from transferset.writes import write_json


def _config(**arguments: Any) -> dict[str, Any]:
    return {
        "command": "train",
        "arguments": {"lr": 0.1, "steps": 10, **arguments},
        "inputs": {"samples": 4},
        "resolved": {"threads": 2},
    }


def test_a_new_run_is_written_and_taken_up_as_it_was_resolved(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.resolved() is None
    run.open(_config())
    assert run.resolved() == {"threads": 2}
    again = run.open({**_config(), "resolved": {"threads": 8}})
    assert again["resolved"] == {"threads": 2} and run.report() is None
    assert read_config(tmp_path, "train")["arguments"]["steps"] == 10


def test_other_arguments_are_refused_with_the_difference(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.open(_config())
    with pytest.raises(UsageError) as error:
        run.open({**_config(lr=0.2, extra="x"), "inputs": {"samples": 5}})
    message = str(error.value)
    assert "lr: 0.1 there, 0.2 now" in message and "samples: 4 there, 5 now" in message
    assert "extra: none there, x now" in message and "steps" not in message
    with pytest.raises(UsageError, match="train there, finetune now"):
        run.open({**_config(), "command": "finetune"})


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holiday\.jpg"):
        RunDirectory(tmp_path).open(_config())
    with pytest.raises(DataError, match="is not a run"):
        read_config(tmp_path)


def test_a_resumed_run_writes_its_lines_once(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.open(_config())
    run.rewind(0)
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 0.5})
        run.log({"step": step, "loss": 0.25, "part": "fold-0"})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run.rewind(1)
    assert [(e["step"], e.get("part")) for e in run.metrics()] == [
        (1, None),
        (1, "fold-0"),
        (2, "fold-0"),
        (3, "fold-0"),
    ]
    run.rewind(2, "fold-0")
    assert len(run.metrics()) == 3


def test_a_report_marks_the_end(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.open(_config())
    write_json(tmp_path / "report.json", {"score": 1})
    assert run.report() == {"score": 1}


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", ""])
def test_damaged_files_are_data_errors(tmp_path: Path, text: str) -> None:
    run = RunDirectory(tmp_path)
    run.open(_config())
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError, match=r"report\.json is damaged"):
        run.report()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"config\.json is damaged"):
        run.open(_config())
    (tmp_path / "config.json").write_text(text)
    for use in (run.resolved, lambda: run.open(_config()), lambda: read_config(tmp_path)):
        with pytest.raises(DataError, match=r"config\.json is damaged"):
            use()
