import time

import numpy as np
import pytest

from distill.export.speed import machine, measure_speed, run_seconds, tell_if_busy


def test_speed_is_that_of_the_fastest_run() -> None:
    def logits(images: np.ndarray) -> np.ndarray:
        time.sleep(0.002 * len(images))
        return np.zeros((len(images), 2), np.float32)

    speed = measure_speed(logits, 8, 5)
    assert 2 <= speed.latency_ms <= speed.median_latency_ms
    assert speed.images_per_second <= 500 and speed.batch_size == 5


def test_what_is_slow_runs_a_few_times_only() -> None:
    assert len(run_seconds(lambda: time.sleep(0.01), seconds=0.001)) == 5


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    assert tell_if_busy() is None
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0))
    told = tell_if_busy()
    assert told is not None and "busy (load 1000.0" in told and told in capsys.readouterr().err


def test_the_machine_is_named() -> None:
    found = machine(3)
    assert found["threads"] == 3 and found["processor"]
