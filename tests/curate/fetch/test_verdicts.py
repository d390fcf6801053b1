"""What is kept of what came."""

import pytest

from curate.fetch import reasons
from curate.fetch.agreement import Threshold
from curate.fetch.checks import Check, recorded_hash
from curate.fetch.verdicts import judge, known_threshold
from curate.selection.removed import QUERY
from curate.selection.thresholds import Thresholds

KNOWN = Threshold(0.9, "given")


def check(place: int, identity: str, **more) -> Check:
    return Check(place, identity, format="jpeg", width=4, height=3, **more)


def verdict(one: Check, threshold: Threshold = KNOWN) -> str | None:
    found = judge({one.place: one}, ["x"] * 9, {"q": "a/q.png"}, threshold)
    return found.refused[0].reason if found.refused else None


def test_one_image() -> None:
    assert verdict(check(0, "a", recorded="md5", hash_holds=True)) is None
    assert verdict(check(0, "a", recorded="md5", hash_holds=False)) == reasons.CHANGED
    assert verdict(check(0, "a", agreement=0.9)) is None
    assert verdict(check(0, "a", agreement=0.8999)) == reasons.CHANGED
    assert verdict(check(0, "a", agreement=-1.0), Threshold(None, "nobody knows")) is None
    assert verdict(Check(0, "a", problem="empty")) == reasons.NOT_AN_IMAGE
    assert verdict(check(0, "q", agreement=0.1)) == QUERY, "the worst that can be said of it"


def test_the_first_of_equal_bytes_stays_if_it_is_good_itself() -> None:
    checks = {
        2: check(2, "a", agreement=0.1),
        5: check(5, "a", agreement=0.95),
        7: check(7, "a", agreement=0.99),
        8: check(8, "b", agreement=0.99),
    }
    found = judge(checks, [f"item {place}" for place in range(9)], {}, KNOWN)
    assert found.kept == [5, 8]
    assert [(one.place, one.reason) for one in found.refused] == [
        (2, reasons.CHANGED),
        (7, reasons.DUPLICATE),
    ]
    assert "item 5" in found.refused[1].detail


def test_the_threshold_is_given_or_calibrated_and_never_guessed() -> None:
    manifest = {"thresholds": Thresholds(0.93, 0.99, 0.5, 0.9).to_dict()}
    assert known_threshold(manifest, None) == Threshold(0.93, "calibrated for the index's encoder")
    assert known_threshold(manifest, 0.5) == Threshold(0.5, "--min-agreement")
    for nothing in ({}, {"thresholds": None}, {"thresholds": {"duplicate": "high"}}, {"thresholds": []}):
        assert known_threshold(nothing, None) is None


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (None, None),
        ('{"md5": "' + "AB" * 16 + '"}', ("md5", "ab" * 16)),
        ('{"MD5": "' + "ab" * 16 + '", "SHA256": "' + "0f" * 32 + '"}', ("sha256", "0f" * 32)),
        ('{"sha256": "short", "md5": 5}', None),
        ('{"hash": "' + "ab" * 16 + '"}', None),
    ],
)
def test_recorded_hashes(extra: str | None, expected: tuple[str, str] | None) -> None:
    assert recorded_hash(extra) == expected
