import json

import pytest

from distill.cli import app
from distill.loop.execution import Execution
from distill.stages.students import SHORTLIST, StudentsOptions, students
from transferset.entry_point import run_cli
from transferset.errors import UsageError

ONE_THREAD = Execution(device="cpu", threads=1)
TINY = ("test_efficientnet", "test_vit", "test_resnet")


def _options(**values: object) -> StudentsOptions:
    return StudentsOptions(**{"image_size": 32, "match": TINY, "execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def test_models_are_counted_and_timed() -> None:
    report = students(_options(classes=3))
    assert {one.name for one in report.students} == set(TINY)
    latencies = [one.latency_ms for one in report.students]
    assert latencies == sorted(latencies) and latencies[0] > 0
    for one in report.students:
        assert one.image_size == 32 and one.flops > 0 and one.mb == pytest.approx(4e-6 * one.parameters)
    assert (report.too_large, report.too_slow, report.unusable) == (0, 0, {})


def test_what_is_over_the_limits_is_left_out_and_counted() -> None:
    smallest = min(one.mb for one in students(_options()).students)
    report = students(_options(max_mb=smallest * 1.01))
    assert len(report.students) == 1 and report.too_large == 2
    slow = students(_options(max_ms=1e-6, match=TINY[:1]))
    assert slow.students == [] and slow.too_slow == 1


def test_what_cannot_be_used_is_said() -> None:
    report = students(_options(image_size=40, match=("levit_128s",)))  # bound to its input size
    assert list(report.unusable) == ["levit_128s"] and report.students == []
    with pytest.raises(UsageError, match="no timm model"):
        students(_options(match=("no_such_*",)))
    with pytest.raises(UsageError, match="positive"):
        students(_options(max_ms=0.0))


def test_the_shortlist_is_known_to_timm() -> None:
    import timm

    assert len(set(SHORTLIST)) == len(SHORTLIST) > 20
    assert sum(name in timm.list_models() for name in SHORTLIST) >= len(SHORTLIST) - 2


@pytest.mark.parametrize("form", ["--json", ""])
def test_on_the_command_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["students", "--threads", "1", "--image-size", "32", "--match", "test_efficientnet"]
    with pytest.raises(SystemExit) as caught:
        run_cli(app, [*given, form] if form else given)
    assert not caught.value.code
    out = capsys.readouterr().out
    if form:
        assert json.loads(out)["students"][0]["name"] == "test_efficientnet"
    else:
        assert "test_efficientnet" in out and not out.startswith("{")
