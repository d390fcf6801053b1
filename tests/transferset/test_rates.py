"""Rates of stages alone and together."""

import time

import pytest

from transferset.rates import Rate, bottleneck, joint, joint_with_device, measure


def test_a_stage_is_timed_after_a_warm_up() -> None:
    calls = []

    def run() -> int:
        calls.append(time.sleep(0.02))
        return 4

    rate = measure("sleep", run)
    assert len(calls) == 2
    assert 20 < rate.per_second <= 200
    assert rate.core_ms < 5, "sleeping takes no core"
    measure("sleep", run, seconds=0.1)
    assert len(calls) >= 2 + 5


def test_times_of_stages_on_the_same_cores_add_up() -> None:
    read, encode = Rate("read", 300.0, 1.0), Rate("encode", 100.0, 1.0)
    assert joint([read, encode]) == pytest.approx(75)
    assert bottleneck([read, encode]) == (encode, pytest.approx(0.75))


def test_with_a_device_the_slower_side_counts() -> None:
    read, decode = Rate("read", 300.0, 1.0), Rate("decode", 100.0, 1.0)
    slow, fast = Rate("encode", 50.0, 1.0), Rate("encode", 900.0, 1.0)
    assert joint_with_device([read, decode], slow) == 50
    assert joint_with_device([read, decode], fast) == pytest.approx(75)
    assert bottleneck([read, slow, decode], on_device=slow) == (slow, 1.0)
    assert bottleneck([read, fast, decode], on_device=fast) == (decode, pytest.approx(0.75))
